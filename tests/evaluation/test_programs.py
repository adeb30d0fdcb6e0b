"""Programs that models write: what is run, how they are counted, and that none gets out of bounds."""

import time

import pytest

from wenloom.core.errors import InputError
from wenloom.evaluation.programs import Problem, cut_to_program, final_number, is_right, pass_at_k
from wenloom.evaluation.sandbox import Limits, run_program


def test_a_right_program_passes_and_a_wrong_one_fails():
    assert run_program("assert 1 + 1 == 2").passed
    found = run_program("assert 1 + 1 == 3, 'wrong sum'")
    assert not found.passed and "wrong sum" in found.reason
    assert "SyntaxError" in run_program("def f(:").reason


HOSTILE = {
    "endless": "while True: pass",
    "sleeping": "import time\ntime.sleep(60)",
    "forks": "import os\nwhile True: os.fork()",
    "subprocess": "import subprocess\nsubprocess.run(['sleep', '60'])",
    "fills memory": "x = []\nwhile True: x.append(bytearray(10**7))",
    "fills the disk": "with open('big', 'wb') as f:\n    while True: f.write(bytes(10**6))",
    "many files": "for i in range(10**6): open(f'f{i}', 'w').close()",
    "fills the output": "while True: print('x' * 10**6)",
    "writes elsewhere": "open('/tmp/wenloom-escaped', 'w').write('x')",
    "removes elsewhere": "import os\nos.remove('/tmp/wenloom-escaped')",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
    "ends at once": "import os\nos._exit(3)",
    "claims success": "import os\nos._exit(0)",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "recursion": "def f(): return f()\nf()",
    "lone surrogate": "x = '\ud800'\nassert False",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_fails_within_bounds(name: str):
    started = time.monotonic()
    found = run_program(HOSTILE[name], Limits(seconds=2, memory=256 * 2**20))
    assert not found.passed
    assert time.monotonic() - started < 20
    assert len(found.reason) <= 300


def test_what_a_model_wrote_ends_where_the_next_thing_begins():
    assert cut_to_program("    return 1\n\n\ndef g():\n    pass") == "    return 1\n\n"
    assert cut_to_program("    return 1\nprint(f())") == "    return 1"
    assert cut_to_program("Sure:\n```python\ndef f():\n    return 2\n```\nThat is it.") == "def f():\n    return 2"
    assert (
        cut_to_program("import math\n\ndef f():\n    return 2\n\nassert f()")
        == "import math\n\ndef f():\n    return 2\n"
    )


def test_whole_programs_with_their_tests():
    problem = Problem("1", "def f(x):\n", before="def f(x):\n", after="assert f(2) == 4")
    assert run_program(problem.program("    return x * 2\n\ndef other(): pass")).passed
    assert not run_program(problem.program("    return x\n")).passed


def test_numbers():
    assert final_number("#### -5") == -5 and final_number("1. First 2") == 2
    assert is_right(Problem("1", "", answer="1,000"), "It is $1000.00 in all")
    assert not is_right(Problem("1", "", answer="3"), "none")


def test_pass_at_k_is_the_share_of_draws_with_a_right_one():
    from itertools import combinations

    for n, correct, k in ((6, 2, 3), (5, 1, 1), (7, 0, 2), (4, 4, 4)):
        draws = list(combinations(range(n), k))
        assert pass_at_k(n, correct, k) == pytest.approx(sum(any(i < correct for i in d) for d in draws) / len(draws))
    with pytest.raises(InputError, match="at least 5"):
        pass_at_k(4, 1, 5)

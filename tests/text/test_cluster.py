"""A recipe on a cluster: the same bytes as on this machine, by our own tasks and datatrove's executors and MinHash stages.

Slurm is stood in for by scripts that run what they are given and say what Slurm 22.05 says; on a machine with `sbatch` and a partition that
WENLOOM_SLURM names, it is Slurm itself.
"""

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wenloom.core.errors import InputError, WenloomError
from wenloom.text import executors, minhash_stages, shares, worker
from wenloom.text.clusters import clusters_of
from wenloom.text.document import ReadOptions
from wenloom.text.executors import Cluster, Task
from wenloom.text.recipe import Recipe, load_recipe
from wenloom.text.refusals import Refusals
from wenloom.text.sift import sift
from wenloom.text.sift_on import sift_on
from wenloom.tokens.prepare import PrepareOptions, prepare

from .test_sift import long_text, near, write


class Here:
    """Runs tasks in this process, the last one first."""

    def run(self, label: str, task: Task, count: int, folder: Path) -> None:
        for rank in reversed(range(count)):
            task(None, rank, count)


def corpus(folder: Path) -> list[Path]:
    rng, files = random.Random(0), list[Path]()
    for number in range(3):
        texts = [long_text(100 * number + each) for each in range(40)]
        texts += [near(text, rng) for text in texts[:10]] + texts[5:8] + [long_text(7)]
        rng.shuffle(texts)
        files.append(write(folder / f"{number}.jsonl", texts))
    return files


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("share_bytes", [1, 50_000, 10**9])
def test_shares_read_by_themselves_are_the_documents_of_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share_bytes: int
):
    monkeypatch.setattr(worker, "BLOCK_CHARACTERS", 9000)
    monkeypatch.setattr(shares, "_SHARE_BYTES", share_bytes)
    files, recipe = corpus(tmp_path), load_recipe("plain")
    files.append(write(tmp_path / "bad.jsonl", [long_text(1)]))
    files[-1].write_text(files[-1].read_text() + '{"title": 1}\n' * 3)
    what = (files[1:], ReadOptions(skip_bad=True), recipe)
    told, expected = Refusals(strict=False), Refusals(strict=False)
    found = sift_on(Here(), *what, tmp_path / "there", told, files[:1])  # pyright: ignore[reportArgumentType]
    here = sift(*what, tmp_path / "here", refusals=expected, validation_files=files[:1])
    assert list(found.decided()) == list(here.decided())
    assert told.count == expected.count == 3 and told.as_json() == expected.as_json()


def test_blocks_that_no_machine_here_sees_are_named(tmp_path: Path):
    class Elsewhere(Here):
        def run(self, label: str, task: Task, count: int, folder: Path) -> None:
            super().run(label, task, count, folder)
            next(folder.parent.glob("*.npz")).unlink()

    with pytest.raises(WenloomError, match="all machines must see"):
        sift_on(
            Elsewhere(),
            corpus(tmp_path),
            ReadOptions(),
            load_recipe("plain"),
            tmp_path / "w",
            Refusals(),
        )  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("on", ["cloud", "slurm", "slurm:", "ray:8"])
def test_clusters_that_are_none_are_refused(on: str):
    with pytest.raises(InputError, match="must be ray or slurm:PARTITION"):
        Cluster(on)


def test_missing_packages_are_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datatrove.executor.base", None)
    with pytest.raises(InputError, match=r"pip install 'wenloom\[cluster\]'"):
        Cluster("ray")


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def refuse(**options: object) -> None:
        raise ConnectionError("nobody\nat all")

    monkeypatch.setitem(sys.modules, "datatrove.executor.base", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=refuse))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(WenloomError, match=r"no cluster answers \(nobody\); see RAY_ADDRESS"):
        Cluster("ray")._connect()


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(("why", "answer"), [
    ("refused", None), ("what listens at .* is none", b"HTTP/1.0 400 Bad\r\n\r\n"), ("silent for", b"")])  # fmt: skip
def test_an_address_where_no_cluster_is_is_told_before_ray_tries(
    monkeypatch: pytest.MonkeyPatch, scheme: str, why: str, answer: bytes | None
):
    def nobody_asks(**options: object) -> None:
        pytest.fail("Ray would try for minutes")

    monkeypatch.setitem(sys.modules, "datatrove.executor.base", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=nobody_asks))
    monkeypatch.setattr(executors, "_ANSWER", 0.1 if answer == b"" else 5.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{server.getsockname()[1]}")
        if answer is None:
            server.close()
        with contextlib.ExitStack() as stack:
            if answer:
                thread = threading.Thread(target=lambda: stack.enter_context(server.accept()[0]).sendall(answer))
                stack.callback(thread.join)
                thread.start()
            with pytest.raises(WenloomError, match=f"no cluster answers .*{why}.*see RAY_ADDRESS"):
                Cluster("ray")._connect()


def test_a_server_of_the_kind_that_ray_is_goes_on_to_ray(monkeypatch: pytest.MonkeyPatch):
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        executors._check_answers(f"127.0.0.1:{port}")
    finally:
        server.stop(None)


def test_clusters_of_datatroves_stages_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datatrove")
    monkeypatch.setattr(minhash_stages, "_DOCUMENTS", 100)
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2**64, (450, 14), np.uint64)
    table[:, 0] = 2**64 - 1 - np.arange(450, dtype=np.uint64)  # the largest numbers count, too
    for _ in range(150):
        first, second, band = rng.integers(0, 450), rng.integers(0, 450), rng.integers(0, 14)
        table[first, band] = table[second, band]
    found = minhash_stages.clusters_on(Here(), table, tmp_path / "w")  # pyright: ignore[reportArgumentType]
    assert found == clusters_of(table) and len(found) > 50
    assert minhash_stages.clusters_on(Here(), table[:0], tmp_path / "w") == []  # pyright: ignore[reportArgumentType]


def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str) -> None:
    """Prepare a corpus here and there, with every step that compares documents."""
    monkeypatch.setattr(shares, "_SHARE_BYTES", 50_000)
    files = [str(path) for path in corpus(tmp_path)]
    recipe = load_recipe("plain", ("near_duplicates=on", "repeated_lines=on", "exact_substrings=on"))
    for name, cluster in (("here", None), ("there", Cluster(on, 2))):
        prepare(
            files,
            tmp_path / name,
            PrepareOptions("byte"),
            recipe=recipe,
            on=cluster,
            keep_dropped=tmp_path / f"{name} dropped",
        )
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "there")
    dropped = bytes_of(tmp_path / "here dropped")
    assert dropped == bytes_of(tmp_path / "there dropped") and set(dropped) >= {
        "duplicates.jsonl",
        "near_duplicates.jsonl",
    }
    assert not list(tmp_path.glob(".there.work*"))


@pytest.mark.slow
def test_ray_gives_the_bytes_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datatrove")
    pytest.importorskip("ray")
    both(tmp_path, monkeypatch, "ray")
    (tmp_path / "bad.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(InputError, match=r'bad.jsonl, line 1: no field "text"'):
        prepare([str(tmp_path / "bad.jsonl")], tmp_path / "none", recipe=load_recipe("plain"), on=Cluster("ray"))


@pytest.mark.parametrize(("code", "said", "expected"), [
    (0, "RUNNING None\nPENDING Resources", ""),
    (0, "PENDING ReqNodeNotAvail, UnavailableNodes:vm", "ReqNodeNotAvail, UnavailableNodes:vm"),
    (0, "", None),
    (1, "slurm_load_jobs error: Invalid job id specified", None),
    (1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
     "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"),
])  # fmt: skip
def test_what_squeue_of_slurm_22_says_of_a_job_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, expected: str | None
):
    (tmp_path / "squeue").write_text(f"#!/bin/bash\nprintf '%s\\n' '{said}' >&{1 + code}\nexit {code}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert executors._waits_for("1") == expected


STAND_INS = {
    "sbatch": """#!/bin/bash
for last; do :; done
cp "$last" "$JOBS/$(date +%s%N).slurm"
tasks=$(sed -n 's/#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
for task in $(seq 0 $tasks); do SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here bash "$last" >> "$JOBS/out" 2>&1; done
echo "1;here"
""",
    "srun": '#!/bin/bash\nwhile [ "${1:0:1}" = - ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n',
    "squeue": "#!/bin/bash\necho slurm_load_jobs error: Invalid job id specified >&2\nexit 1\n",
    "scontrol": "#!/bin/bash\necho here\n",
}
DOCUMENTED = (
    "array cpus-per-task error export job-name mem-per-cpu nodes output partition requeue time dependency".split()
)
"""Options of sbatch, as its manual lists them."""


@pytest.mark.slow
@pytest.mark.skipif("WENLOOM_SLURM" not in os.environ, reason="needs a partition of Slurm")
def test_slurm_gives_the_bytes_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datatrove")
    on = f"slurm:{os.environ['WENLOOM_SLURM']}"
    both(tmp_path, monkeypatch, on)
    (tmp_path / "bad.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(InputError, match=r'bad.jsonl, line 1: no field "text"'):
        prepare([str(tmp_path / "bad.jsonl")], tmp_path / "none", recipe=load_recipe("plain"), on=Cluster(on))
    queued = subprocess.run(["squeue", "--noheader", "--name=wenloom"], capture_output=True, text=True, check=True)
    assert not queued.stdout.strip()  # of a failure nothing stays that waits for ever


@pytest.mark.slow
def test_scripts_for_slurm_are_right_and_give_the_bytes_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("datatrove")
    tools, jobs = tmp_path / "tools", tmp_path / "jobs"
    tools.mkdir()
    jobs.mkdir()
    for name, text in STAND_INS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(jobs))
    both(tmp_path, monkeypatch, "slurm:cpu")
    scripts = sorted(jobs.glob("*.slurm"))
    assert len(scripts) >= 3
    for script in scripts:
        text = script.read_text()
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
        assert "#SBATCH --partition=cpu" in text and text.startswith("#!/bin/bash\n")
        assert set(re.findall(r"#SBATCH --([\w-]+)", text)) <= set(DOCUMENTED)
    (tools / "sbatch").write_text("#!/bin/bash\necho sbatch: error: no such partition >&2\nexit 1\n")
    with pytest.raises(WenloomError, match=r"sbatch refused .*launch_script\.slurm: sbatch: error: no such partition"):
        prepare(
            [str(tmp_path / "0.jsonl")], tmp_path / "none", recipe=Recipe("r", {"repair": {}}), on=Cluster("slurm:cpu")
        )

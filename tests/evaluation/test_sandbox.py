"""Programs that try to get out of bounds, or to be counted as passed without reaching their end."""

import os
import time
from pathlib import Path

import pytest

from wenloom.evaluation import confine
from wenloom.evaluation.sandbox import Limits, Wall, run_program

GUARD_ALONE: tuple[Wall, ...] = ("namespaces", "nobody", "landlock", "seccomp")

CLAIMS = {
    "ends itself well": "import os\nos._exit(0)",
    "leaves": "raise SystemExit(0)",
    "leaves by the interpreter": "import sys\nsys.exit()",
    "is hit as if by a fault": "import faulthandler\nfaulthandler._sigsegv()",
    "kills itself": "import signal\ntry: signal.raise_signal(signal.SIGKILL)\nexcept OSError: pass",
    "leaves a thread": "import threading, os\nthreading.Thread(target=os._exit, args=(0,)).start()\nimport time\ntime.sleep(1)",
    "leaves at exit": "import atexit, os\natexit.register(os._exit, 0)\nassert False",
    "leaves from a hook": "import sys, os\nsys.excepthook = lambda *_: os._exit(0)\nassert False",
    "leaves while its error is shown": "import os\nclass E(Exception):\n    __str__ = lambda self: os._exit(0)\nraise E()",
    "its error's name": "class M(type):\n    __name__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E()",
    "replaces exec": "import builtins\nbuiltins.exec = lambda *_: None\nassert False",
    "replaces compile": "import builtins\nbuiltins.compile = builtins.exec = builtins.BaseException = None\nassert False",
    "replaces the writing": "import os, posix\nposix._exit = os._exit = lambda code: None\nassert False",
    "guesses by descriptors": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'0' * 32)\n    except OSError: pass\nassert False",
    "reads the descriptors": (
        "import os\nfound = []\nfor fd in range(3, 64):\n    try: found.append(os.read(fd, 64))\n    except OSError: pass\n"
        "for fd in range(3, 64):\n    for word in found:\n        try: os.write(fd, word)\n        except OSError: pass\nos._exit(0)"
    ),
    "arguments": "import sys, os\nfor a in sys.argv + sys.orig_argv:\n    for fd in range(1, 16):\n        try: os.write(fd, a[-32:].encode())\n        except OSError: pass\nos._exit(0)",
    "arguments of the process": "print(open('/proc/self/cmdline').read())",
    "arguments of the judge": "import os\nprint(open(f'/proc/{os.getppid()}/cmdline').read())",
    "own memory": "open('/proc/self/mem', 'rb')",
    "own descriptors": "import os\nos.listdir('/proc/self/fd')",
    "frames": "import sys\nf = sys._getframe()\nwhile f: f = f.f_back",
    "frames by inspect": "import inspect\nassert inspect.currentframe().f_back",
    "frames of an error": "try: 1 / 0\nexcept Exception as e: print(e.__traceback__.tb_frame.f_back.f_locals)",
    "frames of a generator": "g = (x for x in [1])\nprint(g.gi_frame.f_back)",
    "frames of a coroutine": "async def f(): pass\nc = f()\nprint(c.cr_frame)",
    "frames of all threads": "import sys\nprint(sys._current_frames())",
    "frames by tracing": "import sys\nsys.settrace(lambda frame, *_: print(frame.f_back.f_locals))",
    "frames by profiling": "import sys\nsys.setprofile(lambda frame, *_: None)",
    "frames of threads by tracing": "import threading\nthreading.setprofile(lambda f, *_: 0)\nt = threading.Thread(target=print)\nt.start(); t.join()\nimport sys\nsys._getframe()",
    "frame of the guard": "import os\ntry: os.fork()\nexcept PermissionError as e: print(e.__traceback__.tb_next.tb_frame.f_locals)",
    "the collector": "import gc\nprint(len(gc.get_objects()))",
    "the collector's referrers": "import gc\nprint(gc.get_referrers(print))",
    "the collector's referents": "import gc\nprint(gc.get_referents(print))",
    "the main module": "import sys\nprint(sys.modules['__main__'].word)",
    "imports the guard": "import guard",
    "reads the guard": "open('guard.py').read()",
    "a hook of its own": "import sys\nsys.addaudithook(print)",
    "bytecode of its own": "def f(): pass\nf.__code__ = f.__code__.replace(co_consts=(1,))",
    "code from bytes": "import marshal\nmarshal.loads(marshal.dumps(compile('1', '', 'exec')))",
    "code from the loader": "import importlib._bootstrap_external as b, marshal\nb._compile_bytecode(b'\\xe3' + bytes(40))",
    "ctypes": "import ctypes\nctypes.string_at(id(1))",
    "ctypes below": "import _ctypes",
    "ctypes by another name": "import importlib\nimportlib.import_module('ctypes')",
    "ctypes as a strange text": "class S(str):\n    __hash__ = lambda s: 0\n    __eq__ = lambda s, o: False\n__import__(S('_ctypes'))",
    "another interpreter": "import _xxsubinterpreters as x\ni = x.create()\nx.run_string(i, 'import os')",
    "frame of a signal": "import signal, os\ndef f(n, frame):\n    while frame:\n        for v in frame.f_locals.values():\n            for fd in range(3, 20):\n                try: os.write(fd, v)\n                except Exception: pass\n        frame = frame.f_back\n    os._exit(0)\nsignal.signal(signal.SIGALRM, f)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\nimport time\ntime.sleep(1)",
    "frame of an interruption": "import signal, _thread, os\nsignal.signal(signal.SIGINT, lambda n, frame: print(frame.f_back.f_locals))\n_thread.interrupt_main()\nfor i in range(10**5): pass",
    "threads beside an import": "import threading, sys, os\ndef loop():\n    while True:\n        try:\n            for frame in sys._current_frames().values():\n                os._exit(0)\n        except Exception: pass\nthreading.Thread(target=loop, daemon=True).start()\nimport csv, decimal, difflib, inspect, logging, unittest, statistics, zipfile, tarfile",
    "machine code of its own": "import os, _imp, importlib.machinery as m\nopen('own.so', 'wb').write(b'\x7fELF')\n_imp.create_dynamic(m.ModuleSpec('own', None, origin=os.getcwd() + '/own.so'))",
    "machine code by a library's setting": "import os\nos.environ['OPENSSL_CONF'] = os.getcwd() + '/x'",
    "an endless error": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E()",
    "kills the judge": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kills the group": "import os, signal\nos.killpg(0, signal.SIGKILL)",
    "signals itself": "import signal, os\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nsignal.raise_signal(signal.SIGTERM)",
    "catches everything": "class A:\n    def __del__(self): raise SystemExit(0)\na = A()\ndel a\nassert False",
    "closes a group in an open one": "'''\nassert True\n",
    "never ends in a handler": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\nsignal.alarm(1)\nwhile True: pass",
}  # fmt: skip
"""Programs that do not reach their end."""

OUTSIDE = {
    "open": "open(spot + '/new', 'w').write('x')",
    "open by a path of bytes": "open((spot + '/new').encode(), 'w').write('x')",
    "open for appending": "open(spot + '/secret', 'a').write('x')",
    "open a strange path": "class S(str):\n    __str__ = lambda s: 'in'\n    startswith = lambda *_: True\nopen(S(spot + '/new'), 'w')",
    "open a path that changes": "class P:\n    n = 0\n    def __fspath__(self):\n        P.n += 1\n        return 'a' if P.n < 2 else spot + '/new'\nimport os\nos.close(os.open(P(), os.O_CREAT | os.O_WRONLY))\nos.close(os.open(P(), os.O_CREAT | os.O_WRONLY))",
    "open by dots": "import os\nopen('../' * 20 + spot + '/new', 'w')",
    "read": "open(spot + '/secret').read()",
    "read by descriptor": "import os\nos.read(os.open(spot + '/secret', os.O_RDONLY), 9)",
    "read the passwords": "open('/etc/passwd').read()",
    "list": "import os\nos.listdir(spot)",
    "list by scandir": "import os\nlist(os.scandir(spot))",
    "folder as descriptor": "import os\nfd = os.open(spot, os.O_RDONLY | os.O_DIRECTORY)\nos.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=fd)",
    "parent as descriptor": "import os\nfd = os.open('..', os.O_RDONLY)\nos.open('wenloom-escaped', os.O_CREAT | os.O_WRONLY, dir_fd=fd)",
    "descriptor and dots": "import os\nos.makedirs('a/b')\nfd = os.open('.', os.O_RDONLY)\nos.chdir('a/b')\nos.open('../wenloom-escaped', os.O_CREAT | os.O_WRONLY, dir_fd=fd)",
    "removes": "import os\nos.remove(spot + '/secret')",
    "removes by pathlib": "import pathlib\npathlib.Path(spot, 'secret').unlink()",
    "removes a tree": "import shutil\nshutil.rmtree(spot)",
    "renames away": "import os\nos.rename(spot + '/secret', 'mine')",
    "renames there": "import os\nos.rename('program.py', spot + '/new')",
    "replaces there": "import os\nos.replace('program.py', spot + '/secret')",
    "makes a folder": "import os\nos.mkdir(spot + '/new')",
    "makes a pipe": "import os\nos.mkfifo(spot + '/new')",
    "makes a node": "import os\nos.mknod(spot + '/new')",
    "makes a link": "import os\nos.symlink('/etc/passwd', 'link')\nopen('link').read()",
    "makes a hard link": "import os\nos.link(spot + '/secret', 'link')",
    "truncates": "import os\nos.truncate(spot + '/secret', 0)",
    "changes the mode": "import os\nos.chmod(spot + '/secret', 0)",
    "changes the owner": "import os\nos.chown(spot + '/secret', 1, 1)",
    "changes the times": "import os\nos.utime(spot + '/secret', (0, 0))",
    "sets an attribute": "import os\nos.setxattr(spot + '/secret', 'user.x', b'1')",
    "changes the folder": "import os\nos.chdir(spot)\nopen('new', 'w')",
    "database": "import sqlite3\nsqlite3.connect(spot + '/new').execute('create table a (b)')",
    "database by address": "import sqlite3\nsqlite3.connect('file:' + spot + '/new', uri=True).execute('create table a (b)')",
    "database attached": "import sqlite3\nc = sqlite3.connect(':memory:')\nc.execute(f\"attach '{spot}/new' as x\")\nc.execute('create table x.a (b)')",
    "key file": "import dbm\ndbm.open(spot + '/new', 'c')",
    "log": "import logging\nlogging.FileHandler(spot + '/new')",
    "archive": "import zipfile\nzipfile.ZipFile(spot + '/new', 'w')",
    "copies there": "import shutil\nshutil.copyfile('program.py', spot + '/new')",
    "socket file": "import socket\nsocket.socket(socket.AF_UNIX).bind(spot + '/new')",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
    "network by descriptor": "import socket\nsocket.socket()",
    "shared memory": "from multiprocessing import shared_memory\nshared_memory.SharedMemory('wenloom-escaped', create=True, size=9)",
    "semaphore": "import _multiprocessing\n_multiprocessing.SemLock(1, 1, 1, '/wenloom-escaped', False)",
    "process": "import subprocess\nsubprocess.run(['touch', spot + '/new'], check=True)",
    "process below": "import _posixsubprocess, os\n_posixsubprocess.fork_exec([b'/bin/touch'], [b'/bin/touch'], True, (), None, None, -1, -1, -1, -1, -1, -1, 3, 3, True, False, 0, None, None, None, -1, None, True)\nassert False",
    "shell": "import os\nassert os.system('touch ' + spot + '/new') == 0",
    "fork": "import os\nos.fork()",
    "spawn": "import os\nos.posix_spawn('/bin/touch', ['touch', spot + '/new'], {})",
    "becomes another program": "import os\nos.execv('/bin/touch', ['touch', spot + '/new'])",
    "terminal": "import pty\npty.spawn('/bin/sh')",
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    "other processes": "import os\nos.listdir('/proc')",
    "environment of the parent": "import os\nopen(f'/proc/{os.getppid()}/environ').read()",
    "becomes root": "import os\nos.setuid(0)\nopen('/etc/passwd')",
    "device": "open('/dev/mem', 'rb')",
    "replaces the checks": (
        "import os, posixpath, builtins\nos.path.realpath = os.path.abspath = posixpath.normpath = lambda p: os.getcwd()\n"
        "builtins.isinstance = builtins.issubclass = lambda *_: True\nbuiltins.type = lambda *_: str\n"
        "os.getcwd = lambda: '/'\nopen(spot + '/new', 'w')"
    ),
    "many databases": "import sqlite3\nfor i in range(10**4): sqlite3.connect(f'f{i}').execute('create table a (b)')",
    "many folders": "import os\nfor i in range(10**6): os.mkdir(f'd{i}')",
    "many files": "for i in range(10**6): open(f'f{i}', 'w').close()",
}  # fmt: skip
"""Programs that would read or write elsewhere, and pass if they could."""


def contents(folder: Path) -> dict[str, object]:
    return {
        each.name: (each.stat().st_mode, each.stat().st_mtime, each.stat().st_uid, each.read_bytes())
        for each in folder.iterdir()
    }


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "secret").chmod(0o666)
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.mark.parametrize("without", [(), GUARD_ALONE], ids=["all walls", "guard alone"])
@pytest.mark.parametrize("name", CLAIMS)
def test_no_program_is_counted_as_passed_before_its_end(name: str, without: tuple[Wall, ...]):
    started = time.monotonic()
    outcome = run_program(CLAIMS[name] + "\nassert False\n", Limits(seconds=3), without)
    assert not outcome.passed and outcome.reason.isprintable() and len(outcome.reason) <= 300
    assert time.monotonic() - started < 60


KERNEL_ONLY = {"makes a pipe", "makes a node"}
"""The interpreter tells its guard nothing of them."""


@pytest.mark.parametrize("without", [(), GUARD_ALONE], ids=["all walls", "guard alone"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_no_program_reads_or_writes_outside_its_folder(name: str, without: tuple[Wall, ...], spot: Path):
    if without and name in KERNEL_ONLY:
        without = ("namespaces", "nobody", "seccomp")
    if name in KERNEL_ONLY and not confine.landlock_version():
        pytest.skip("no Landlock here")
    before = contents(spot)
    elsewhere = [Path("/dev/shm/wenloom-escaped"), spot.parent / "wenloom-escaped"]
    outcome = run_program(f"spot = {str(spot)!r}\n{OUTSIDE[name]}\n", Limits(seconds=5), without)
    assert not outcome.passed, outcome
    assert contents(spot) == before and not any(each.exists() for each in elsewhere)


@pytest.mark.skipif(not confine.landlock_version(), reason="no Landlock here")
@pytest.mark.parametrize("name", OUTSIDE)
def test_the_kernel_holds_where_the_guard_is_overcome(name: str, spot: Path, monkeypatch: pytest.MonkeyPatch):
    """The same programs without any guard: what they do in their own folder is theirs."""
    source = Path(confine.__file__).with_name("guard.py").read_text()
    assert "sys.addaudithook(guard)" in source
    unguarded = spot / "scripts"
    unguarded.mkdir()
    (unguarded / "guard.py").write_text(source.replace("sys.addaudithook(guard)", "pass"))
    (unguarded / "confine.py").write_text(Path(confine.__file__).read_text())
    monkeypatch.setattr("wenloom.evaluation.sandbox.files", lambda _: unguarded)
    monkeypatch.setattr("wenloom.evaluation.sandbox.as_file", _as_it_is)
    secret, names = (spot / "secret").read_bytes(), {each.name for each in spot.iterdir()}
    outcome = run_program(
        f"spot = {str(spot)!r}\n{OUTSIDE[name]}\n", Limits(seconds=1.5 if name.startswith("many") else 5)
    )
    harmless = {"raises its limits", "many databases", "many folders", "many files", "replaces the checks"}
    assert not outcome.passed or name in harmless, outcome
    assert {each.name for each in spot.iterdir()} == names and (spot / "secret").read_bytes() == secret


class _as_it_is:  # noqa: N801
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        pass


HARMLESS = {
    "the standard library": "import re, collections, typing, math, json, itertools, functools, heapq, datetime, decimal, "
    "fractions, statistics, hashlib, bisect, copy, operator, enum, dataclasses, unittest, logging, threading, queue, csv, "
    "io, string, random, inspect, contextlib, abc, numbers, pprint, difflib, textwrap, struct, array, uuid, zoneinfo",
    "named tuples": "from collections import namedtuple\nimport typing\nassert namedtuple('P', 'x')(1).x == 1\n"
    "class Q(typing.NamedTuple):\n    x: int\nassert Q(1).x == 1",
    "data classes": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\nassert A() == A(1)",
    "its own files": "import os, tempfile, pathlib\npathlib.Path('a').write_text('x')\nos.rename('a', 'b')\n"
    "os.mkdir('d')\nos.rename('b', 'd/b')\nos.rename('d/b', 'b')\n"
    "assert os.listdir() and open('b').read() == 'x'\nos.remove('b')\n"
    "with tempfile.TemporaryDirectory() as d: open(d + '/y', 'w').write('z')",
    "threads": "import threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "assert list(ThreadPoolExecutor(2).map(abs, [-1])) == [1]",
    "errors shown": "import traceback, logging\ntry: 1 / 0\nexcept Exception:\n    assert 'division' in traceback.format_exc()\n"
    "    logging.exception('seen')",
    "deep recursion": "import sys\nsys.setrecursionlimit(10000)\ndef f(n): return n and 1 + f(n - 1)\nassert f(5000) == 5000",
    "signatures": "import inspect\ndef f(a, b=1): pass\nassert str(inspect.signature(f)) == '(a, b=1)'",
    "unit tests": "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(1, 1)\nunittest.main(exit=False)",
    "errors expected": "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        with self.assertRaises(ZeroDivisionError): 1 / 0\nassert unittest.main(exit=False).result.wasSuccessful()",
    "chance and time": "import os, random, secrets, time\nos.urandom(4)\nrandom.random()\nsecrets.token_hex()\ntime.sleep(0.01)",
    "Chinese": "文 = '春眠不觉晓'\nassert 文[0] == '春'\nprint(文)",
}  # fmt: skip


@pytest.mark.parametrize("without", [(), GUARD_ALONE], ids=["all walls", "guard alone"])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_programs_need_is_allowed(name: str, without: tuple[Wall, ...]):
    assert run_program(HARMLESS[name], without=without) == (True, "passed")


def test_the_list_of_calls_has_the_numbers_of_this_kernel():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if os.uname().machine != "x86_64" or not header.exists():
        pytest.skip("no list of calls here to compare with")
    numbers = dict(line.split()[1:3] for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
    _, clone, prlimit, ioctl, allowed = confine._CALLS["x86_64"]
    assert (clone, prlimit, ioctl) == tuple(int(numbers[f"__NR_{name}"]) for name in ("clone", "prlimit64", "ioctl"))
    refused = "rt_sigaction setitimer alarm kill tkill tgkill ptrace mount socket connect bind fork vfork clone3 setuid chmod fchmod fchmodat chown utimensat " \
        "setxattr mknod mknodat symlink symlinkat link linkat truncate bpf keyctl io_uring_setup process_vm_writev prctl " \
        "seccomp unshare setns pidfd_open open_by_handle_at name_to_handle_at shmget semget msgget memfd_secret execveat " \
        "userfaultfd perf_event_open setsid setpgid sched_setaffinity setpriority swapon reboot chroot pivot_root".split()  # fmt: skip
    assert not {int(numbers[f"__NR_{name}"]) for name in refused if f"__NR_{name}" in numbers} & set(allowed)

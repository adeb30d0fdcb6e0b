"""The inner wall of the sandbox: runs `program.py` under an audit hook and tells the judge that it reached its end.

Run as a script by `confine.py`, without site-packages: it must import nothing beyond the interpreter. The word that
proves the end comes by a pipe and is known only to a local variable of `main`, which the program's objects do not
lead to: what could read frames, the collector's lists or other threads is refused. Everything the hook calls is bound
before the program runs, so that nothing the program replaces is called by it.
"""

import _signal  # pyright: ignore[reportMissingImports]
import posix
import sys
import traceback
import types  # looks at a frame when it is imported, which the guard refuses later
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PLAIN = frozenset(
    """array.__new__ builtins.id builtins.input builtins.input/result compile exec function.__new__ glob.glob
    glob.glob/2 import object.__delattr__ object.__setattr__ os.fwalk os.unsetenv os.walk pathlib.Path.glob pathlib.Path.rglob pdb.Pdb pickle.find_class
    shutil.copyfile shutil.copytree shutil.move shutil.rmtree sys.excepthook sys.set_asyncgen_hooks_finalizer
    sys.set_asyncgen_hooks_firstiter sys.unraisablehook tempfile.mkdtemp tempfile.mkstemp time.sleep
    _thread.start_new_thread _thread.start_joinable_thread mmap.__new__""".split()
)
"""Events that nothing outside the program feels. All others but those below are refused."""
_INSIDE = frozenset("os.mkdir os.remove os.rename os.rmdir os.truncate".split())
"""Events whose paths must lie in the program's folder."""
_LISTING = frozenset("os.chdir os.listdir os.scandir".split())
_QUIET = frozenset("sys._getframe sys._getframemodulename".split())
"""Refused as a ValueError, which the standard library takes for "not known"."""
_HIDDEN = frozenset("tb_frame gi_frame cr_frame ag_frame f_back f_locals f_globals f_builtins".split())
_WRITING = posix.O_WRONLY | posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC | posix.O_APPEND
_FILES = 100
"""Files and folders that a program may make or open for writing."""


def make_guard(folder: str, library: list[str], walled: bool) -> "Callable[[str, tuple[Any, ...]], None]":
    """The audit hook.

    Args:
        folder: absolute path of the program's own folder.
        library: absolute paths below which the standard library lies.
        walled: whether the kernel keeps files and calls apart too; where it does not, modules that open files and
            start processes unseen are refused.
    """
    unseen = {"ctypes", "_ctypes", "_xxsubinterpreters", "_interpreters", "_testcapi", "_testinternalcapi", "pty"}
    unseen |= {"_sqlite3", "_dbm", "_gdbm", "_tkinter"}  # open files, or load machine code, that no event tells of
    unseen |= set() if walled else {"_posixsubprocess", "_posixshmem", "_multiprocessing"}
    may_read = (folder, *library)
    devices = ("/dev/null", "/dev/urandom", "/dev/random")
    getcwd, read_fd, open_fd, close_fd = posix.getcwd, posix.read, posix.open, posix.close
    made = 0
    compiled = ""

    def absolute(path: Any) -> str:
        if issubclass(type(path), bytes):
            path = bytes.decode(path, "utf-8", "surrogateescape")
        if not issubclass(type(path), str):
            raise PermissionError("only plain paths are allowed here")
        parts = [] if str.startswith(path, "/") else str.split(getcwd(), "/")
        for part in str.split(path, "/"):
            if part == "..":
                if not walled:  # the event does not tell which folder's descriptor a path is relative to
                    raise PermissionError("paths with .. are not allowed here")
                parts = parts[:-1]
            elif part not in ("", "."):
                parts = [*parts, part]
        return "/" + "/".join([part for part in parts if part])

    def below(path: Any, places: "Iterable[str]") -> bool:
        path = absolute(path)
        return any(path == place or str.startswith(path, place + "/") for place in places)

    def pinned(data: Any) -> bool:
        """Whether marshalled code is that of the library's file just opened: own bytecode could break any wall."""
        if not (str.endswith(compiled, ".pyc") and below(compiled, library)):
            return False
        descriptor = open_fd(compiled, posix.O_RDONLY)
        content = b""
        while piece := read_fd(descriptor, 1 << 20):
            content += piece
        close_fd(descriptor)
        return type(data) in (bytes, memoryview) and data == content[16:]

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal made, compiled
        if event == "import":
            if str.__str__(arguments[0]) in unseen:
                raise ImportError("this module is not allowed here")
            if arguments[1] is not None and not below(arguments[1], library):
                raise ImportError("machine code of one's own is not allowed here")
        elif event == "os.putenv":
            if bytes.startswith(arguments[0], b"OPENSSL"):
                raise PermissionError("this variable could load machine code")
        elif event == "open":
            path, mode, flags = arguments
            if issubclass(type(path), int):
                return
            writing = (flags or 0) & _WRITING
            for letter in "wax+":
                writing = writing or letter in (mode or "")
            if writing and absolute(path) != "/dev/null":
                made += 1
                if not below(path, (folder,)) or made > _FILES:
                    raise PermissionError("writing outside the program's folder, or too many files")
            elif not below(path, may_read) and absolute(path) not in devices:
                raise PermissionError("reading outside the program's folder")
            compiled = absolute(path)
        elif event == "marshal.loads":
            if not pinned(arguments[0]):
                raise ValueError("code of one's own is not allowed here")
        elif event in _INSIDE:
            made += event == "os.mkdir"
            for path in arguments[: 2 if event == "os.rename" else 1]:
                if not issubclass(type(path), int) and (not below(path, (folder,)) or made > _FILES):
                    raise PermissionError(f"{event} outside the program's folder, or too many files")
        elif event in _LISTING:
            place = "." if arguments[0] is None else arguments[0]
            if not issubclass(type(place), int) and not below(place, may_read):
                raise PermissionError(f"{event} outside the program's folder")
        elif event == "object.__getattr__":
            if arguments[1] in _HIDDEN:
                raise ValueError(f"{arguments[1]} is not allowed here")
        elif event in _QUIET:
            raise ValueError(f"{event} is not allowed here")
        elif event not in _PLAIN:
            raise PermissionError(f"{event} is not allowed here")

    return guard


def _refused(*_: Any) -> None:
    raise OSError("signals are not handled here")


def main(words: int, proof: int, folder: str, library: list[str], walled: bool) -> None:
    """Run the program; write the word to the descriptor `proof` if it reaches its end."""
    word = posix.read(words, 64)
    posix.close(words)
    write, leave = posix.write, posix._exit
    with open("program.py", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is a slow import for each program
        source = file.read()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    _signal.signal = _signal.setitimer = _refused  # a handler would be handed this frame; the kernel refuses it too
    for name in (
        "walk_tb",
        "walk_stack",
        "clear_frames",
        "_walk_tb_with_full_positions",
    ):  # errors are shown without the frames
        setattr(traceback, name, lambda *_: iter(()))
    guard = make_guard(folder, library, walled)
    try:
        code = compile(source, "program.py", "exec")
        sys.addaudithook(guard)
        del guard
        exec(code, module.__dict__)
    except BaseException as error:
        try:
            said = f"{type(error).__name__}: {error}"
        except BaseException:
            said = type(error).__name__
        write(2, ("\n" + said).encode("utf-8", "backslashreplace")[:2000])
        leave(1)
    write(proof, word)
    leave(0)

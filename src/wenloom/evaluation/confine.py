"""The outer walls of the sandbox and its judge: a program that runs another one where it can harm nothing.

Run as a script by `sandbox.py`, with the standard library alone. It puts up what the kernel offers (Linux): namespaces
without network, other processes or shared memory; nobody's rights where it was started by root; Landlock, which leaves
one folder to write and the standard library to read; a closed list of system calls (seccomp). Each that is missing is
left out, and the rest holds. Then it starts `guard.py` and waits. The word that a program has to send when it reaches its
end is drawn here, after the walls are up, and only this process can say "passed": by its exit code.
"""

import ctypes
import errno
import functools
import json
import os
import platform
import secrets
import signal
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any, NoReturn

PASSED, FAILED, BROKEN = 0, 10, 11
NOBODY = 65534

_X86, _ARM = 0xC000003E, 0xC00000B7  # AUDIT_ARCH of linux/audit.h
_CALLS = {
    "x86_64": (_X86, 56, 302, 16, [
        *range(0, 8), *range(8, 13), 14, 15, *range(17, 25), 25, 26, 27, 28, 32, 33, 34, 35, 36, 39, 40, 53, 59, 60, 61,
        63, 72, 73, 74, 75, 77, 79, 80, 81, 82, 83, 84, 87, 89, 95, 96, 97, 98, 99, 100, 102, 104, 107, 108, 110, 111,
        115, 118, 120, 121, 124, 125, 127, 128, 131, 137, 138, 140, 143, 145, 158, 186, 201, 202, 204, 213, 217, 218,
        219, 221, 228, 229, 230, 231, 232, 233, 257, 258, 262, 263, 264, 267, 269, 270, 271, 273, 274, 281, 283, 285,
        286, 290, 291, 292, 293, 309, 316, 318, 319, 324, 326, 332, 334, 436, 439,
    ]),
    "aarch64": (_ARM, 220, 261, 29, [
        17, 19, 20, 21, 22, 23, 24, 25, 32, 34, 35, 38, 43, 44, 46, 47, 48, 49, 50, 56, 57, 59, *range(61, 69), 71, 72, 73,
        78, 79, 80, 82, 83, 85, 86, 90, 93, 94, 96, 98, 99, 100, 101, 102, 113, 114, 115, 120, 121, 123, 124, 128,
        132, 135, 136, 137, 139, 141, 148, 150, 153, 155, 156, 158, 160, 163, 165, 166, 168, 169, *range(172, 180),
        199, 214, 215, 216, 221, 222, 223, 226, 227, 232, 233, 260, 276, 278, 279, 283, 285, 291, 293, 436, 439,
    ]),
}  # fmt: skip
"""Per processor: its AUDIT_ARCH, the numbers of clone, prlimit64 and ioctl (allowed with some arguments only), and the
calls that are allowed: files, memory, time, threads and pipes of its own; none that signals, handles signals, traces, connects, mounts,
starts processes, or changes owners, modes, times and attributes of files."""
_TGKILL = {_X86: 234, _ARM: 131}
_DEADLY = [signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV]
"""A program that raises one of these dies, as elsewhere, instead of going on because the call is refused."""
_CLONE_THREAD = 0x10000
_TERMINAL_ASKED, _CLOSE_ON_EXEC = 0x5401, 0x5451  # TCGETS, FIOCLEX


@functools.cache
def _c() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    if _c().prctl(ctypes.c_int(option), *values) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _syscall(number: int, *arguments: Any) -> int:
    done = _c().syscall(ctypes.c_long(number), *arguments)
    if done < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return done


# --- namespaces and rights ---


def isolate() -> bool:
    """No network, no sight of other processes and their shared memory, for the children of this process."""
    net, pid, ipc, user = 0x40000000, 0x20000000, 0x08000000, 0x10000000
    own = (os.getuid(), os.getgid())
    if own[0] == 0 and _c().unshare(net | pid | ipc) == 0:
        return True
    if own[0] == 0 or _c().unshare(user | net | pid | ipc) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{own[0]} {own[0]} 1")
    Path("/proc/self/gid_map").write_text(f"{own[1]} {own[1]} 1")
    return True


def reachable_by_all(*paths: str) -> bool:
    """Whether somebody without rights could come to these files and folders."""
    return all(place.stat().st_mode & 0o001 for path in paths for place in Path(path).parents)


def become_nobody(may_search: bool) -> None:
    """Give root's rights away; with `may_search`, keep the one to pass closed folders (Landlock rules what is read)."""
    os.setgroups([])
    if may_search:
        _prctl(8, 1)  # PR_SET_KEEPCAPS
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if may_search:
        search = 1 << 2  # CAP_DAC_READ_SEARCH
        header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
        sets = struct.pack("6I", search, search, search, 0, 0, 0)
        if _c().capset(header, sets) != 0:
            raise OSError(ctypes.get_errno(), "capset")
        _prctl(47, 2, 2)  # PR_CAP_AMBIENT, RAISE


# --- Landlock ---


def landlock_version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _c().syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def standard_library() -> list[Path]:
    """Files and folders that the interpreter reads: its library without installed packages, and shared objects."""
    places = [Path("/etc/ld.so.cache"), Path("/usr/lib/locale"), Path("/dev/null"), Path("/dev/urandom")]
    for name in ("stdlib", "platstdlib"):
        folder = Path(sysconfig.get_path(name))
        places += [each for each in folder.iterdir() if each.name not in ("site-packages", "dist-packages")]
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        shared = {Path(line.split(maxsplit=5)[5].strip()) for line in maps if ".so" in line and "/" in line}
    system = {each.parent for each in shared if each.is_relative_to("/usr/lib") or each.is_relative_to("/lib")}
    own = {each.parent for each in shared} - system
    return [*places, *system, *(each for folder in own for each in folder.glob("*.so*"))]


def lock_files(folder: str, version: int, library: list[Path]) -> None:
    """Leave `folder` to write, `library` to read and the interpreter to run; all other files are out of reach."""
    execute, write, read, list_ = 1 << 0, 1 << 1, 1 << 2, 1 << 3
    remove_folder, remove_file, make_folder, make_file = 1 << 4, 1 << 5, 1 << 7, 1 << 8
    truncate = 1 << 14 if version >= 3 else 0
    rights = (1 << (13 + (version >= 2) + (version >= 3))) - 1 | (1 << 15 if version >= 5 else 0)
    attributes = struct.pack("QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    refer = 1 << 13 if version >= 2 else 0  # moving files between folders, both of which allow it
    inside = write | read | list_ | remove_folder | remove_file | make_folder | make_file | truncate | refer
    wanted = [(Path(folder), inside), (Path(sys.executable).resolve(), execute | read)]
    wanted += [(Path(sysconfig.get_path("stdlib")), list_)]
    wanted += [(each, read | list_ | (write if each == Path("/dev/null") else 0)) for each in library]
    wanted += [(each, execute | read) for each in _loaders()]
    for path, allowed in wanted:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed &= ~0 if path.is_dir() else execute | write | read | truncate
        rule = struct.pack("=Qi", allowed, descriptor)
        _syscall(445, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(descriptor)
    _syscall(446, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def _loaders() -> list[Path]:
    """The dynamic loader: the kernel runs it with the interpreter."""
    return [each for folder in ("/lib", "/lib64", "/usr/lib") for each in Path(folder).glob("ld-linux*.so*")] + [
        each for folder in ("/lib", "/usr/lib") for each in Path(folder).glob("*/ld-linux*.so*")
    ]


# --- system calls ---


def close_calls() -> None:
    """Refuse, from now on, every system call that is not on the list."""
    arch, clone, prlimit, ioctl, allowed = _CALLS[platform.machine()]
    load, equal, any_of, give = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
    allow, refuse, missing, kill = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000
    low = [16 + 8 * number for number in range(6)]  # arguments, little-endian: the low word first
    code = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, kill), (load, 0, 0, 0)]
    for number in allowed:
        code += [(equal, 0, 1, number), (give, 0, 0, allow)]
    code += [
        (equal, 0, 4, clone),
        (load, 0, 0, low[0]),
        (any_of, 0, 1, _CLONE_THREAD),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    code += [(equal, 0, 6, prlimit), (load, 0, 0, low[2]), (equal, 0, 3, 0), (load, 0, 0, low[2] + 4), (equal, 0, 1, 0),
             (give, 0, 0, allow), (give, 0, 0, refuse)]  # fmt: skip
    code += [(equal, 0, 5, ioctl), (load, 0, 0, low[1]), (equal, 1, 0, _TERMINAL_ASKED), (equal, 0, 1, _CLOSE_ON_EXEC),
             (give, 0, 0, allow), (give, 0, 0, refuse)]  # fmt: skip
    code += [(equal, 0, 3 + len(_DEADLY), _TGKILL[arch]), (load, 0, 0, low[2])]
    code += [(equal, len(_DEADLY) - at, 0, number) for at, number in enumerate(_DEADLY)]
    code += [(give, 0, 0, missing), (give, 0, 0, kill)]
    code += [(give, 0, 0, missing)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    filter_ = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    if _c().prctl(22, ctypes.c_ulong(2), filter_, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:  # PR_SET_SECCOMP, FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


def walls() -> dict[str, bool]:
    """Which of the kernel's walls this system has; namespaces may still be refused to this user."""
    return {
        "Landlock": landlock_version() > 0,
        "system calls": sys.platform == "linux" and platform.machine() in _CALLS,
    }


# --- the program and its judge ---

_START = """
own = {{"__builtins__": dict(vars(__builtins__))}}
exec(compile({source!r}, "guard.py", "exec"), own)
own["main"](*{arguments!r})
"""
"""The guard looks its names up in a copy of the builtins, which the program cannot replace."""


def bound(limits: dict[str, Any]) -> None:
    """Processor time, memory, size of files."""
    import resource

    for which, value in (
        (resource.RLIMIT_CPU, limits["seconds"] + 1), (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def enter(limits: dict[str, Any], words: int, proof: int) -> NoReturn:
    """In the child: put up the walls and become the guarded program."""
    guard = Path(__file__).with_name("guard.py").read_text(encoding="utf-8")
    linux, folder = sys.platform.startswith("linux"), str(Path.cwd())
    version = 0 if "landlock" in limits["without"] else landlock_version()
    interpreter, library = (
        str(Path(sys.executable).resolve()),
        [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
    )
    if linux:
        places = standard_library()
        if os.getuid() == 0 and "nobody" not in limits["without"]:
            open_to_all = reachable_by_all(interpreter, library[0] + "/os.py", folder + "/program.py")
            if not (open_to_all or version):
                raise PermissionError("root's programs need Landlock, or an interpreter that others can reach")
            os.chown(folder, NOBODY, NOBODY)
            become_nobody(may_search=not open_to_all)
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no program outlives its judge
        _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
        if version:
            lock_files(folder, version, places)
    bound(limits)
    for descriptor in (words, proof):
        os.set_inheritable(descriptor, True)
    closed = linux and platform.machine() in _CALLS and "seccomp" not in limits["without"]
    arguments = (words, proof, folder, library, closed and version > 0)
    command = [interpreter, "-I", "-S", "-B", "-c", _START.format(source=guard, arguments=arguments)]
    environment = dict(os.environ, HOME=folder, TMPDIR=folder)
    if closed:
        close_calls()
    os.execve(interpreter, command, environment)


def judge(limits: dict[str, Any]) -> int:
    """Run `program.py` of the working folder; the exit code that tells how it went."""
    if sys.platform.startswith("linux") and "namespaces" not in limits["without"]:
        if isolate():
            return _first_of_its_namespace(limits)
    return _judged(limits)


def _first_of_its_namespace(limits: dict[str, Any]) -> int:
    """Judge in a child that is the first process of the new namespaces: the kernel spares the first one from signals, so
    that it must not be the program, which would outlive what kills it elsewhere."""
    child = os.fork()
    if child == 0:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os._exit(_judged(limits))
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else FAILED


def _judged(limits: dict[str, Any]) -> int:
    """Run the program in a child and hear whether it reached its end."""
    word = secrets.token_hex(16).encode()
    (words, say), (hear, proof) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(say)
        os.close(hear)
        try:
            enter(limits, words, proof)
        except BaseException as error:
            os.write(2, f"\nthe sandbox could not be set up: {error}".encode())
            os._exit(BROKEN)
    os.close(words)
    os.close(proof)
    os.write(say, word)
    os.close(say)
    _, status = os.waitpid(child, 0)
    os.set_blocking(hear, False)
    try:
        heard = os.read(hear, 64)
    except BlockingIOError:
        heard = b""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN and not heard:
        return BROKEN
    return PASSED if secrets.compare_digest(heard, word) else FAILED


if __name__ == "__main__":
    sys.exit(judge(json.loads(sys.argv[1])))

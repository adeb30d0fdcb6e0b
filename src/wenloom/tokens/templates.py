"""Chat templates, run in a process of their own: a template is a program that somebody else wrote.

Jinja's sandbox keeps it from the machine; the process bounds time, memory and length, which the sandbox does not.
"""

import atexit
import functools
import json
import subprocess
import sys
import threading
from queue import Empty, Queue
from typing import Any

from wenloom.core.errors import InputError, printable

SECONDS, MEMORY_BYTES, LONGEST = 5.0, 512 * 2**20, 4_000_000
"""Bounds of one rendering: time, memory of the process, characters of the result."""

_PROGRAM = f"""
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
except (ImportError, ValueError, OSError):
    pass  # not on this system: the time stays bounded
from datetime import datetime
from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import CallBlock, Const, TemplateData
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(Extension):
    tags = {{"generation"}}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)
    def _same(self, caller):
        return caller()

def today(form):
    return datetime.now().strftime(form)

def refuse(message):
    raise TemplateError(message)

def as_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
environment.globals["raise_exception"] = refuse
environment.globals["strftime_now"] = today
environment.filters["tojson"] = as_json
def words(source):
    tree = environment.parse(source)
    found = [node.data for node in tree.find_all(TemplateData)]
    found += [node.value for node in tree.find_all(Const) if isinstance(node.value, str)]
    return json.dumps([chr(0).join(found), sorted(find_undeclared_variables(tree))])

known = {{}}
for line in sys.stdin:
    try:
        task = json.loads(line)
        source = task["template"]
        if task["values"] is None:
            text = words(source)
        else:
            if source not in known:
                known[source] = environment.from_string(source)
            text = known[source].render(**task["values"])
        answer = {{"text": text}} if len(text) <= {LONGEST} else {{"error": "it writes more than {LONGEST:,} characters"}}
    except MemoryError:
        answer = {{"error": "it takes too much memory"}}
    except Exception as error:
        answer = {{"error": str(error) or type(error).__name__}}
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
"""


def render_template(template: str, values: dict[str, Any]) -> str:
    """What a Jinja template makes of some values (plain data only).

    `raise_exception`, `strftime_now`, `tojson`, loop controls and `generation` blocks are there, as transformers has
    them.

    Raises:
        InputError: the template is wrong, refuses these values, or takes too long or too much.
    """
    return _renderer().render(template, values)


def template_words(template: str) -> str:
    """The words that stand in a template itself, each apart from the next by a NUL character.

    Raises:
        InputError: the template is wrong.
    """
    return _read(template)[0]


def template_variables(template: str) -> frozenset[str]:
    """The names of the values that a template reads, such as messages.

    Raises:
        InputError: the template is wrong.
    """
    return frozenset(_read(template)[1])


@functools.lru_cache(maxsize=64)
def _read(template: str) -> tuple[str, list[str]]:
    words, variables = json.loads(_renderer().render(template, None))
    return words, variables


class _Renderer:
    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: Queue[str] = Queue()
        atexit.register(self.stop)

    def render(self, template: str, values: dict[str, Any] | None) -> str:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"template": template, "values": values}) + "\n")
                process.stdin.flush()
                answer = self._answers.get(timeout=SECONDS)
            except Empty:
                self.stop()
                raise InputError(f"the chat template cannot be used: it takes more than {SECONDS:.0f} s.") from None
            except OSError:
                answer = ""
            if not answer:  # the process died
                self.stop()
                raise InputError("the chat template cannot be used: it takes too much memory, or is nested too deeply.")
        found = json.loads(answer)
        if "error" in found:
            raise InputError(f"the chat template cannot be used: {printable(found['error'], 300)}")
        return found["text"]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding="utf-8", bufsize=1,
            )  # fmt: skip
            self._answers = Queue()
            threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
        return self._process

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def _listen(process: subprocess.Popen[str], answers: "Queue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(line)
    answers.put("")


@functools.cache
def _renderer() -> _Renderer:
    return _Renderer()

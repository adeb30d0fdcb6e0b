"""A page from a template of any folder, inside the frame that all of them share."""

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from wenloom.core.quantities import show_percent

END_OF_TEXT = "<|endoftext|>"
"""How most tokenizers write the token that ends a text."""
END_MARK = "∎"
"""How a page shows it."""


@cache
def _environment(package: str) -> jinja2.Environment:
    """Templates of a package, which may extend and import those of this one; what they print is escaped."""
    own, shared = jinja2.PackageLoader(package), jinja2.PackageLoader(__package__ or "")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([own, shared]), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    for name in ("style.css", "page.js", "chart.js"):
        source = (files(__package__ or "") / "templates" / name).read_text(encoding="utf-8")
        environment.globals[name.replace(".", "_")] = Markup(source)
    environment.filters |= {"marked": marked, "written": written, "parted": parted, "percent": show_percent}
    return environment


def render(package: str, template: str, **values: Any) -> str:
    """A page.

    Args:
        package: whose `templates/` folder has the template, such as "wenloom.training"; it extends page.html.jinja.
        values: what the template reads; all of it is escaped where it is printed.
    """
    page = _environment(package).get_template(template).render(**values)
    return page.encode("utf-8", "replace").decode()  # half surrogates, which names of files and JSON can hold


def parted(name: str) -> Markup:
    """A name with underscores as HTML, which may be broken after each of them and nowhere else.

    >>> parted("weight_decay")
    Markup('weight_<wbr>decay')
    """
    return Markup("_<wbr>").join(name.split("_"))


NOTHING = Markup('<span class="soft">(nothing: the text ended at once)</span>')


def written(text: str, end: str = END_OF_TEXT) -> Markup:
    """What a model wrote, as `marked`; where it wrote nothing, a note that says so.

    >>> written(" b")
    Markup(' b')
    """
    return marked(text, end) if text.strip() else NOTHING


def marked(text: str, end: str = END_OF_TEXT) -> Markup:
    """Text as HTML, with the end-of-text token as a mark.

    >>> marked("a < b<|endoftext|>c")
    Markup('a &lt; b<abbr class="end" title="end of text">∎</abbr>c')
    """
    mark = Markup('<abbr class="end" title="end of text">{}</abbr>').format(END_MARK)
    return mark.join(text.split(end)) if end else Markup.escape(text)

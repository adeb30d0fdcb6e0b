"""Kinds of files by their endings."""

import re
from pathlib import Path

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
"""Endings that are taken off to see what is inside."""
TABLES = (".csv", ".tsv")
ROWS = (".jsonl", ".json", ".parquet", ".arrow", *TABLES)
"""Rows with fields."""
PLAIN, ARCHIVES = (".txt", ".md"), (".zip", ".tar")

CODE = frozenset(
    ".py .pyi .ipy .c .h .cc .cpp .cxx .hh .hpp .cu .cuh .m .mm .cs .java .kt .kts .scala .groovy .go .rs .swift .zig .d .nim "
    ".js .jsx .mjs .cjs .ts .tsx .vue .css .scss .sass .less .php .rb .pl .pm .lua .r .jl .hs .ml .mli .fs .clj .ex .exs .erl "
    ".lisp .el .scm .sh .bash .zsh .fish .ps1 .bat .sql .proto .graphql .cmake .mk .gradle .tf .toml .yaml .yml .ini .cfg "
    ".v .sv .vhd .vhdl .f .f90 .f95 .pas .asm .s .sol .dart".split()
)
"""Programs and what belongs to them: each file is one document, its licence and its indentation included."""

NOTES = re.compile(r"(readme|licen[cs]e|copying|notice|source|citation|changelog|datacard)\b(?=[^/]*$)", re.IGNORECASE)
"""About the data, and not data: passed over in folders."""
ABOUT_PACKAGES = re.compile(
    r"(package(-lock)?|tsconfig|composer|dataset_infos?|dataset_dict|state|metadata|croissant|config)\.json",
    re.IGNORECASE,
)
"""JSON that describes a package or a data set: passed over in folders."""


_PART = re.compile(r"(?<=\.xml)-p\d+p\d+.*")
"""In the names of Wikipedia's dumps, the pages that a part holds."""


def kind_of_name(file: Path) -> str:
    """The ending that says what is inside, compression endings taken off.

    >>> kind_of_name(Path("a.jsonl.gz")), kind_of_name(Path("b.TGZ")), kind_of_name(Path("articles1.xml-p1p41242.bz2"))
    ('.jsonl', '.tar', '.xml')
    """
    suffixes = [_PART.sub("", suffix.lower()) for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return ".tar" if kind == ".tgz" else kind

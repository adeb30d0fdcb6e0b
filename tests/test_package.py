"""What is shipped: every file of the package and nothing else, under one name."""

import ast
import re
import subprocess
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from wenloom.core.version import FORMER_NAME, __version__

ROOT = Path(__file__).parents[1]


def tracked(*below: str) -> list[str]:
    """Files that belong to the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *below]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    builders = pytest.importorskip("hatchling.builders.wheel")
    made = next(
        iter(
            builders.WheelBuilder(str(ROOT)).build(
                directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"]
            )
        )
    )
    return zipfile.ZipFile(made)  # fmt: skip


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile):
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {name.removeprefix("src/") for name in tracked("src")}
    for needed in (
        "text/tinyshakespeare.txt",
        "runtime/native/step.c",
        "runtime/native/simd.h",
        "evaluation/published.json",
        "py.typed",
    ):
        assert f"wenloom/{needed}" in packed
    for needed in ("report.html.jinja", "page.html.jinja", "style.css", "chart.js"):
        assert any(name.endswith(needed) for name in packed)


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile):
    folder = f"wenloom-{__version__}.dist-info"
    assert "wenloom = wenloom.cli.app:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    described = wheel.read(f"{folder}/METADATA").decode()
    assert "Name: wenloom\n" in described and FORMER_NAME not in described.lower()


def test_files_that_are_read_at_run_time_are_named_as_they_are():
    """Templates and data that the code opens by name exist in the package."""
    names = {Path(name).name for name in tracked("src")}
    for name in tracked("src"):
        if name.endswith(".py"):
            text = (ROOT / name).read_text(encoding="utf-8")
            for used in re.findall(r'get_template\("([^"]+)"\)|files\("[\w.]+"\) / "([^"]+)"', text):
                assert set(filter(None, used)) <= names, (name, used)


def test_the_former_name_stands_only_where_old_folders_are_read_and_in_the_changes():
    found = [
        name
        for name in tracked()
        if FORMER_NAME in name.lower() or FORMER_NAME.encode() in (ROOT / name).read_bytes().lower()
    ]
    assert found == ["CHANGELOG.md", "src/wenloom/core/version.py"]


def test_the_public_interface_is_the_one_that_is_listed():
    """A change of it shows in docs/api.md: `python -m tests.api_listing`."""
    from .api_listing import DOCS, listings

    for name, content in listings().items():
        assert (DOCS / name).read_text(encoding="utf-8") == content


def test_no_class_name_stands_twice():
    names = [
        node.name
        for file in tracked("src")
        if file.endswith(".py")
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert names and [name for name, count in Counter(names).items() if count > 1] == []


def test_no_file_is_longer_than_400_lines():
    files = [name for name in tracked("src") if name.endswith((".py", ".c", ".h"))]
    lengths = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in files}
    assert lengths and {name: n for name, n in lengths.items() if n > 400} == {}


def test_dependencies_and_extras_hold_what_is_imported():
    """Those of the tests, the documents and the peers of bench/ aside; a pin of what another package brings has no module here, and
    neither has what another one needs and does not bring (lxml-html-clean: trafilatura cannot be imported without it)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in tracked("src") if name.endswith(".py"))
    modules = {"pyyaml": "yaml", "prometheus-client": "prometheus_client", "lm-eval": "lm_eval", "huggingface-hub": "huggingface_hub", "charset-normalizer": "charset_normalizer", "python-multipart": "python_multipart"}  # fmt: skip
    shipped = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra in ("dev", "docs", "peers"):
        del shipped[extra]
    for extra, packages in shipped.items():
        for package in packages:
            name = re.match(r"[\w-]+", package)[0]
            if "!=" in package or name == "lxml-html-clean":
                continue
            module = modules.get(name, name)
            assert re.search(rf'(import|from) {module}\b|"{module}["., ]', source), (extra, package)

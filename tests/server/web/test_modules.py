"""The console's modules without a browser: they parse, find what they import, speak both languages and weigh little."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.console_files import console_files

WEB = Path(__file__).resolve().parents[3] / "server" / "web"
OURS = sorted(path for path in WEB.rglob("*.js") if path.parent.name != "vendor")
MODULES = sorted(WEB.rglob("*.js"))
SHEETS = sorted(WEB.rglob("*.css"))
TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))
SERVED = sorted(path for path in WEB.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"})
MAX_BYTES = 300_000

STATIC = re.compile(r"""(?:\bfrom|\bimport)\s*["']([^"']+)["']""")
DYNAMIC = re.compile(r"""\bimport\(\s*["']([^"']+)["']""")
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", re.DOTALL)
LOADS = re.compile(
    r"""(?:src|href|action)\s*[=:]\s*\$?\{?["'`]?(?:https?:)?//|fetch\(\s*["'`](?:https?:)?//|@import|url\((?!["']?data:)"""
)
PLACE = re.compile(r"\{(\w+)\}")

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")


def shown(path: Path) -> str:
    return path.relative_to(WEB).as_posix()


def import_map() -> dict[str, Path]:
    """Where each bare name leads."""
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', (WEB / "index.html").read_text())
    return {name: WEB / address.removeprefix("/console/") for name, address in json.loads(text)["imports"].items()}


def target(module: Path, name: str) -> Path:
    """The file that a module means by a name."""
    return (module.parent / name).resolve() if name.startswith(".") else import_map()[name]


def imported(module: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    return (target(module, name) for name in pattern.findall(COMMENT.sub("", module.read_text())))


def with_imports(first: Path) -> set[Path]:
    """A module and all that it cannot run without."""
    found: set[Path] = set()
    todo = [first]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += imported(module, STATIC)
    return found


def node(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", *map(str, words)], capture_output=True, text=True, check=False)


@needs_node
@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.name)
def test_by_node_s_own_runner(test: Path) -> None:
    ran = node("--test", test)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_node
def test_every_module_parses(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    copied = tmp_path / "web"
    shutil.copytree(WEB, copied)
    wrong = [checked.stderr for path in sorted(copied.rglob("*.js")) if (checked := node("--check", path)).returncode]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_what_it_imports_is_there(module: Path) -> None:
    for pattern in (STATIC, DYNAMIC):
        missing = [shown(path) for path in imported(module, pattern) if not path.is_file()]
        assert not missing, f"{shown(module)} imports {missing}"


def test_the_page_names_every_sheet_and_only_files_that_are_there() -> None:
    page = (WEB / "index.html").read_text()
    named = [WEB / address.removeprefix("/console/") for address in re.findall(r'(?:src|href)="(/[^"]+)"', page)]
    assert [shown(path) for path in named if not path.is_file()] == []
    assert {path for path in SHEETS if path.parent.name != "vendor"} <= set(named)
    assert [name for name, path in import_map().items() if not path.is_file()] == []


@pytest.mark.parametrize("path", [*OURS, *SHEETS, WEB / "index.html"], ids=shown)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = path.read_text() if path.suffix == ".html" else COMMENT.sub("", path.read_text())
    assert LOADS.findall(text) == []


@needs_node
def test_both_languages_say_the_same() -> None:
    ran = node(Path(__file__).with_name("words_of.mjs"), *OURS)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told
    for entry in told:
        file, english, portuguese = shown(Path(entry["file"])), entry["words"]["en"], entry["words"]["pt"]
        assert set(english) == set(portuguese), f"{file}: {set(english) ^ set(portuguese)} in one language only"
        for key in english:
            assert places(english[key]) == places(portuguese[key]), f"{file}: {key} has other places"
        unknown = set(entry["asked"]) - set(english)
        assert not unknown, f"{file} asks for words that it does not have: {unknown}"


def places(text: str | dict[str, str]) -> set[str]:
    """The values that a text wants, in whichever of its forms."""
    forms = [text] if isinstance(text, str) else list(text.values())
    return {name for form in forms for name in PLACE.findall(form)}


def test_each_view_is_light_unpacked_and_all_together_as_they_travel() -> None:
    sizes = {path: path.stat().st_size for path in SERVED}
    always = with_imports(WEB / "main.js") | {path for path in SERVED if path.suffix != ".js"}
    views = list(imported(WEB / "views.js", DYNAMIC))
    assert views
    for view in views:
        opened = sum(sizes[path] for path in always | with_imports(view))
        print(f"{view.stem}: {opened / 1000:.1f} kB unpacked")
        assert opened < MAX_BYTES, f"{shown(view)} loads {opened} bytes"
    packed = sum(len(file.gzipped) for file in console_files().values())
    print(f"all: {sum(sizes.values()) / 1000:.1f} kB unpacked, {packed / 1000:.1f} kB as sent")
    assert packed < MAX_BYTES

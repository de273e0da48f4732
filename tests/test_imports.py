"""Who may import whom: `server → adapters, retrieval`, and one place for each heavy library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("server", "adapters", "retrieval")

# what no file of a package imports, anywhere in it
FORBIDDEN = {
    "adapters": {"server", "retrieval", "vllm", "fastapi", "starlette", "uvicorn", "httpx", "httpx2", "asyncio"},
    "retrieval": {"server", "adapters", "vllm", "fastapi", "starlette", "uvicorn", "httpx", "httpx2", "asyncio"},
    "server": {"faiss", "tantivy", "pymilvus"},
}
# a library that only some files may know
CONFINED = {
    "vllm": "server/engine/vllm_*.py",
    "faiss": "retrieval/index/faiss_*.py",
    "pymilvus": "retrieval/index/milvus_service.py",
    "tantivy": "retrieval/index/lexical.py",
    "aiobotocore": "server/storage/object_store.py",
    "openvino": "retrieval/embedding_openvino.py",
    "sentence_transformers": "retrieval/*.py",
    "semantic_text_splitter": "retrieval/chunking.py",
    "py3langid": "retrieval/language.py",
    "pypdf": "retrieval/parsers/pdf*.py",
    "markitdown": "retrieval/parsers/*.py",
    "openpyxl": "retrieval/parsers/xlsx.py",
    "magika": "retrieval/parsers/recognition.py",
    "charset_normalizer": "retrieval/parsers/encoding.py",
}
# files of the small parent: it supervises, and must start and stay without what makes processes large
PARENT = ("serve", "supervisor", "process_tree", "listening", "probe", "banner", "logs", "settings", "__main__")
LARGE = {"torch", "transformers", "vllm", "numpy", "fastapi", "sqlalchemy", "safetensors", "peft"}

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside functions, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            yield str(node.module)


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_files() -> None:
    assert {shown(path).partition("/")[0] for path in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_package_stays_in_its_place(path: Path) -> None:
    package = shown(path).partition("/")[0]
    assert libraries(path) & FORBIDDEN[package] == set()


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_confined_library_is_imported_in_its_files_only(path: Path) -> None:
    for library, place in CONFINED.items():
        if library in libraries(path):
            assert path.match(place), f"{shown(path)} imports {library}, which only {place} may"


@pytest.mark.parametrize("library", CONFINED)
def test_a_confined_library_is_still_in_use(library: str) -> None:
    assert any(library in libraries(path) for path in FILES)


def reached(path: Path, seen: set[Path]) -> set[Path]:
    """A file and all of ours that are loaded with it: imports at the top of files only."""
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] in PACKAGES:
                reached(ROOT / (name.replace(".", "/") + ".py"), seen)
    return seen


def test_the_parent_stays_small() -> None:
    files: set[Path] = set()
    for name in PARENT:
        reached(ROOT / "server" / f"{name}.py", files)
    assert ROOT / "server" / "storage" / "data_lock.py" in files  # the walk walks
    for path in files:
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in names} & LARGE == set(), shown(path)

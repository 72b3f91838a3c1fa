"""The map agrees with the house: what the documents name is there, and what is there is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

import mesh
from mesh.cli import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGE = Path(mesh.__file__).parent
ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text("utf-8")


def rooms() -> list[str]:
    """Folders and top-level modules of mesh/, as a reader would look for them."""
    folders = [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]
    files = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    return sorted(folders + files)


def named(room: str, text: str) -> bool:
    """Whether a document names it as a word of its own, a module with or without its `.py`."""
    name = room.removesuffix("/").removesuffix(".py")
    if room.endswith("/"):
        return re.search(rf"(?<![\w./]){name}\b(?!\.py)", text) is not None
    return re.search(rf"(?<!\w)(?:mesh/)?{name}(?:\.py)?(?!\w|/)", text) is not None


@pytest.mark.parametrize("room", rooms())
def test_architecture_names_every_room(room: str, architecture: str):
    assert named(room, architecture)


def test_named_tells_a_folder_from_a_module():
    assert not named("configs/", "**config.py** reads")
    assert not named("bus.py", "buses/zmq")
    assert not named("configs/", "the root's ./configs or x/configs")
    assert named("buses/", "**bus.py, buses/** TELL")


@pytest.mark.parametrize("verb", VERBS)
def test_readme_or_changelog_names_every_verb(verb: str):
    texts = [(ROOT / name).read_text("utf-8") for name in ("README.md", "CHANGELOG.md")]
    spans = re.findall(r"```.*?```|`[^`]+`", "\n".join(texts), re.DOTALL)
    assert any(re.search(rf"(?<![\w-]){verb}(?![\w-])", span) for span in spans)


def test_decisions_are_numbered_without_a_gap():
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


_SPAN = re.compile(r"`([^`\s]+)`|\]\(([^)\s]+)\)")
_SUFFIX = (".md", ".py", ".yaml", ".toml", ".sql")
_TEACHING = {"myshop/schema/0001_greeter.sql"}
"""Paths in the reader's own project, which README's lesson has him make."""


def paths_in(text: str) -> set[str]:
    """Relative paths that a document names in backquotes or links to, outside code blocks."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = {first or second for first, second in _SPAN.findall(prose)}
    return {
        path
        for path in found
        if "://" not in path
        and not path.startswith(("#", "/", "~"))
        and (("/" in path and re.fullmatch(r"[\w.-]+(/[\w.-]*)+", path)) or path.endswith(_SUFFIX))
    }


def resolves(path: str, folders: Iterable[Path]) -> bool:
    return any((folder / path).exists() for folder in folders)


def test_readme_names_only_paths_that_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    found = paths_in(text)
    assert "docs/adr/" in found, "the reader of paths reads nothing"
    assert found >= _TEACHING, "an exception nobody needs any more"
    beside = [ROOT, *(ROOT / p for p in found if p.endswith(".py") and (ROOT / p).exists())]
    folders = {folder if folder.is_dir() else folder.parent for folder in beside}
    assert {path for path in found - _TEACHING if not resolves(path, folders)} == set()


def components(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Strongly connected components of more than one node, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(component) > 1 or node in graph[node]:
                found.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_components_finds_a_cycle():
    assert components({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [{"b", "c"}]
    assert components({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_modules_do_not_import_one_another_in_a_circle():
    graph = grimp.build_graph("mesh", exclude_type_checking_imports=True, cache_dir=None)
    imports = {
        module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)
    }
    assert len(imports) > len(rooms())
    assert components(imports) == []

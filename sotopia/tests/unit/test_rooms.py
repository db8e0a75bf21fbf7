"""The rooms of the package import one way, also where an import is inside a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sotopia_sdpo


PACKAGE = Path(sotopia_sdpo.__file__).parent
ROOMS = ("llm", "rdb", "store", "world", "play", "judge", "run", "results", "pairs", "report")
"""Each imports only what stands before it."""


def imported(path: Path) -> Iterator[str]:
    """Find the modules of ours that a file names in its imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "sotopia_sdpo":
            yield from (f"sotopia_sdpo.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_those_before_it(room: str) -> None:
    later = ROOMS[ROOMS.index(room) + 1 :]
    for path in (PACKAGE / room).rglob("*.py"):
        rooms = {module.split(".")[1] for module in imported(path) if module.startswith("sotopia_sdpo.")}
        assert not rooms.intersection(later), path

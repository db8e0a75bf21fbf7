"""The rooms of the package: imports go down only, also those inside functions, and what is imported is declared."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sotopia_sdpo


PACKAGE = Path(sotopia_sdpo.__file__).parent
NAME = PACKAGE.name
# From the ground up: a room may import those before it, and any file of its own.
ROOMS = (
    *(
        "text",
        "terminal",
        "places",
        "errors",
        "outcomes",
        "envs",
        "prompts",
        "whole_files",
        "account",
        "sqlite_file",
        "rdb",
        "llm",
        "step_files",
        "store",
        "world",
        "play",
        "judge",
        "run",
    ),
    *(
        "results",
        "options",
        "pairs",
        "logs",
        "report",
        "show",
        "rollout",
        "simulated",
        "make",
        "loop",
        "benchmark",
        "evaluate",
        "db_cli",
        "cli",
        "sdpo",
        "__main__",
    ),
)
EXTRAS = {
    "anycrc": "rdb",
    "lzf": "rdb",
    "inspect_ai": "inspect",
    "scienceworld": "scienceworld",
    "krippendorff": "judges",
    "matplotlib": "figures",
}
DISTRIBUTIONS = {"lzf": "python-neo-lzf", "typing_extensions": "typing-extensions", "yaml": "pyyaml"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """List every module that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_below(file: Path) -> set[str]:
    """Name the rooms that a file takes something from."""
    ours = (name.split(".") for name in imports(file) if name.startswith(f"{NAME}."))
    return {parts[1] for parts in ours} - {room_of(file)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        return
    allowed = ROOMS[: ROOMS.index(room_of(file))]
    assert rooms_below(file) <= set(allowed)


def test_every_room_is_on_the_list() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} <= set(ROOMS)


def test_no_circle_of_files() -> None:
    """Also inside a room, and whether the import stands at the top or in a function."""
    graph = {}
    for file in FILES:
        names = {name for name in imports(file) if name.startswith(NAME)}
        targets = {PACKAGE.joinpath(*parts[1:]).with_suffix(".py") for name in names for parts in _prefixes(name)}
        graph[file] = {target for target in targets if target in FILES and target != file}
    done: set[Path] = set()
    while len(done) < len(graph):
        free = {file for file, targets in graph.items() if file not in done and targets <= done}
        assert free, f"a circle among {sorted(str(f.relative_to(PACKAGE)) for f in graph.keys() - done)}"
        done |= free


def _prefixes(name: str) -> list[list[str]]:
    parts = name.split(".")
    return [parts, parts[:-1]]


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {_distribution(line) for line in project["dependencies"]}
    extras = {
        name: {_distribution(line) for line in lines} for name, lines in project["optional-dependencies"].items()
    }
    for file in FILES:
        for module in {name.split(".")[0] for name in imports(file)} - set(sys.stdlib_module_names) - {NAME}:
            found = extras[EXTRAS[module]] if module in EXTRAS else declared
            assert DISTRIBUTIONS.get(module, module) in found, f"{file.name} imports {module}"


def _distribution(line: str) -> str:
    return line.split("=")[0].split(">")[0].split("<")[0].split("[")[0].strip()

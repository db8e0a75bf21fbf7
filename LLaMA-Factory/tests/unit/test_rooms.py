"""The rooms of the package: what imports what, who touches the host, and that all that is imported is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata

import pytest
from conftest import ROOT

import llamafactory_sdpo


PACKAGE = ROOT / "src" / "llamafactory_sdpo"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Name of a module within the package -> its file."""
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def outside(tree: ast.Module) -> set[str]:
    """The top-level packages that a file imports from elsewhere, inside functions too."""
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {module.split(".")[0] for module in modules}


def inside(name: str) -> Iterator[str]:
    """The modules of the package that a module imports, inside functions and for annotations too."""
    folder = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = folder.split(".") if folder else []
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                module = f"{base}.{alias.name}".strip(".")
                yield module if module in FILES else base


def floors() -> list[list[str]]:
    """The order that the docstring of the package states, lowest first."""
    _, _, listed = llamafactory_sdpo.__doc__.partition("never down:")
    return [re.split(r",\s*", line.strip()) for line in listed.strip().splitlines()]


def floor_of(module: str) -> int:
    """The floor of a module: that of its own name if it is listed, else of its room."""
    at = {name: number for number, names in enumerate(floors()) for name in names}
    parts = module.split(".")
    return next(at[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in at)


def test_every_module_has_a_floor_and_imports_none_above():
    for name in FILES:
        for imported in inside(name):
            assert imported in FILES, f"{name} imports {imported}"
            assert not imported or floor_of(imported) <= floor_of(name), (
                f"{name} imports {imported}, which is above it"
            )


def test_no_import_goes_round():
    """Imports inside functions count, so none is there only to break a circle."""
    order = list(TopologicalSorter({name: set(inside(name)) - {name} for name in FILES}).static_order())
    assert set(order) >= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_only_the_hosts_room_imports_the_host(name):
    touched = outside(TREES[name]) & {"llamafactory", "trl"}
    assert touched <= ({"llamafactory"} if name.startswith("host.") else set())
    at_the_top = {
        node.module.split(".")[0] for node in TREES[name].body if isinstance(node, ast.ImportFrom) and node.module
    }
    assert "llamafactory" not in at_the_top or name == "host.names", "the version is checked in host.names alone"


def roots_of_stores(tree: ast.Module) -> set[str]:
    """The names whose attributes or items are assigned, deleted or set."""
    stored = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    stored |= {call.args[0] for call in calls if call.func.id in ("setattr", "delattr")}
    while nested := {node for node in stored if isinstance(node, ast.Attribute | ast.Subscript)}:
        stored = (stored - nested) | {node.value for node in nested}
    return {node.id for node in stored if isinstance(node, ast.Name)}


def test_only_install_patches_the_host():
    """And `substituted` does for as long as a block runs, in the files that run the host's own functions."""
    for name, tree in TREES.items():
        taken = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and "names" in (node.module or "") and node.level
            for alias in node.names
        }
        patches = roots_of_stores(tree) & taken
        assert patches == ({"host_tuner", "CustomDPOTrainer"} if name == "host.install" else set()), name
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"setattr", "delattr"} or name == "host.seams"
        assert "substituted" not in called or name in (
            *("host.data", "host.screen", "host.stages", "host.ray_cluster", "host.arguments"),
        )


def test_what_is_imported_is_declared():
    """By the names of the distributions that hold the packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w.-]", item)[0].lower().replace("_", "-") for item in project["dependencies"]}
    packages = set().union(*map(outside, TREES.values())) - set(sys.stdlib_module_names) - {""}
    distributions = metadata.packages_distributions()
    imported = {package: {name.lower().replace("_", "-") for name in distributions[package]} for package in packages}
    missing = {package for package, names in imported.items() if not names & declared}
    assert not missing, f"declare {missing} in pyproject.toml"
    assert declared <= set().union(*imported.values()), "declared, but not imported"


def test_files_stay_short():
    assert not [path for path in FILES.values() if len(path.read_text(encoding="utf-8").splitlines()) > 300]


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"] == {"llamafactory_sdpo": ["py.typed"]}

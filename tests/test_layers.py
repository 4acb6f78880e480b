"""Imports inside ``ourdb`` point down only. A new module gets a place in LAYERS, or these tests fail."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ourdb"

# Lowest row first; a module may import modules of the rows above it in this table, never of its own row.
LAYERS: list[set[str]] = [
    {"errors", "progress", "report"},
    {"storage", "memory"},
    {"format", "position", "codecs", "leases", "aside", "faults", "power_cut"},
    {"manifest", "slots", "testing"},
    {"delta", "index", "segment"},
    {"index_writer"},
    {"salvage", "scan"},
    {"logcheck", "relocation", "rescue"},
    {"rewrite", "sidecars", "state"},
    {"fastpath", "recovery", "view"},
    {"accounting", "agreement", "follow", "reserve", "tail"},
    {"indexing"},
    {"writer"},
    {"batch", "feed", "snapshot", "statistics", "stream"},
    {"compaction", "opening", "snapshots_again", "ticker"},
    {"handle", "rebuild", "verify"},
    {"logdump", "reading", "repair"},
    {"check", "history", "writing"},
    {"backup"},
    {"upkeep"},
    {"store"},
    {"__init__", "selftest"},
    {"cli_bench", "cli_output"},
    {"cli_commands"},
    {"cli"},
    {"__main__"},
]
RANK = {module: row for row, modules in enumerate(LAYERS) for module in modules}
MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))


def imports_of(module: str) -> set[str]:
    """The modules of the package that *module* imports, wherever in its text the import stands."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    return {name for node in ast.walk(tree) for name in _imported(node)}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == "ourdb":
                yield alias.name.partition(".")[2] or "__init__"
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports inside the package are written in full"
        if node.module == "ourdb":
            yield from (alias.name if alias.name in MODULES else "__init__" for alias in node.names)
        elif node.module is not None and node.module.startswith("ourdb."):
            yield node.module.removeprefix("ourdb.")


def test_every_module_has_exactly_one_row() -> None:
    assert sorted(module for row in LAYERS for module in row) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_reach_lower_rows_only(module: str) -> None:
    assert module in RANK, f"give ourdb.{module} a row in LAYERS"
    upward = {name for name in imports_of(module) if name in RANK and RANK[name] >= RANK[module]}
    assert not upward, f"ourdb.{module} imports {sorted(upward)}, which stand beside it or higher"


@pytest.mark.parametrize("module", MODULES)
def test_library_imports_the_standard_library_alone(module: str) -> None:
    import sys

    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots - {"ourdb"} <= sys.stdlib_module_names

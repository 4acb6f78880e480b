"""Imports inside ``ourdb`` and ``vfsdb`` point down only. A new module gets a place in LAYERS, or these tests fail."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest row first; a module may import modules of the rows above it in this table, never of its own row.
LAYERS: dict[str, list[set[str]]] = {
    "ourdb": [
        {"errors", "full_disk", "progress", "report"},
        {"storage", "memory"},
        {"format", "position", "codecs", "leases", "gate", "gone", "aside", "faults", "power_cut"},
        {"manifest", "slots", "testing"},
        {"bulk", "delta", "index", "segment", "small"},
        {"index_writer"},
        {"salvage", "scan"},
        {"logcheck", "relocation", "rescue"},
        {"rewrite", "sidecars", "state"},
        {"as_of", "comparing", "copying", "fastpath", "iteration", "recovery"},
        {"view"},
        {"accounting", "agreement", "follow", "reserve", "single"},
        {"overtaken", "tail"},
        {"rolling"},
        {"indexing"},
        {"session"},
        {"writer"},
        {"batch", "feed", "snapshot", "statistics", "stream"},
        {"moments", "needed", "opening", "snapshots_again", "ticker", "victims"},
        {"moving"},
        {"compaction_step", "copier_messages"},
        {"copier", "copier_process"},
        {"auto_compaction", "compaction"},
        {"backup_plan", "handle", "staged", "rebuild", "verifier"},
        {"backup_copy", "losses", "repair_job", "verify"},
        {"logdump", "reading", "repair_segments", "repair_sidecars"},
        {"repair_log"},
        {"history", "repair", "writing"},
        {"check"},
        {"backup"},
        {"upkeep"},
        {"store"},
        {"__init__", "selftest"},
        {"cli_bench", "cli_output"},
        {"cli_commands"},
        {"cli"},
        {"__main__"},
    ],
    "vfsdb": [
        {"errors", "garbage"},
        {"database", "feed.__init__", "past.__init__", "records", "stores.__init__", "values"},
        {"feed.changes"},
        {"interface"},
        {"acl", "locks", "paths", "wire"},
        {"remote"},
        {"conversation"},
        {"service"},
        {"access"},
        {"codecs.packing", "writeset"},
        {"codecs.fixed", "codecs.pages", "codecs.xattrs"},
        {"codecs.inodes"},
        {"codecs.__init__", "spare"},
        {"buffers", "freelist", "layers", "pages", "xattrs"},
        {"copyonwrite"},
        {"pagebalance"},
        {"pagewriter"},
        {"sharing"},
        {"extents"},
        {"blockwriter", "cloning", "content", "mapcheck"},
        {"newfiles"},
        {"flushing"},
        {"holes"},
        {"copying"},
        {"directories", "orphans"},
        {"links"},
        {"namespace"},
        {"attributes", "renaming"},
        {"stores.kept", "stores.memory_blocks", "stores.ourdb_versions", "stores.view_store", "testing"},
        {"stores.memory_store", "stores.ourdb_space", "stores.ourdb_views"},
        {"stores.ourdb_feed", "stores.ourdb_history"},
        {"stores.ourdb_blocks", "stores.ourdb_switch"},
        {"stores.ourdb_order"},
        {"stores.ourdb_metadata"},
        {"stores.ourdb_fsck", "stores.ourdb_store"},
        {"stores.ourdb_backup"},
        {"gathered", "mkfs", "opening", "state"},
        {"transaction"},
        {"encoded", "reader"},
        {"committed"},
        {"adopting", "collecting"},
        {"room"},
        {"levels", "observers", "past.moments", "space"},
        {"buffered"},
        {"writing"},
        {"commits"},
        {"past.alike", "past.diff", "past.recalled", "past.snapshots"},
        {"past.revisions"},
        {"caches", "handles", "maintenance"},
        {"accesstimes"},
        {"files_base"},
        {"files_reading", "files_writing"},
        {"files"},
        {"feed.states", "feed.waking", "feed.watching"},
        {"feed.entries"},
        {"feed.deriving"},
        {"feed.following"},
        {"twins"},
        {"treeclone", "usage"},
        {"core.base"},
        {"core.answers"},
        {"core.attributes", "core.listing", "core.names", "core.open_files", "core.past", "core.space"},
        {"core.changes", "core.clones"},
        {"core.filesystem"},
        {"core.__init__"},
        {"host_calls", "host_credentials", "host_inodes"},
        {"host_locks", "host_state"},
        {"host_attributes", "host_handles", "host_names"},
        {"host_files", "host_listing"},
        {"host"},
        {"globbing", "openmode"},
        {"fileio", "walk"},
        {"host_tree", "transfer"},
        {"host_tree_reader", "host_tree_writer", "tar_members", "tree_copy", "tree_reader", "tree_writer"},
        {"tar_reader", "tar_writer", "tree"},
        {"tar"},
        {"past.returning", "posix_base"},
        {"past.restoring"},
        {"past.operations", "posix_attributes", "posix_files", "posix_locks", "posix_names", "posix_transfers"},
        {"feed.operations", "posix_glob", "posix_trees"},
        {"posix_copy"},
        {"vpath"},
        {"posix"},
        {"following"},
        {"fsck.findings", "fsck.marks", "fsck.shares", "fsck.source"},
        {"fsck.builders"},
        {"fsck.fields"},
        {"fsck.state"},
        {"fsck.trees"},
        {"fsck.maprules", "fsck.namelists"},
        {"fsck.maps"},
        {"fsck.scan"},
        {"fsck.names"},
        {"fsck.paths", "fsck.space"},
        {"fsck.subtree"},
        {"fsck.checker", "fsck.kept"},
        {"fsck.mender"},
        {"fsck.repair_names", "fsck.repair_records", "fsck.repair_shares", "fsck.repair_space"},
        {"fsck.checkpoint", "fsck.repair"},
        {"fsck.places"},
        {"fsck.run"},
        {"fsck.__init__"},
        {"backups.__init__"},
        {"backups.running"},
        {"compacting"},
        {"api", "describe"},
        {"aio_workers", "compat.vfs", "compat.vfs_db"},
        {"aio_feed", "aio_files"},
        {"aio"},
        {"compat.__init__"},
        {"cli_hostfile", "cli_text", "modes"},
        {"snapdir.numbers", "snapdir.whole"},
        {"snapdir.views"},
        {"snapdir.directory"},
        {"snapdir.trees"},
        {"snapdir.filesystem"},
        {"snapdir.__init__"},
        {"fuse.opcodes", "fuse.options", "fuse.structures"},
        {"fuse.decoding", "fuse.device", "fuse.encoding", "fuse.operations"},
        {"fuse.mounting", "fuse.negotiation", "fuse.requests"},
        {"fuse.handlers_base", "fuse.words", "fuse.workers"},
        {"fuse.handlers_attributes", "fuse.handlers_files", "fuse.handlers_names"},
        {"fuse.handlers"},
        {"fuse.notifications", "fuse.session"},
        {"fuse.mounts"},
        {"fuse.guests"},
        {"fuse.__init__"},
        {"cli_output", "cli_walk"},
        {"cli_context"},
        {"cli_moments"},
        {
            "cli_commands_changes",
            "cli_commands_files",
            "cli_commands_fsck",
            "cli_commands_list",
            "cli_commands_mount",
            "cli_commands_names",
            "cli_commands_past",
            "cli_commands_store",
            "cli_commands_transfer",
        },
        {"cli_commands_attributes", "cli_commands_walk", "cli_shell"},
        {"cli_verbs"},
        {
            "cli_parser_attributes",
            "cli_parser_files",
            "cli_parser_looking",
            "cli_parser_past",
            "cli_parser_store",
            "cli_parser_transfer",
        },
        {"cli_parser"},
        {"__init__"},
        {"cli"},
        {"__main__", "cli_fsck", "cli_mount"},
    ],
}
# What a package may import beside the standard library, and where: a face's own library only in the face.
LIBRARIES: dict[str, dict[str, set[str]]] = {
    "ourdb": {},
    "vfsdb": {"__init__": {"msgpack"}, "codecs.packing": {"msgpack"}, "fsck.fields": {"msgpack"}, "wire": {"msgpack"}},
}
RANK = {
    (package, module): row for package, rows in LAYERS.items() for row, modules in enumerate(rows) for module in modules
}


def modules_of(package: str) -> list[str]:
    """Every module of *package*, without the package's own name."""
    return sorted(
        ".".join(path.relative_to(ROOT / package).with_suffix("").parts) for path in (ROOT / package).rglob("*.py")
    )


MODULES = [(package, module) for package in LAYERS for module in modules_of(package)]


def imports_of(package: str, module: str) -> set[str]:
    """The modules of the package that *module* imports, wherever in its text the import stands."""
    tree = ast.parse((ROOT / package / (module.replace(".", "/") + ".py")).read_text())
    return {name for node in ast.walk(tree) for name in _imported(package, node)}


def _imported(package: str, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == package:
                yield alias.name.partition(".")[2] or "__init__"
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports inside the package are written in full"
        if node.module is not None and node.module.split(".")[0] == package:
            inner = node.module.partition(".")[2]
            for alias in node.names:
                name = f"{inner}.{alias.name}" if inner else alias.name
                whole = inner if (ROOT / package / (inner.replace(".", "/") + ".py")).is_file() else f"{inner}.__init__"
                names = [name, f"{name}.__init__", whole.removeprefix(".")]  # of a module, a package, or what is in one
                yield next(found for found in names if (package, found) in MODULES)


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_has_exactly_one_row(package: str) -> None:
    assert sorted(module for row in LAYERS[package] for module in row) == modules_of(package)


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_imports_reach_lower_rows_only(package: str, module: str) -> None:
    assert (package, module) in RANK, f"give {package}.{module} a row in LAYERS"
    rank = RANK[package, module]
    upward = {name for name in imports_of(package, module) if RANK.get((package, name), -1) >= rank}
    assert not upward, f"{package}.{module} imports {sorted(upward)}, which stand beside it or higher"


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_libraries_are_imported_where_they_belong_alone(package: str, module: str) -> None:
    tree = ast.parse((ROOT / package / (module.replace(".", "/") + ".py")).read_text())
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    allowed = LIBRARIES[package].get(module, set()) | {package}
    if package == "vfsdb" and module.startswith("stores.ourdb_"):
        allowed |= {"ourdb"}
    assert roots - allowed <= sys.stdlib_module_names

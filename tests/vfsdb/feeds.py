"""A tree of names that knows of a filesystem by its feed alone, and what it is compared with."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from vfsdb.feed.changes import Change, ChangeKind, ChangeSet
from vfsdb.posix import VFS

Tree = dict[str, tuple[int, int]]  # path -> inode number, type bits


class Known(NamedTuple):
    """What one path shows."""

    ino: int
    kind: int
    content: object
    attributes: object


def tree_of(fs: VFS) -> Tree:
    """Every path but the root's."""
    return {path: known[:2] for path, known in known_of(fs, with_content=False).items()}


def known_of(fs: VFS, with_content: bool = True) -> dict[str, Known]:
    """What every path but the root's shows."""
    found = {}
    for top, names, others in fs.walk("/"):
        for name in (*names, *others):
            path = os.path.join(top, name)
            status = fs.lstat(path)
            attributes = [(name, fs.getxattr(path, name, follow_symlinks=False)) for name in _names(fs, path)]
            content = fs.read_bytes(path) if with_content and stat.S_ISREG(status.st_mode) else b""
            found[path] = Known(
                status.st_ino, stat.S_IFMT(status.st_mode), content, (status.st_mode, status.st_uid, attributes)
            )
    return found


def _names(fs: VFS, path: str) -> list[str]:
    return sorted(fs.listxattr(path, follow_symlinks=False))


def replay(tree: Tree, changes: Iterable[Change]) -> None:
    """Do to *tree* what one set of changes tells: take away, deepest first, then put, highest first."""
    of_kind: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
    for change in changes:
        of_kind[change.kind].append(change)
    leaving = [(change.path, None) for change in of_kind[ChangeKind.REMOVED]]
    leaving += [(str(change.old_path), change) for change in of_kind[ChangeKind.RENAMED]]
    coming: list[tuple[str, Tree]] = []
    for path, renamed in sorted(leaving, key=lambda one: one[0].count("/"), reverse=True):
        taken = {below: tree.pop(below) for below in list(tree) if below == path or below.startswith(path + "/")}
        assert path in taken, f"{path} was not there"
        if renamed is None:
            assert len(taken) == 1, f"{path} was removed, and held {sorted(taken)}"
        else:
            assert taken[path] == (renamed.ino, renamed.file_type)
            coming.append((renamed.path, {below[len(path) :]: known for below, known in taken.items()}))
    coming += [(change.path, {"": (change.ino, change.file_type)}) for change in of_kind[ChangeKind.CREATED]]
    for path, names in sorted(coming, key=lambda one: one[0].count("/")):
        assert os.path.dirname(path) in ("/", *tree), f"{path} was put where no directory is"
        for below, known in names.items():
            assert path + below not in tree, f"{path + below} was there already"
            tree[path + below] = known
    for change in (*of_kind[ChangeKind.MODIFIED], *of_kind[ChangeKind.ATTRIBUTES]):
        assert change.path == "/" or tree[change.path] == (change.ino, change.file_type)


def replay_all(tree: Tree, sets: Iterable[ChangeSet]) -> list[ChangeSet]:
    """`replay` for each set; the sets."""
    told = []
    for one in sets:
        replay(tree, one.changes)
        told.append(one)
    return told


def check_told(before: dict[str, Known], after: dict[str, Known], sets: Iterable[ChangeSet]) -> None:
    """Whatever differs in place between two looks at a filesystem was told, under each name that it has."""
    told = {(change.kind, change.ino) for one in sets for change in one.changes}
    inodes = {known.ino: known for known in before.values()}
    made = {change.ino for one in sets for change in one.changes if change.kind is ChangeKind.CREATED}
    for path, known in after.items():
        old = inodes.get(known.ino)
        if old is None or known.ino in made:
            continue
        if old.content != known.content:
            assert (ChangeKind.MODIFIED, known.ino) in told, f"the content of {path} changed"
        if old.attributes != known.attributes:
            assert (ChangeKind.ATTRIBUTES, known.ino) in told, f"attributes of {path} changed"

"""What happened between two states of a filesystem, in terms of paths. Pure, over `vfsdb.feed.states`.

A name that one directory lost and another, or the same, got, and which leads to one and the same inode, was renamed.
Two inodes are the same where number and generation are. What happened to an inode is told under each name it has now.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Final, NamedTuple

from vfsdb import links
from vfsdb.feed.changes import ChangeKind
from vfsdb.feed.entries import Contents, Entry, differing_entries
from vfsdb.feed.states import After, Records
from vfsdb.interface import ROOT
from vfsdb.records import Inode

_DIRECTORY: Final = 0o040000
_FILE: Final = 0o100000


class Told(NamedTuple):
    """A change, but for when it was."""

    kind: ChangeKind
    path: str
    old_path: str | None
    ino: int
    file_type: int


def derive(after: After) -> list[Told]:
    """What made *after* of the state before it, in an order in which it can be done again, as far as there is one.

    What was removed comes first, what lay in a directory before it; then what was renamed and created, a directory
    before what lies in it now; then what changed in place. O(records changed, and names of changed inodes).
    """
    inodes = [key for key in after.changed if after.find_inode(key) or after.before.find_inode(key)]
    gone, come = differing_entries(after, inodes)
    removed, renamed, created = _paired(after, gone, come)
    told = _names_told(after, removed, renamed, created)
    named = {entry.ino for entry in come}
    busy = {entry.directory for entry in (*gone, *come)}
    contents = Contents(after)
    for ino in inodes:
        old, new = after.before.find_inode(ino), after.find_inode(ino)
        if old is not None and new is not None and old.generation == new.generation:
            kinds = _changes_in_place(after, contents, old, new, ino in named, ino in busy)
            told += [Told(kind, path, None, ino, new.kind) for kind in kinds for path in _paths(after, new)]
    return told


# -- names ---------------------------------------------------------------------------------------------------------


def _paired(
    after: After, gone: list[Entry], come: list[Entry]
) -> tuple[list[Entry], list[tuple[Entry, Entry]], list[Entry]]:
    """What was removed, renamed (from, to), created."""
    if not gone or not come:
        return gone, [], come
    left: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in gone:
        left[entry.ino].append(entry)
    renamed = []
    created = []
    for entry in come:
        if left[entry.ino] and _is_same(after, entry.ino):
            renamed.append((left[entry.ino].pop(0), entry))
        else:
            created.append(entry)
    return [entry for entries in left.values() for entry in entries], renamed, created


def _is_same(after: After, ino: int) -> bool:
    old, new = after.before.find_inode(ino), after.find_inode(ino)
    return old is not None and new is not None and old.generation == new.generation and old.kind == new.kind


def _names_told(
    after: After, removed: list[Entry], renamed: list[tuple[Entry, Entry]], created: list[Entry]
) -> list[Told]:
    before = after.before  # whose paths are all asked for before the first of those after
    took = [(_joined(before, entry), entry) for entry in removed]
    moved = [(_joined(before, old), new) for old, new in renamed]
    if any(entry.kind == _DIRECTORY for _, entry in moved):
        after.forget_paths()
    for entry in removed:
        after.paths.pop(entry.ino, None)
    took.sort(key=lambda item: (-item[0].count(b"/"), item[0]))
    told = [Told(ChangeKind.REMOVED, _text(path), None, entry.ino, entry.kind) for path, entry in took]
    gave: list[tuple[bytes, ChangeKind, bytes | None, Entry]] = [
        (_joined(after, entry), ChangeKind.RENAMED, path, entry) for path, entry in moved
    ]
    gave += [(_joined(after, entry), ChangeKind.CREATED, None, entry) for entry in created]
    gave.sort(key=lambda item: (item[0].count(b"/"), item[0]))
    for path, kind, old, entry in gave:
        if path != old:  # under another key it is the same name
            told.append(Told(kind, _text(path), None if old is None else _text(old), entry.ino, entry.kind))
    return told


def _joined(records: Records, entry: Entry) -> bytes:
    return records.path_of(entry.directory) + b"/" + entry.name


def _text(path: bytes) -> str:
    return os.fsdecode(path or b"/")


# -- what changed in place -----------------------------------------------------------------------------------------


def _changes_in_place(
    after: After, contents: Contents, old: Inode, new: Inode, is_named: bool, is_busy: bool
) -> list[ChangeKind]:
    """*is_named*: it got a name; *is_busy*: it is a directory whose entries changed."""
    found = []
    is_modified = new.kind == _FILE and contents.differs(old, new)
    if is_modified:
        found.append(ChangeKind.MODIFIED)
    if _set_fields(old) != _set_fields(new) or (new.xattrs_key in after.changed and new.xattrs_key):
        found.append(ChangeKind.ATTRIBUTES)
    elif not is_modified and not is_busy:
        lost_name = old.nlink != new.nlink
        if old.mtime_ns != new.mtime_ns or (old.ctime_ns != new.ctime_ns and not is_named and not lost_name):
            found.append(ChangeKind.ATTRIBUTES)
    return found


def _set_fields(inode: Inode) -> tuple[object, ...]:
    """What a caller sets, beside times. The access time follows reads and is told with other times alone."""
    return (
        inode.mode,
        inode.uid,
        inode.gid,
        inode.flags,
        inode.owner,
        inode.group,
        inode.xattrs,
        inode.xattrs_key,
        inode.rdev,
        inode.btime_ns,
    )


def _paths(after: After, inode: Inode) -> list[str]:
    """Every path of an inode; none for one without a name."""
    if inode.kind == _DIRECTORY:
        return [_text(after.path_of(inode.ino))] if inode.parents or inode.ino == ROOT else []
    return [
        _text(after.path_of(directory) + b"/" + after.name_at(directory, key, inode.ino))
        for directory, key in links.names(after.as_write_set, inode)
    ]

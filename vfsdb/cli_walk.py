"""A walk below a directory for commands: in the order of names, to any depth, going on behind what cannot be read."""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vfsdb.interface import Stat
from vfsdb.paths import join
from vfsdb.posix import VFS


class Visit(NamedTuple):
    """An entry that the walk comes to; a directory a second time, *leaving* it."""

    name: str
    path: str
    stat: Stat
    depth: int  # 0: the top
    last: bool = True  # of its directory
    leaving: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether something may be below it."""
        return stat_bits.S_ISDIR(self.stat.st_mode)


def walk(
    vfs: VFS,
    top: str,
    report: Callable[[OSError], object],
    wanted: Callable[[str, Stat], bool] = lambda name, stat: True,
    depth_max: int | None = None,
) -> Iterator[Visit]:
    """The *top*, and what is below it; links are not followed.

    Entries that are not *wanted* are left out with all below them. *report* is told what could not be listed; an
    error of the *top* itself is raised. Memory: the names of the directories on one path.
    """
    first = Visit(top.rstrip("/").rpartition("/")[2], top, vfs.lstat(top), 0)
    yield first
    if not first.is_directory:
        return
    stack = [(first, _entries(vfs, first, report, wanted, depth_max))]
    while stack:
        directory, entries = stack[-1]
        visit = next(entries, None)
        if visit is None:
            stack.pop()
            yield directory._replace(leaving=True)
            continue
        yield visit
        if visit.is_directory:
            stack.append((visit, _entries(vfs, visit, report, wanted, depth_max)))


def _entries(
    vfs: VFS,
    directory: Visit,
    report: Callable[[OSError], object],
    wanted: Callable[[str, Stat], bool],
    depth_max: int | None,
) -> Iterator[Visit]:
    if depth_max is not None and directory.depth >= depth_max:
        return
    try:
        found = [(name, stat) for name, stat in vfs.list_stats(directory.path) if wanted(name, stat)]
    except OSError as error:
        report(error)
        return
    found.sort(key=lambda entry: entry[0])
    for at, (name, stat) in enumerate(found, 1):
        yield Visit(name, join(directory.path, name), stat, directory.depth + 1, at == len(found))

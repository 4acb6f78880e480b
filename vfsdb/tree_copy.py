"""Carrying a tree from one place to another: every kind of entry, hard links among what is carried, attributes.

Order: the files of a directory, its other entries, then each directory below it, and last its own attributes. So at
any moment the target holds whole entries, and what was set of a directory is not changed by what is made in it.
"""

from __future__ import annotations

import os
import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from vfsdb.paths import join
from vfsdb.transfer import (
    GONE,
    PIECE_BYTES,
    Attributes,
    Content,
    Entries,
    OnError,
    Progress,
    Selection,
    Steps,
    TransferReport,
    Xattrs,
)

S = TypeVar("S")  # a directory of the source
T = TypeVar("T")  # a directory of the target
P = TypeVar("P")  # where the target has an inode


class Source(Protocol[S]):
    """Where a tree is read."""

    def enter(self, parent: S, name: bytes) -> S: ...
    def leave(self, directory: S) -> None: ...
    def entries(self, directory: S) -> Entries: ...
    def stat(self, directory: S, name: bytes) -> Attributes: ...
    def xattrs(self, directory: S, name: bytes) -> Xattrs: ...
    def readlink(self, directory: S, name: bytes) -> bytes: ...
    def open(self, directory: S, name: bytes) -> Content: ...


class Target(Protocol[T, P]):
    """Where it is made. What cannot be made whole is not there afterwards."""

    def enter(self, parent: T, name: bytes, attributes: Attributes, xattrs: Xattrs) -> tuple[T, bool]: ...
    def prepare(self, directory: T) -> None: ...
    def leave(self, directory: T, attributes: Attributes, xattrs: Xattrs) -> None: ...
    def unchanged(self, directory: T, name: bytes, attributes: Attributes) -> P | None: ...
    def file(self, directory: T, name: bytes, content: Content) -> tuple[P, int]: ...
    def symlink(self, directory: T, name: bytes, target: bytes, attributes: Attributes, xattrs: Xattrs) -> P: ...
    def node(self, directory: T, name: bytes, attributes: Attributes, xattrs: Xattrs) -> P: ...
    def link(self, existing: P, directory: T, name: bytes) -> None: ...


@dataclass(slots=True)
class Level(Generic[S, T]):
    """A directory on the way down."""

    source: S
    target: T | None  # None: made when something is to be put into it
    name: bytes
    path: bytes  # from the top, b"" for the top
    stat: Attributes
    xattrs: Xattrs
    included: bool  # everything below it is asked for
    directories: list[bytes] = field(default_factory=list)  # still to be entered, the first one last


@dataclass(slots=True)
class _Linked(Generic[P]):
    place: P
    missing: int  # names that were not met yet


class _Watched:
    """Content of a large file, whose every piece is an occasion to stop."""

    def __init__(self, content: Content, steps: Steps) -> None:
        self._content = content
        self._steps = steps
        self.stat = content.stat
        self.xattrs = content.xattrs
        self.whole, self.data, self.end, self.close = content.whole, content.data, content.end, content.close

    def read(self, size: int, offset: int) -> bytes:
        self._steps.tell()
        return self._content.read(size, offset)


class TreeCopy(Generic[S, T, P]):
    """One copying of a tree.

    Parameters
    ----------
    source, target : Source, Target
    names : (str, str)
        Paths of the two tops, for errors.
    report : TransferReport
        Where it is told what was done.
    count : callable
        Told the bytes of each entry that was made.
    """

    def __init__(
        self,
        source: Source[S],
        target: Target[T, P],
        names: tuple[str, str],
        *,
        selection: Selection,
        steps: Steps,
        onerror: OnError | None,
        update: bool,
        report: TransferReport,
        count: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self.report = report
        self._source = source
        self._target = target
        self._names = names
        self._selection = selection
        self._steps = steps
        self._onerror = onerror
        self._update = update
        self._count = count
        self._levels: list[Level[S, T]] = []
        self._links: dict[tuple[int, int], _Linked[P]] = {}

    def run(self, source: S, target: T) -> None:
        """Carry all that is below *source* to *target*, and its attributes. OSError, Stopped."""
        included = not self._selection.by_name
        reader = self._source
        self._target.prepare(target)
        self._go_down(Level(source, target, b"", b"", reader.stat(source, b""), reader.xattrs(source, b""), included))
        while self._levels:
            level = self._levels[-1]
            if level.directories:
                self._enter(level, level.directories.pop())
            else:
                self._leave()
        self._steps.tell()

    # -- directories -----------------------------------------------------------------------------------------------

    def _enter(self, above: Level[S, T], name: bytes) -> None:
        path = join(above.path, name)
        try:
            source = self._source.enter(above.source, name)
            found, xattrs = self._source.stat(source, b""), self._source.xattrs(source, b"")
        except OSError as error:
            self._lost(error, path)
            return
        level: Level[S, T] = Level(source, None, name, path, found, xattrs, above.included or self._includes(path))
        self._levels.append(level)
        made = not level.included or self._try_make(level)
        self._levels.pop()
        if made:
            self._go_down(level)
        else:
            self._source.leave(source)

    def _includes(self, path: bytes) -> bool:
        return self._selection.includes(path, True)

    def _try_make(self, level: Level[S, T]) -> bool:
        try:
            self._place(level)
        except OSError as error:
            self._failed(error, level.path)
            return False
        return True

    def _place(self, level: Level[S, T]) -> T:
        """The target's directory of *level*, which is the lowest one, made where it was not yet."""
        if level.target is None:
            for above, below in zip(self._levels, self._levels[1:], strict=False):
                if below.target is None:
                    assert above.target is not None, "made on the way down"
                    below.target, made = self._target.enter(above.target, below.name, below.stat, below.xattrs)
                    self.report.directories += made
                    self._done(0)
        assert level.target is not None, "made just now"
        return level.target

    def _go_down(self, level: Level[S, T]) -> None:
        try:
            entries = self._source.entries(level.source)
        except OSError as error:
            self._lost(error, level.path)
            entries = Entries([], [], [])
        self._levels.append(level)
        entries = chosen(self._selection, level.path, level.included, entries)
        level.directories = entries.directories[::-1]
        for name in entries.files:
            self._file(level, name)
        for name, _ in entries.others:
            self._other(level, name)

    def _leave(self) -> None:
        level = self._levels.pop()
        try:
            if level.target is not None:
                self._target.leave(level.target, level.stat, level.xattrs)
        except OSError as error:
            self._failed(error, level.path)
        self._source.leave(level.source)

    # -- what is in them -------------------------------------------------------------------------------------------

    def _file(self, level: Level[S, T], name: bytes) -> None:
        try:
            content = self._source.open(level.source, name)
        except OSError as error:
            self._lost(error, join(level.path, name))
            return
        written = 0
        try:
            written = self._carry(level, name, content)
        except OSError as error:
            self._failed(error, join(level.path, name))
        finally:
            content.close()
        self._done(written)

    def _carry(self, level: Level[S, T], name: bytes, content: Content) -> int:
        found, report = content.stat, self.report
        if found.st_size > PIECE_BYTES:
            content = _Watched(content, self._steps)
        directory = level.target if level.target is not None else self._place(level)
        if found.st_nlink > 1 and self._linked(found, directory, name):
            return 0
        place = self._target.unchanged(directory, name, found) if self._update else None
        written = 0
        if place is None:
            place, written = self._target.file(directory, name, content)
            report.files += 1
            report.size_bytes += written
        else:
            report.skipped += 1
        self._remember(found, place)
        return written

    def _other(self, level: Level[S, T], name: bytes) -> None:
        source, path = self._source, join(level.path, name)
        try:
            found = source.stat(level.source, name)
            kind = stat_bits.S_IFMT(found.st_mode)
            target = source.readlink(level.source, name) if kind == stat_bits.S_IFLNK else b""
            xattrs = source.xattrs(level.source, name)
        except OSError as error:
            self._lost(error, path)
            return
        if kind in (stat_bits.S_IFREG, stat_bits.S_IFDIR):
            self.report.vanished += 1
            return
        try:
            directory = self._place(level)
            if found.st_nlink == 1 or not self._linked(found, directory, name):
                if kind == stat_bits.S_IFLNK:
                    place = self._target.symlink(directory, name, target, found, xattrs)
                    self.report.symlinks += 1
                else:
                    place = self._target.node(directory, name, found, xattrs)
                    self.report.others += 1
                self._remember(found, place)
        except OSError as error:
            self._failed(error, path)
            return
        self._done(0)

    def _linked(self, found: Attributes, directory: T, name: bytes) -> bool:
        """Make another name of an inode that was carried before; False where it was not."""
        key = (found.st_dev, found.st_ino)
        known = self._links.get(key)
        if known is None:
            return False
        self._target.link(known.place, directory, name)
        self.report.hard_links += 1
        known.missing -= 1
        if not known.missing:
            del self._links[key]
        return True

    def _remember(self, found: Attributes, place: P) -> None:
        if found.st_nlink > 1:
            self._links[found.st_dev, found.st_ino] = _Linked(place, found.st_nlink - 1)

    # -- what became of it -----------------------------------------------------------------------------------------

    def _done(self, written: int) -> None:
        self._count(written)
        self._steps.step()

    def _lost(self, error: OSError, path: bytes) -> None:
        """The source could not be read: it went meanwhile, or it is an error. The top cannot go."""
        if path and error.errno in GONE:
            self.report.vanished += 1
        else:
            self._failed(error, path)

    def _failed(self, error: OSError, path: bytes) -> None:
        relative = os.fsdecode(path)
        error.filename = os.path.join(self._names[0], relative) if path else self._names[0]
        error.filename2 = os.path.join(self._names[1], relative) if path else self._names[1]
        if self._onerror is None:
            raise error
        self.report.errors += 1
        self._onerror(error)


def chosen(selection: Selection, path: bytes, included: bool, entries: Entries) -> Entries:
    """What of the *entries* of the directory *path* is taken. *included*: all that is not excluded."""
    if selection.everything:
        return entries

    def taken(name: bytes) -> bool:
        below = join(path, name)
        return not selection.excludes(below, False) and (included or selection.includes(below, False))

    return Entries(
        [name for name in entries.files if taken(name)],
        [(name, kind) for name, kind in entries.others if taken(name)],
        [name for name in entries.directories if not selection.excludes(join(path, name), True)],
    )


def count_entries(source: Source[S], top: S, selection: Selection, progress: Progress | None) -> int:
    """How many steps carrying the tree will take, about; 0 where nobody is told. Stopped."""
    if progress is None:
        return 0
    steps = Steps(progress, "counting", "entries")
    todo = [(source.entries(top), top, b"", not selection.by_name)]
    waiting: list[tuple[S, bytes, bool, list[bytes]]] = []
    total = 0
    while todo or waiting:
        if todo:
            entries, directory, path, included = todo.pop()
            entries = chosen(selection, path, included, entries)
            total += len(entries.files) + len(entries.others) + bool(path)
            steps.done = total
            steps.tell()
            waiting.append((directory, path, included, entries.directories[::-1]))
            continue
        directory, path, included, names = waiting[-1]
        if not names:
            waiting.pop()
            if path:
                source.leave(directory)
            continue
        name = names.pop()
        below = join(path, name)
        try:
            entered = source.enter(directory, name)
            todo.append((source.entries(entered), entered, below, included or selection.includes(below, True)))
        except OSError:
            total += 1  # told when it is carried
    return total

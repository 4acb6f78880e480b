"""States of a filesystem that a feed compares: the one at its version, and the one after a commit.

Invariants
----------
* `State` shows the records at one version: what changed since its base is in memory, all of it, the rest is the base's.
* A record that is no inode, page or set of attributes (counters, free pages) is as good as none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

from vfsdb import directories
from vfsdb.codecs import record_type
from vfsdb.database import MetadataView
from vfsdb.errors import CorruptionError
from vfsdb.interface import ROOT
from vfsdb.records import COUNTERS_KEY, FREE_PAGE, SUPERBLOCK_KEY, Inode, Page
from vfsdb.state import Record, decode
from vfsdb.writeset import WriteSet

_DECODED_MAX: Final = 20_000  # records kept decoded
_PATHS_MAX: Final = 20_000
_UNUSED: Final = (SUPERBLOCK_KEY, COUNTERS_KEY)
_DEPTH_MAX: Final = 1_000_000
Changed = Mapping[int, bytes | None]


class Records(ABC):
    """Records of one moment by key. What stands under a key is decoded once."""

    def __init__(self) -> None:
        self._decoded: dict[int, Record | None] = {}
        self.paths: dict[int, bytes] = {ROOT: b""}  # of directories

    @abstractmethod
    def raw(self, key: int) -> bytes | None:
        """The stored record."""

    def get(self, key: int) -> Record | None:
        """The record under *key*; None where there is none that matters."""
        found = self._decoded.get(key, self)
        if found is not self:
            return cast("Record | None", found)
        record = self._decoded[key] = _decoded(self.raw(key), key)
        return record

    def find_inode(self, ino: int) -> Inode | None:
        """The inode *ino*, None where there is none."""
        record = self.get(ino)
        return record if isinstance(record, Inode) else None

    def inode(self, ino: int) -> Inode:
        """The inode *ino*. CorruptionError where there is none."""
        found = self.find_inode(ino)
        if found is None:
            raise CorruptionError(f"metadata record {ino} is no inode, but a name leads there; run fsck")
        return found

    def page(self, key: int) -> Page:
        """The page under *key*. CorruptionError where there is none."""
        record = self.get(key)
        if not isinstance(record, Page):
            raise CorruptionError(f"metadata record {key} is no page, but another page leads there; run fsck")
        return record

    @property
    def as_write_set(self) -> WriteSet:
        """For functions that only read inodes and pages."""
        return cast(WriteSet, self)

    def name_at(self, directory: int, key: int, ino: int) -> bytes:
        """The name of the entry under *key* of *directory*, which is *ino*'s. CorruptionError where it is not."""
        return directories.name_at(self.as_write_set, self.inode(directory), key, ino)

    def path_of(self, directory: int) -> bytes:
        """The path of a directory, without a slash at its end. O(depth), remembered. CorruptionError."""
        known = self.paths.get(directory)
        if known is not None:
            return known
        names: list[tuple[int, bytes]] = []
        at = directory
        while at not in self.paths:
            parents = self.inode(at).parents
            if not parents or len(names) > _DEPTH_MAX:
                raise CorruptionError(f"no way leads from directory {directory} to the root; run fsck")
            parent, key = parents[0]
            names.append((at, self.name_at(parent, key, at)))
            at = parent
        path = self.paths[at]
        if len(self.paths) > _PATHS_MAX:
            self.paths.clear()
            self.paths[ROOT] = b""
        for ino, name in reversed(names):
            path = self.paths[ino] = path + b"/" + name
        return path


class State(Records):
    """The state at the version of a feed: *base*, and what changed since."""

    def __init__(self, base: MetadataView) -> None:
        super().__init__()
        self.base = base
        self._changed: dict[int, bytes | None] = {}
        self.changed_bytes = 0

    def raw(self, key: int) -> bytes | None:
        """See `Records.raw`."""
        found = self._changed.get(key, b"")
        return self.base.get(key) if found == b"" else found

    def changed_keys(self) -> Iterable[int]:
        """Keys that changed since the base."""
        return self._changed.keys()

    def absorb(self, after: After) -> None:
        """Become the state *after*."""
        if len(self._decoded) > _DECODED_MAX:
            self._decoded.clear()
        for key, value in after.changed.items():
            self._decoded.pop(key, None)
            before = self._changed.get(key)
            self._changed[key] = value
            self.changed_bytes += len(value or b"") - len(before or b"") + 100
        self._decoded |= after.own_decoded()
        self.paths = after.paths

    def rebase(self, base: MetadataView) -> None:
        """Stand on *base*, which shows the very same state; the old one is closed."""
        self.base.close()
        self.base = base
        self._changed.clear()
        self.changed_bytes = 0

    def close(self) -> None:
        """Give the base back."""
        self.base.close()


class After(Records):
    """The state after a commit that *changed* these records of *before*."""

    def __init__(self, before: State, changed: Changed) -> None:
        super().__init__()
        self.before = before
        self.changed = {key: _kept(value, key) for key, value in changed.items() if key not in _UNUSED}
        self.paths = before.paths

    def raw(self, key: int) -> bytes | None:
        """See `Records.raw`."""
        return self.changed[key] if key in self.changed else self.before.raw(key)

    def get(self, key: int) -> Record | None:
        """See `Records.get`."""
        return super().get(key) if key in self.changed else self.before.get(key)

    def own_decoded(self) -> dict[int, Record | None]:
        """The decoded ones among the changed records."""
        return self._decoded

    def forget_paths(self) -> None:
        """A directory has another path than before: paths are found anew."""
        self.paths = {ROOT: b""}

    def pages_of(self, record_type: int) -> Iterator[tuple[int, Page | None, Page | None]]:
        """(key, the page before, the page after) of the changed pages of a type."""
        for key in self.changed:
            old, new = self.before.get(key), self.get(key)
            was = old if isinstance(old, Page) and old.record_type == record_type else None
            now = new if isinstance(new, Page) and new.record_type == record_type else None
            if was is not None or now is not None:
                yield key, was, now


def _kept(value: bytes | None, key: int) -> bytes | None:
    return None if value is None or record_type(value, key) == FREE_PAGE else value


def _decoded(data: bytes | None, key: int) -> Record | None:
    return None if _kept(data, key) is None or data is None else decode(data, key)

"""`CrashStorage`: a disk in memory whose power can be cut. Public through `ourdb.testing`.

Invariant: what no completed sync covers is kept as a list of changes, and any of them may be lost,
torn at 512 bytes, or arrive without an earlier one; what a sync covers is there.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from ourdb.memory import Inode, MemoryStorage

SECTOR_BYTES = 512
Keep = Literal["none", "all", "random", "torn"]


class PowerCut(BaseException):
    """The power went: no ``except Exception`` catches it, and the storage takes no further call."""


class _Write(NamedTuple):
    offset: int
    data: bytes


class _Size(NamedTuple):
    length: int
    shrinks: bool


class _Name(NamedTuple):
    """A change of the directory that is not durable yet: *target* names *inode* now (None: nothing)."""

    target: str
    inode: Inode | None
    source: str = ""  # what the name was before a rename


class _Disk:
    """What one file is on the disk for sure, and what may reach it in any order."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.seen = bytearray(durable)  # the same with all that is pending
        self.pending: list[_Write | _Size] = []

    def add(self, change: _Write | _Size) -> None:
        self.pending.append(change)
        _apply(self.seen, change)

    def sync(self) -> None:
        self.durable = bytearray(self.seen)
        self.pending.clear()


def _apply(data: bytearray, change: _Write | _Size) -> None:
    if isinstance(change, _Write):
        if len(data) < change.offset:
            data.extend(bytes(change.offset - len(data)))
        data[change.offset : change.offset + len(change.data)] = change.data
    elif change.shrinks:
        del data[change.length :]
    elif len(data) < change.length:
        data.extend(bytes(change.length - len(data)))


class CrashStorage(MemoryStorage):
    """A disk in memory whose power can be cut at any step.

    A step is one change or sync: a write, truncate, allocate, sync, create, rename, remove, or
    directory sync. Reads are none; nor are stores through a map (*maps_writes*): they are found at
    the next step.

    Parameters
    ----------
    steps_max : int, optional
        The power goes in step number *steps_max* (from 0): `PowerCut` is raised there, and by every
        later call that would change something.
    maps_writes, capacity_bytes, path
        See `MemoryStorage`.

    Attributes
    ----------
    steps : int
        Steps taken so far. Run a workload once without a cut, then with each ``range(steps)``.
    """

    def __init__(
        self,
        *,
        steps_max: int | None = None,
        maps_writes: bool = False,
        capacity_bytes: int | None = None,
        path: str = "/memory",
    ) -> None:
        super().__init__(maps_writes=maps_writes, capacity_bytes=capacity_bytes, path=path)
        self.steps = 0
        self.steps_max = steps_max
        self._is_cut = False
        self._disks: dict[Inode, _Disk] = {}
        self._durable_names: dict[str, Inode] = {}
        self._pending_names: list[_Name] = []

    def cut(self) -> None:
        """Cut the power now: no later call changes anything."""
        with self._mutex:
            self._find_stores()
            self._is_cut = True

    def _before(self, kind: str, inode: Inode | None, *details: Any) -> None:
        if self._is_cut:
            raise PowerCut("the power is off")
        self._find_stores()
        last = self.steps_max is not None and self.steps >= self.steps_max
        self.steps += 1
        if not (last and kind in ("sync", "directory")):
            self._record(kind, inode, details)
        if last:
            self._is_cut = True
            raise PowerCut(f"the power went in step {self.steps - 1}, a {kind}")

    def _record(self, kind: str, inode: Inode | None, details: tuple[Any, ...]) -> None:
        if inode is None:
            for change in self._pending_names:
                _rename(self._durable_names, change)
            self._pending_names.clear()
            return
        disk = self._disks.setdefault(inode, _Disk())
        if kind == "write":
            disk.add(_Write(*details))
        elif kind in ("truncate", "allocate"):
            disk.add(_Size(details[0], details[0] < len(disk.seen)))
        elif kind == "sync":
            disk.sync()
        elif kind == "create":
            self._pending_names.append(_Name(details[0], inode))
        elif kind == "rename":
            self._pending_names.append(_Name(details[1], inode, details[0]))
        else:
            assert kind == "remove"
            self._pending_names.append(_Name(details[0], None))

    def _find_stores(self) -> None:
        """Record what was stored through maps since the last step, sector by sector."""
        for inode, disk in self._disks.items() if self.maps_writes else ():
            if not inode.mapped or inode.buffer == disk.seen:
                continue
            for start in range(0, len(inode.buffer), SECTOR_BYTES):
                data = inode.buffer[start : start + SECTOR_BYTES]
                if data != disk.seen[start : start + SECTOR_BYTES]:
                    disk.add(_Write(start, data))

    def after_power_cut(self, seed: int | None = None, keep: Keep = "random") -> CrashStorage:
        """A new storage with what this disk may hold after the power went.

        Parameters
        ----------
        seed : int, optional
            Chooses among the possibilities; default: the number of steps. Same seed, same result.
        keep : {"none", "all", "random", "torn"}
            What becomes of that which no sync covers. ``none``: all of it is lost. ``all``: none of
            it (as after a killed process). ``random``: each change of a file or name is there, not
            there, or there in part. ``torn``: all is there but the last write, which is cut.
        """
        if keep not in ("none", "all", "random", "torn"):
            raise ValueError(f"keep is {keep!r}; it is one of none, all, random, torn")
        with self._mutex:
            self._find_stores()
            chance = random.Random(self.steps if seed is None else seed)
            names = dict(self._durable_names)
            for change in self._pending_names:
                if keep in ("all", "torn") or (keep == "random" and chance.random() < 0.5):
                    _rename(names, change)
            after = CrashStorage(maps_writes=self.maps_writes, capacity_bytes=self.capacity_bytes, path=self.path)
            made: dict[Inode, Inode] = {}
            for name, inode in sorted(names.items()):
                if inode not in made:
                    data = _left_of(self._disks.get(inode, _Disk()), keep, chance)
                    made[inode] = Inode(data)
                    after._disks[made[inode]] = _Disk(data)
                after._inodes[name] = after._durable_names[name] = made[inode]
            return after


def _rename(names: dict[str, Inode], change: _Name) -> None:
    if change.source and names.get(change.source) is change.inode:
        del names[change.source]
    if change.inode is None:
        names.pop(change.target, None)
    else:
        names[change.target] = change.inode


def _left_of(disk: _Disk, keep: Keep, chance: random.Random) -> bytes:
    """One of the contents that *disk* may have after a power cut."""
    if keep == "all":
        return bytes(disk.seen)
    data = bytearray(disk.durable)
    if keep == "none":
        return bytes(data)
    last = max((at for at, change in enumerate(disk.pending) if isinstance(change, _Write)), default=-1)
    for at, change in enumerate(disk.pending):
        fate = chance.choice(("there", "lost", "torn")) if keep == "random" else ("torn" if at == last else "there")
        if fate == "there":
            _apply(data, change)
        elif fate == "torn" and isinstance(change, _Write):
            for piece in _torn(change, chance):
                _apply(data, piece)
    return bytes(data)


def _torn(write: _Write, chance: random.Random) -> list[_Write]:
    """Part of a write: up to some sector, or any of its sectors."""
    first = SECTOR_BYTES - write.offset % SECTOR_BYTES
    bounds = [0, *range(first, len(write.data), SECTOR_BYTES), len(write.data)]
    pieces = [_Write(write.offset + start, write.data[start:stop]) for start, stop in pairwise(bounds)]
    if chance.random() < 0.5:
        return pieces[: chance.randrange(len(pieces))]
    return [piece for piece in pieces if chance.random() < 0.5]

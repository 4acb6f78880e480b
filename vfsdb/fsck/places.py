"""The two stores of a filesystem as wholes: whether each is in its place, and what a repair does where one is not.

A store that is of another filesystem is never taken for the one that belongs there, and never overwritten. One that is
not there is made anew, empty, only for somebody who says that it is given up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, Literal

from vfsdb import codecs
from vfsdb.errors import CorruptionError, FormatError, StoreBusyError, os_error
from vfsdb.fsck.findings import Finding, Report
from vfsdb.records import COUNTERS_KEY, Counters
from vfsdb.stores import ourdb_switch
from vfsdb.stores.ourdb_fsck import Storages, is_blank, kind_of, make_blocks, make_metadata

Which = Literal["metadata", "data"]
NAMES: Final[tuple[Which, Which]] = ("metadata", "data")
_ASIDE: Final = ".fsck-swap"
_BROKEN_SWITCH: Final = ".damaged"
_STEP_SECONDS: Final = 0.05
_KEYS_AT_ONCE: Final = 4096


class Places:
    """Where the stores are.

    Parameters
    ----------
    path : str
        The filesystem's directory, or the first one of its stores where these were named.
    directories : list[str]
        Of the metadata and of the data.
    is_whole : bool
        Both lie in *path*, where backups leave the file of their switch.
    report : Report
        Gets what is found and done.

    Attributes
    ----------
    storages : (Storage, Storage) or None
        How the stores are to be read where a switch of a backup was announced and is not in place.
    """

    def __init__(self, path: str, directories: list[str], is_whole: bool, report: Report) -> None:
        self._path = path
        self._directories = directories
        self._is_whole = is_whole
        self._report = report
        self.storages: Storages | None = None

    @contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """Keep other repairs away for as long as the block runs. StoreBusyError after *seconds*."""
        above = os.path.dirname(self._directories[0])
        until = time.monotonic() + seconds
        descriptor = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while not _is_locked_by_us(descriptor):
                if time.monotonic() >= until:
                    raise StoreBusyError("another repair is under way here; wait for it", above)
                time.sleep(_STEP_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def are_sound(self, repair: bool, give_up: Which | None) -> bool:
        """Whether both stores are in their place; with *repair* they are put there."""
        if repair:
            self._end_swap()
        self._switch(repair)
        kinds = [kind_of(directory, storage) for directory, storage in self._each()]
        if kinds == ["missing", "missing"]:
            raise FileNotFoundError(errno.ENOENT, "there is no filesystem here", self._path)
        if kinds == ["data", "metadata"]:
            self._find("store.swapped", "each lies in the other's directory", self._path)
            if not repair:
                return False
            self._swap()
            return True
        if give_up is not None:
            self._give_up(give_up)
            return True
        is_sound = True
        for directory, kind, right in zip(self._directories, kinds, NAMES, strict=True):
            if kind == "missing":
                self._find("store.missing", _MISSING[right], directory)
            elif kind in NAMES and kind != right:
                self._find("store.foreign", f"this is a store of {kind}", directory)
            else:
                continue
            is_sound = False
        return is_sound

    def _each(self) -> Iterator[tuple[str, Any]]:
        yield from zip(self._directories, self.storages or (None, None), strict=True)

    def _find(self, code: str, problem: str, store: str) -> None:
        self._report.findings.append(Finding(code, problem, store=store))

    def _did(self, what: str) -> None:
        self._report.repaired = True
        self._report.actions.append(what)

    # -- stores in each other's place ------------------------------------------------------------------------

    def _end_swap(self) -> None:
        """Go on where a repair before this one was cut off."""
        metadata, data = self._directories
        aside = metadata + _ASIDE
        if os.path.isdir(aside) and not os.path.isdir(data):
            os.rename(aside, data)
        elif os.path.isdir(aside) and not os.path.isdir(metadata):
            os.rename(data, metadata)
            os.rename(aside, data)

    def _swap(self) -> None:
        metadata, data = self._directories
        aside = metadata + _ASIDE
        os.rename(metadata, aside)
        os.rename(data, metadata)
        os.rename(aside, data)
        for directory in self._directories:
            _sync_directory(os.path.dirname(directory))
        self._did("put the two stores into each other's place")

    # -- a backup that was taking effect ---------------------------------------------------------------------

    def _switch(self, repair: bool) -> None:
        """End, or look through, the switch of a backup that was cut off between its two stores."""
        if not self._is_whole:
            return
        file = os.path.join(self._path, ourdb_switch.NAME)
        try:
            found = ourdb_switch.staged(self._path, NAMES)
        except (CorruptionError, FormatError) as error:
            self._find("switch.damaged", str(error.problem), file)
            if repair:
                os.rename(file, file + _BROKEN_SWITCH)
                _sync_directory(self._path)
                self._report.kept.append(file + _BROKEN_SWITCH)
                self._did("set the file of the switch aside; each store is as it was found")
            return
        if found is None:
            return
        self._find("switch.pending", "a backup was cut off while it took effect; it is read as the new one", file)
        if repair:
            ourdb_switch.finish(self._path, NAMES)
            self._did("put the backup in place that was taking effect")
        else:
            self.storages = found

    # -- a store that is gone --------------------------------------------------------------------------------

    def _give_up(self, which: Which) -> None:
        """Make *which* anew, empty, where there is none. EINVAL where there is one."""
        directory = self._directories[NAMES.index(which)]
        other = self._directories[1 - NAMES.index(which)]
        if not is_blank(directory):
            reason = "there is a store; what is given up must be gone: move it away, if it is not the right one"
            raise os_error(errno.EINVAL, directory, reason=reason)
        if kind_of(other) not in NAMES:
            raise os_error(errno.EINVAL, other, reason="this store cannot be read; nothing is left to go on with")
        self._find("store.missing", _MISSING[which], directory)
        if which == "data":
            make_blocks(directory, other)
        else:
            make_metadata(directory, other, _first_record)
        self._did(f"made an empty store in {directory}, for the one that was given up")


def _first_record(keys: Iterator[int], needs: int) -> dict[int, bytes]:
    """Counters that know of every block, so that a repair keeps what it frees."""
    newest = -1
    while chosen := list(islice(keys, _KEYS_AT_ONCE)):
        newest = chosen[-1]
    return {COUNTERS_KEY: codecs.encode_counters(Counters(next_block=newest + 1, needs=needs))}


_MISSING: Final = {
    "metadata": "there is no store: no name, and no file's map is left; only bytes of blocks can be kept (give_up)",
    "data": "there is no store: names, attributes and small files are left, no other content (give_up goes on so)",
}


def _is_locked_by_us(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

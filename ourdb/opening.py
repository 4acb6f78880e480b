"""Open or make a store directory: what is there, which settings hold, who has the lock.

Invariants
----------
* A directory that holds anything but a store (or the beginnings of one) is never touched.
* The manifest is the first file that makes a directory a store; no segment is older than it.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from typing import Any

from ourdb import delta, index, leases, relocation, segment, snapshot
from ourdb import manifest as manifests
from ourdb.codecs import codec_named
from ourdb.errors import CorruptionError, InvalidArgumentError, NotAStoreError, StoreLockedError
from ourdb.format import KEY_MAX, SEGMENT_BYTES_MAX, VALUE_BYTES_MAX
from ourdb.manifest import Manifest, Retention, Settings
from ourdb.recovery import STATE_NAME
from ourdb.reserve import RESERVE_NAME
from ourdb.storage import Lock, Storage, lock_with_timeout

LOCK_NAME = "LOCK"
SEGMENT_BYTES_MIN = 4096
_LOOK_SECONDS = 0.05
_SINGLE = {LOCK_NAME, manifests.NAME, manifests.TEMPORARY, STATE_NAME, RESERVE_NAME, index.TEMPORARY}
_FAMILIES = (index, delta, relocation, segment, leases, snapshot)


@dataclass(frozen=True)
class Wanted:
    """Settings the caller asked for; None takes what is stored (or the default)."""

    incremental: bool | None = None
    key_max: int | None = None
    value_bytes_max: int | None = None
    segment_bytes: int | None = None
    codec: str | None = None
    retention: Retention | None = None


def is_ours(name: str) -> bool:
    """Whether a file of that name belongs to a store."""
    return name in _SINGLE or any(
        name.startswith(family.PREFIX) and name.endswith(family.SUFFIX) for family in _FAMILIES
    )


def checked_settings(wanted: Wanted, stored: Settings) -> Settings:
    """*stored* with what *wanted* changes. InvalidArgumentError for a value out of range."""
    given = {name: value for name, value in vars(wanted).items() if value is not None}
    _check_int(given, "key_max", 0, KEY_MAX)
    _check_int(given, "value_bytes_max", 0, VALUE_BYTES_MAX)
    _check_int(given, "segment_bytes", SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    if "codec" in given:
        codec_named(given["codec"])
    if not isinstance(given.get("incremental", False), bool):
        raise InvalidArgumentError(f"incremental is {given['incremental']!r}; it is True or False")
    check_retention(given.get("retention", Retention()))
    return replace(stored, **given)


def check_retention(retention: object) -> None:
    """InvalidArgumentError for anything that is no rule."""
    if not isinstance(retention, Retention):
        raise InvalidArgumentError(f"retention is {retention!r}; give an ourdb.Retention")
    versions, seconds = retention.versions, retention.seconds
    if type(versions) is not int or versions < 0:
        raise InvalidArgumentError(f"Retention.versions is {versions!r}; it is an int, 0 or more")
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e12:
        raise InvalidArgumentError(f"Retention.seconds is {seconds!r}; it is a number, 0 or more")
    if not isinstance(retention.all, bool):
        raise InvalidArgumentError(f"Retention.all is {retention.all!r}; it is True or False")


def _check_int(given: dict[str, Any], name: str, low: int, high: int) -> None:
    value = given.get(name, low)
    if type(value) is not int or not low <= value <= high:
        raise InvalidArgumentError(f"{name} is {value!r}; it is an int from {low} to {high}")


def check_directory(storage: Storage, *, must_exist: bool) -> bool:
    """Whether the directory holds a store. NotAStoreError for what is no store and must not become one."""
    path = storage.path
    if not os.path.isdir(path):
        if os.path.lexists(path):
            raise NotAStoreError(f"{path}: a file, not a store (a store is a directory)")
        if must_exist:
            raise NotAStoreError(f"{path}: there is no store (open it with mode 'c' to make one)")
        return False
    return check_names(storage, must_exist=must_exist)


def check_names(storage: Storage, *, must_exist: bool) -> bool:
    """`check_directory` for a directory that is there."""
    path = storage.path
    names = storage.names()
    if manifests.NAME in names:
        return True
    if any(segment.segment_number(name) is not None for name in names):
        raise CorruptionError(
            "the manifest is missing, but segments are there; `ourdb repair` can rebuild it",
            f"{path}/{manifests.NAME}",
            0,
        )
    foreign = [name for name in names if not is_ours(name)]
    if foreign:
        raise NotAStoreError(f"{path}: the directory holds something else ({foreign[0]!r}) and no store")
    if must_exist:
        raise NotAStoreError(f"{path}: the directory holds no store (open it with mode 'c' to make one)")
    return False


def take_lock(storage: Storage, timeout: float) -> Lock:
    """The writer's lock. StoreLockedError with the holder's pid where it stays taken."""
    # whoever looks whether a writer lives holds the lock for an instant: that is no writer
    lock = lock_with_timeout(storage, LOCK_NAME, max(timeout, _LOOK_SECONDS))
    if lock is None:
        holder = storage.read_file(LOCK_NAME).decode("ascii", "replace").strip()
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise StoreLockedError(
            f"{storage.path}: {who} has the store open for writing; readers (mode 'r') may join, "
            "a second writer waits with lock_timeout"
        )
    try:
        file = storage.open(LOCK_NAME, write=True)
        try:
            file.write(b"%-20d\n" % os.getpid(), 0)
        finally:
            file.close()
    except BaseException:
        lock.close()
        raise
    return lock


def open_manifest(storage: Storage, wanted: Wanted, *, fresh: bool, exists: bool) -> Manifest:
    """The manifest of a store opened for writing, made where there is none (or *fresh* is asked)."""
    if fresh or not exists:
        made = Manifest(uuid.uuid4().hex, settings=checked_settings(wanted, Settings()))
        manifests.switch(storage, made)
        return made
    current = manifests.read(storage)
    settings = checked_settings(wanted, current.settings)
    for name in ("incremental", "key_max", "value_bytes_max", "codec"):
        if getattr(settings, name) != getattr(current.settings, name):
            raise InvalidArgumentError(
                f"{storage.path}: the store was made with {name}={getattr(current.settings, name)!r}, "
                f"asked for {getattr(settings, name)!r}; it cannot change"
            )
    if settings != current.settings:
        current = current.next_version(settings=settings)
        manifests.switch(storage, current)
    return current


def remove_leftovers(storage: Storage, manifest: Manifest) -> None:
    """Remove what an interrupted roll, checkpoint or compaction left: nothing that the manifest names."""
    listed = {entry.number for entry in manifest.segments} | {number for number, _, _ in manifest.retired}
    pinned = {entry.generation for entry in manifest.snapshots}
    removed = False
    for name in storage.names():
        number = segment.segment_number(name)
        stale = (
            name in (manifests.TEMPORARY, index.TEMPORARY)
            or (number is not None and number not in listed)
            or (
                name.startswith(relocation.PREFIX)
                and name.endswith(relocation.SUFFIX)
                and name != relocation.relocation_name(manifest.relocations)
            )
            or (name.startswith(snapshot.PREFIX) and name.endswith(snapshot.SUFFIX) and name not in pinned)
        )
        if stale:
            storage.remove(name)
            removed = True
    if removed:
        storage.sync_directory()


def remove_indexes(storage: Storage, manifest: Manifest) -> None:
    """Remove the index files of the store that a new one replaces."""
    pinned = {entry.generation for entry in manifest.snapshots}
    for name in storage.names():
        if name.endswith(index.SUFFIX) and is_ours(name) and name not in pinned:
            storage.remove(name)

"""Which state a name, a version or a time means, and the engine's view of it.

Invariant: a state is shown only where both stores keep it whole: the metadata engine says so of its records, and the
block store of the blocks that they name (`BlockStore.forgotten`).
"""

from __future__ import annotations

import errno
import math
from datetime import UTC, datetime, timedelta
from typing import Final

from vfsdb.database import Historic, MetadataStore, MetadataView, Stores
from vfsdb.errors import HistoryLostError, os_error
from vfsdb.interface import When
from vfsdb.stores.view_store import ViewStore

NAME_CHARACTERS_MAX: Final = 200
_NS_MAX: Final = 1 << 63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def historic(store: MetadataStore) -> Historic:
    """*store*, where it keeps earlier states. EOPNOTSUPP."""
    if isinstance(store, ViewStore):
        reason = "this is a state that does not change: ask the filesystem that it is of"
        raise os_error(errno.EOPNOTSUPP, reason=reason)
    if not isinstance(store, Historic):
        raise os_error(errno.EOPNOTSUPP, reason="its metadata engine keeps no earlier states")
    return store


def checked_name(name: str) -> str:
    """*name* where a snapshot can have it. EINVAL, TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"a snapshot's name is a str, not {type(name).__name__}")
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable() or "/" in name or name in (".", ".."):
        reason = f"snapshot name {name!r:.80}: 1 to {NAME_CHARACTERS_MAX} printable characters, no '/', not '.' or '..'"
        raise os_error(errno.EINVAL, reason=reason)
    return name


def open_moment(stores: Stores, when: When) -> MetadataView:
    """The metadata as it was at *when*; close it when done.

    Parameters
    ----------
    stores : Stores
    when : str, int, float or datetime
        Name of a snapshot; version of a commit; seconds since 1970, or a datetime (without a zone: local time): the
        newest commit at or before it.

    Raises
    ------
    FileNotFoundError
        There is no snapshot of that name.
    HistoryLostError
        That state is not kept.
    TypeError, OSError (EINVAL, EOPNOTSUPP)
    """
    metadata = stores.metadata
    store = historic(metadata.origin if isinstance(metadata, ViewStore) else metadata)
    if isinstance(when, str):
        return store.open_snapshot(checked_name(when))
    version = _checked_version(store, when, stores.path) if type(when) is int else store.version_at(nanoseconds(when))
    try:
        view = store.view_at(version)
        if view.version >= stores.blocks.forgotten:
            return view
        version = view.version
        view.close()
        raise HistoryLostError(
            f"the state at version {version} is not kept: blocks that were freed up to {stores.blocks.forgotten} are "
            "gone; a retention rule keeps them, a snapshot keeps a state",
            stores.path,
        )
    except HistoryLostError:
        named = _snapshot_of(store, version)
        if named is None:
            raise
        return named


def _checked_version(store: Historic, version: int, path: str) -> int:
    newest = store.version
    if not 0 <= version <= newest:
        raise HistoryLostError(f"there is no version {version}; the newest is {newest}", path)
    return version


def _snapshot_of(store: Historic, version: int) -> MetadataView | None:
    """The state of a snapshot that was made at *version*."""
    name = next((named.name for named in store.snapshots() if named.version == version), None)
    return None if name is None else store.open_snapshot(name)


def nanoseconds(when: object) -> int:
    """A datetime, or seconds since 1970, as nanoseconds. TypeError, EINVAL."""
    if isinstance(when, datetime):
        try:
            return (when.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000
        except (OverflowError, ValueError) as error:  # without a zone, at the ends of what a datetime can say
            raise os_error(errno.EINVAL, reason=f"{when!r} is no time here: {error}") from None
    if not isinstance(when, float):
        raise TypeError(f"a moment is a snapshot's name, a version, a time; not {type(when).__name__}")
    if not math.isfinite(when) or abs(when) * 1e9 >= _NS_MAX:
        raise os_error(errno.EINVAL, reason=f"{when!r} is no time in seconds since 1970")
    return int(when * 1e9)

"""Open the two ourdb stores of a filesystem, together, and only if they are partners.

What is refused is refused before anything is written.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Literal, NamedTuple

import ourdb
from ourdb import OurDB
from vfsdb.database import LimitExceeded, Retention, Stores
from vfsdb.errors import FormatError, PartnerError, os_error
from vfsdb.stores import ourdb_switch
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_metadata import OurdbMetadataStore, reaches
from vfsdb.stores.ourdb_order import Order
from vfsdb.stores.ourdb_versions import vfsdb_errors

Mode = Literal["r", "w", "c", "n"]
METADATA, DATA = "metadata", "data"
_LOCK = "LOCK"  # all that a creation that was interrupted at once leaves in a directory


class _Place(NamedTuple):
    """Where one of the stores is: a directory, or a storage of `ourdb.testing`."""

    path: str
    storage: Any

    @property
    def is_there(self) -> bool:
        """Whether something is stored there."""
        if self.storage is not None:
            names = self.storage.names()
        elif os.path.isdir(self.path):
            names = os.listdir(self.path)
        elif os.path.lexists(self.path):
            raise FormatError("this is a file; each store of a filesystem is a directory", self.path)
        else:
            return False
        return any(name != _LOCK for name in names)


def open_stores(
    path: str | os.PathLike[str] | None = None,
    mode: Mode = "c",
    *,
    metadata_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    durability: Literal["process", "interval", "commit"] = "process",
    sync_interval: float = 1.0,
    lock_timeout: float = 0.0,
    verify: Literal["first", "always", "never"] = "first",
    metadata_segment_bytes: int | None = None,
    data_segment_bytes: int | None = None,
    metadata_key_max: int | None = None,
    data_key_max: int | None = None,
    auto_compact: bool = True,
    compaction: Literal["thread", "process"] = "thread",
    retention: Retention | None = None,
    storages: tuple[Any, Any] | None = None,
) -> Stores:
    """Open or make the two stores.

    Parameters
    ----------
    path : path, optional
        A directory with the directories ``metadata`` and ``data``; or name both of them:
    metadata_dir, data_dir : path, optional
    mode : {"r", "w", "c", "n"}
        ``r``: read only, beside a live writer or none. ``w``: read and write what exists. ``c``: made where there is
        none. ``n``: always new and empty; what was there is removed.
    durability, sync_interval, verify, lock_timeout
        As of ourdb, for commits of the metadata; blocks are always synced first.
    metadata_segment_bytes, data_segment_bytes, metadata_key_max, data_key_max : int, optional
        Of the two stores; the largest block key is one less, which is the label's.
    auto_compact : bool
        Whether the stores compact by themselves.
    compaction : {"thread", "process"}
        Where compaction copies, as of ourdb.
    retention : Retention, optional
        Which earlier states are kept; None: as the store says.
    storages : (Storage, Storage), optional
        Doubles of the two disks (metadata, data); see `ourdb.testing`.

    Raises
    ------
    FileNotFoundError
        There is no filesystem, and *mode* does not make one.
    PartnerError, FormatError, StoreBusyError, CorruptionError, OSError
        Nothing was changed.
    """
    metadata_place, data_place = _places(path, metadata_dir, data_dir, storages)
    if path is not None:
        metadata_place, data_place = _switched(os.path.dirname(metadata_place.path), mode, metadata_place, data_place)
    name = os.fspath(path) if path is not None else metadata_place.path
    _check_present(metadata_place, data_place, mode, path, name)
    common: dict[str, Any] = {"verify": verify}
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if mode != "r":
        common |= {"lock_timeout": lock_timeout, "auto_compact": auto_compact, "compaction": compaction}
        data = _given(segment_bytes=data_segment_bytes, key_max=data_key_max)
        metadata = _given(segment_bytes=metadata_segment_bytes, key_max=metadata_key_max)
        if retention is not None:
            rule = ourdb.Retention(retention.versions, retention.seconds, retention.all)
            metadata["retention"] = rule
        metadata |= {"durability": durability, "sync_interval": sync_interval}
    blocks = OurdbBlockStore(_opened(data_place, mode, common | data))
    try:
        order = Order(blocks, metadata_place.path)
        metadata |= {"before_durable": order.before_durable, "accept_commit": order.accept}
        opened = OurdbMetadataStore(_opened(metadata_place, mode, common | metadata), blocks)
        try:
            _pair(opened, blocks)
        except BaseException:
            opened.close()
            raise
    except BaseException:
        blocks.close()
        raise
    return Stores(opened, blocks, name)


def _given(**options: int | None) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _places(path: Any, metadata_dir: Any, data_dir: Any, storages: Any) -> tuple[_Place, _Place]:
    if storages is not None:
        return _Place(storages[0].path, storages[0]), _Place(storages[1].path, storages[1])
    if path is not None and metadata_dir is None and data_dir is None:
        root = os.path.abspath(os.fsdecode(path))
        return _Place(os.path.join(root, METADATA), None), _Place(os.path.join(root, DATA), None)
    if path is None and metadata_dir is not None and data_dir is not None:
        found = os.path.abspath(os.fsdecode(metadata_dir)), os.path.abspath(os.fsdecode(data_dir))
        if found[0] != found[1]:
            return _Place(found[0], None), _Place(found[1], None)
    raise os_error(errno.EINVAL, reason="give the filesystem's path, or its two directories, which differ")


def _switched(root: str, mode: Mode, metadata: _Place, data: _Place) -> tuple[_Place, _Place]:
    """The two places, as a switch that was announced and then interrupted left them."""
    names = (METADATA, DATA)
    if mode == "n":
        ourdb_switch.remove(root)
        return metadata, data
    if mode != "r":
        ourdb_switch.finish(root, names)
        return metadata, data
    staged = ourdb_switch.staged(root, names)
    if staged is None:
        return metadata, data
    return _Place(metadata.path, staged[0]), _Place(data.path, staged[1])


def _check_present(metadata: _Place, data: _Place, mode: Mode, path: Any, name: str) -> None:
    """Refuse what is there in part, or is something else."""
    if path is not None and os.path.lexists(name) and not os.path.isdir(name):
        raise FormatError("this is a file; a filesystem is a directory", name)
    there = metadata.is_there, data.is_there
    if there == (True, True) or mode == "n":
        return
    if there == (False, False):
        if mode in ("r", "w"):
            raise os_error(errno.ENOENT, name, reason="there is no filesystem here (mode 'c' makes one)")
        if path is not None and os.path.isdir(name) and set(os.listdir(name)) - {METADATA, DATA}:
            raise FormatError("the directory holds something else, and no filesystem", name)
        return
    present, missing = (metadata, data) if there[0] else (data, metadata)
    if mode == "c" and _is_empty(present):
        return  # a creation that was interrupted
    raise PartnerError(
        f"{missing.path} is missing: a filesystem has two stores, and the other one is there; put it back", name
    )


def _is_empty(place: _Place) -> bool:
    with _opened(place, "c", {"auto_compact": False}) as db:  # one that was interrupted is made whole
        return not len(db)


def _opened(place: _Place, mode: Mode, options: dict[str, Any]) -> OurDB:
    try:
        with vfsdb_errors(place.path):
            return OurDB(place.path, mode, storage=place.storage, **options)
    except LimitExceeded as error:  # an option is out of its range
        raise os_error(errno.EINVAL, place.path, reason=str(error)) from None


def _pair(metadata: OurdbMetadataStore, blocks: OurdbBlockStore) -> None:
    """Make two new stores partners; PartnerError for two that are not."""
    if not blocks.partner:
        if not (metadata.is_empty and blocks.is_empty):
            raise PartnerError(
                f"{blocks.path} is not the block store that {metadata.path} had: it has no label; were the two "
                "directories swapped, or is it an older copy?",
                blocks.path,
            )
        if not metadata.read_only:
            blocks.join(metadata.uuid)
    elif blocks.partner != metadata.uuid:
        raise PartnerError(
            f"its blocks belong to the metadata store {blocks.partner.hex()}; {metadata.path} is "
            f"{metadata.uuid.hex()}: the two directories belong to different filesystems",
            blocks.path,
        )
    elif not reaches(metadata, blocks):
        raise PartnerError(
            f"it is older than its blocks need: {blocks.path} deleted what version {blocks.needs} had given up; "
            "is it an older copy? restore both directories from one moment",
            metadata.path,
        )

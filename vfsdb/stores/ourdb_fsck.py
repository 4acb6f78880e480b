"""The two ourdb stores as a check finds them: verified, mended, and opened whether they are partners or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

import ourdb
from ourdb import OurDB, Position
from vfsdb.codecs import decode_counters
from vfsdb.database import Stores
from vfsdb.errors import CorruptionError, FormatError, PartnerError
from vfsdb.records import COUNTERS_KEY
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_metadata import OurdbMetadataStore
from vfsdb.stores.ourdb_order import Order
from vfsdb.stores.ourdb_versions import vfsdb_errors

Kind = Literal["metadata", "data", "missing", "unknown"]
_LABEL_MAGIC: Final = b"VFSB"
_LOOKS_MAX: Final = 100
_SUPERBLOCK: Final = b"vfsdb"
Progress = Callable[[str, int, int, str], object]
Storages = tuple[Any, Any]  # of the metadata and of the data, as `ourdb.StagedStorage`


class Problem(NamedTuple):
    """What ourdb's own check says. *is_damage*: more than what the next writer sees to by itself."""

    file: str
    offset: int
    text: str
    is_damage: bool


class Verified(NamedTuple):
    """What a check of one store gave. *token*: where a stopped one goes on, "" for a whole one."""

    problems: list[Problem]
    sound: bool
    token: str


def kind_of(directory: str, storage: Any = None) -> Kind:
    """Which of the two stores lies in *directory*, by what is in it. Nothing is written."""
    if not os.path.isdir(directory) or not os.listdir(directory):
        return "missing"
    try:
        with OurDB(directory, "r", verify="never", storage=storage) as db:
            label = db.get(db.key_max)
            if label is not None and label[:4] == _LABEL_MAGIC:
                return "data"
            superblock = db.get(0)
            return "metadata" if superblock is not None and _SUPERBLOCK in superblock[:16] else "unknown"
    except (ourdb.OurDBError, OSError):
        return "unknown"


def is_blank(directory: str) -> bool:
    """Whether there is no store, or one in which nothing was ever put."""
    if not os.path.isdir(directory) or not os.listdir(directory):
        return True
    try:
        with OurDB(directory, "r", verify="never") as db:
            return not len(db)
    except (ourdb.OurDBError, OSError):
        return False


def make_blocks(directory: str, metadata_dir: str) -> None:
    """An empty block store that belongs to the metadata store in *metadata_dir*; durable on return."""
    with vfsdb_errors(metadata_dir), OurDB(metadata_dir, "r", verify="never") as db:
        partner = bytes.fromhex(db.uuid)
    with vfsdb_errors(directory):
        blocks = OurdbBlockStore(OurDB(directory, "c", auto_compact=False))
    try:
        blocks.join(partner)
    finally:
        blocks.close()


def make_metadata(directory: str, data_dir: str, records: Callable[[Iterator[int], int], dict[int, bytes]]) -> None:
    """A metadata store for the blocks in *data_dir*, with *records* of (their keys, their version); durable then."""
    with vfsdb_errors(data_dir):
        blocks = OurdbBlockStore(OurDB(data_dir, "w", auto_compact=False))
    try:
        order = Order(blocks, directory)
        with vfsdb_errors(directory):
            db = OurDB(directory, "c", auto_compact=False, before_durable=order.before_durable)
        metadata = OurdbMetadataStore(db, blocks)
        try:
            metadata.commit(records(blocks.keys(), blocks.version), needs=blocks.version)
            metadata.sync()
        finally:
            metadata.close()
    finally:
        blocks.close()


def verify_store(
    directory: str, *, deep: bool, progress: Progress | None, resume: str = "", storage: Any = None
) -> Verified:
    """ourdb's own check of one store. FormatError where it is none."""
    with vfsdb_errors(directory):
        report = ourdb.verify(directory, deep, progress, storage=storage, resume=resume or None)
    found = [Problem(one.file, one.offset, one.problem, one.severity == "error") for one in report.findings]
    if not report.ok and not any(problem.is_damage for problem in found):
        found = [problem._replace(is_damage=True) for problem in found]
    return Verified(found, report.ok, report.resume_token or "")


class Mended(NamedTuple):
    """What ourdb's own repair did."""

    actions: list[str]
    lost: list[str]
    aside: str
    sound: bool


def mend_store(directory: str, progress: Progress | None) -> Mended:
    """ourdb's own repair of one store. StoreBusyError while somebody writes."""
    with vfsdb_errors(directory):
        report = ourdb.repair(directory, progress)
    return Mended(report.actions, report.lost, report.aside or "", report.ok)


class _AnyOrder(Order):
    """As `Order`, for stores that may not be partners: nothing is refused for that."""

    def accept(self, position: Position, tag: bytes) -> bool:
        """Whether the blocks of a commit are there, if these are the blocks that it means."""
        try:
            return super().accept(position, tag)
        except PartnerError:
            return True


def open_as_found(
    metadata_dir: str,
    data_dir: str,
    path: str,
    *,
    write: bool,
    deep: bool = False,
    lock_timeout: float = 0.0,
    storages: Storages | None = None,
) -> Stores:
    """Open both stores, partners or not; with *storages* as these show them.

    Raises
    ------
    StoreBusyError
        *write*, and somebody else writes.
    CorruptionError, FormatError, OSError
        One of them cannot be opened.
    """
    mode: Literal["r", "w"] = "w" if write else "r"
    common: dict[str, Any] = {"verify": "first" if deep else "never"}
    if write:
        common |= {"lock_timeout": lock_timeout, "auto_compact": False}
    metadata_storage, data_storage = storages or (None, None)
    with vfsdb_errors(data_dir):
        blocks = OurdbBlockStore(OurDB(data_dir, mode, storage=data_storage, **common))
    try:
        order = _AnyOrder(blocks, metadata_dir)
        hooks: dict[str, Any] = {"before_durable": order.before_durable} if write else {}
        with vfsdb_errors(metadata_dir):
            common |= {"verify": "first", "storage": metadata_storage}
            db = OurDB(metadata_dir, mode, accept_commit=order.accept, **common, **hooks)
        metadata = OurdbMetadataStore(db, blocks)
    except BaseException:
        blocks.close()
        raise
    if not write:
        _settle(metadata, blocks)
    return Stores(metadata, blocks, path)


def _settle(metadata: OurdbMetadataStore, blocks: OurdbBlockStore) -> None:
    """Beside a writer, move both readers on until each has what the other's state rests on.

    The blocks were looked at first, so those of the newest commits may be missing. Two that never come together are no
    partners, which is what the check is there to tell.
    """
    for _ in range(_LOOKS_MAX):
        data = metadata.get(COUNTERS_KEY)
        try:
            needs = 0 if data is None else decode_counters(data).needs
        except (CorruptionError, FormatError):
            return
        moved = not blocks.holds(needs) and blocks.refresh()
        if blocks.holds(needs) and metadata.holds(blocks.needs):
            return
        if not metadata.refresh() and not moved:
            return


__all__ = [
    "FormatError",
    "Kind",
    "Mended",
    "Problem",
    "Storages",
    "Verified",
    "is_blank",
    "kind_of",
    "make_blocks",
    "make_metadata",
    "mend_store",
    "open_as_found",
    "verify_store",
]

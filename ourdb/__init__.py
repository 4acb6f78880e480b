"""ourdb: an append-only store of u32 keys and bytes values, with history, snapshots and compaction.

Standard library only. Start with `open`; every error is an `OurDBError` or an ``OSError``.
"""

from ourdb import errors
from ourdb.backup import Backup, BackupResult, backup_verify
from ourdb.batch import Batch
from ourdb.check import Finding, RepairReport, VerifyReport, repair, verify
from ourdb.codecs import Codec, register_codec
from ourdb.compaction import CompactionResult
from ourdb.errors import (
    ConflictError,
    CorruptionError,
    ForkedError,
    FormatVersionError,
    InvalidArgumentError,
    LimitError,
    ModeError,
    NotAStoreError,
    OurDBError,
    PositionLostError,
    RecordNotFoundError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    StoreClosedError,
    StoreFailedError,
    StoreLockedError,
)
from ourdb.leases import ReaderInfo
from ourdb.manifest import Retention
from ourdb.position import Change, Commit, Head, Pin, Position, Record, Version
from ourdb.snapshot import SnapshotInfo
from ourdb.staged import StagedStorage, install_manifest
from ourdb.statistics import SegmentStats, Stats
from ourdb.store import OurDB, open
from ourdb.view import Snapshot, View

__all__ = [
    "Backup",
    "BackupResult",
    "Batch",
    "Change",
    "Codec",
    "Commit",
    "CompactionResult",
    "ConflictError",
    "CorruptionError",
    "Finding",
    "ForkedError",
    "FormatVersionError",
    "Head",
    "InvalidArgumentError",
    "LimitError",
    "ModeError",
    "NotAStoreError",
    "OurDB",
    "OurDBError",
    "Pin",
    "Position",
    "PositionLostError",
    "ReaderInfo",
    "Record",
    "RecordNotFoundError",
    "RepairReport",
    "Retention",
    "SegmentStats",
    "Snapshot",
    "SnapshotExistsError",
    "SnapshotInfo",
    "SnapshotNotFoundError",
    "StagedStorage",
    "Stats",
    "StoreClosedError",
    "StoreFailedError",
    "StoreLockedError",
    "VerifyReport",
    "Version",
    "View",
    "backup_verify",
    "errors",
    "install_manifest",
    "open",
    "register_codec",
    "repair",
    "verify",
]

__version__ = "0.1.0"

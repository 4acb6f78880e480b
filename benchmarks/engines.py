"""One adapter an engine, each in its own fastest idiom.

An operation is a plain attribute, bound when the engine opens, so that the timed loop calls the engine and
nothing between. What an engine has not got (`Engine.has_get_many`) is not imitated: its row says absent. Keys
are made into the engine's form (`Engine.encode`) before the clock starts.

"Plain" writes are those that a killed process does not lose and a power cut may; "durable" ones survive both.
"""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import metadata
from typing import Any, ClassVar

Pairs = Sequence[tuple[Any, bytes]]
MAP_BYTES = 16 << 30  # address space, not memory
CACHE_BYTES = 256 << 20


class Engine:
    """A store in a directory of its own; `open` binds the operations."""

    name: ClassVar[str]
    module: ClassVar[str]
    keys: ClassVar[str] = "bytes"  # or "int"
    has_get_many: ClassVar[bool] = True
    plain_mode: ClassVar[str]
    durable_mode: ClassVar[str]

    put: Callable[[Any, bytes], Any]
    get: Callable[[Any], Any]
    load: Callable[[Pairs], Any]  # one batch
    scan: Callable[[], Iterable[Any]]  # every key and value
    delete: Callable[[Any], Any]
    get_many: Callable[[Sequence[Any]], Any]  # where has_get_many

    def __init__(self, path: str) -> None:
        self.path = path
        self.library: Any = importlib.import_module(self.module)
        os.makedirs(path, exist_ok=True)

    def open(self, durable: bool = False) -> None:
        """Open or create the store and bind the operations."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""
        raise NotImplementedError

    def begin_reads(self) -> None:
        """What reads need that would hinder writes."""

    def end_reads(self) -> None:
        """Undo `begin_reads`."""

    @classmethod
    def encode(cls, keys: Iterable[int]) -> list[Any]:
        """The keys as this engine takes them: 4 bytes big-endian (so they sort), or the numbers themselves."""
        return list(keys) if cls.keys == "int" else [pack(key) for key in keys]

    @staticmethod
    def values(result: Any, keys: Sequence[Any]) -> list[bytes]:
        """What `get_many(keys)` found, in the order of *keys*; not timed."""
        return list(result)

    @classmethod
    def version(cls) -> str:
        """Version of the library that was measured."""
        try:
            return metadata.version(cls.module)
        except metadata.PackageNotFoundError:
            return "from this directory"


pack = struct.Struct(">I").pack


def _values_of_pairs(result: Any, keys: Sequence[Any]) -> list[bytes]:
    found = dict(result)
    return [found[key] for key in keys]


class OurDBEngine(Engine):
    """ourdb with its defaults: every record checked at its first read."""

    name = "ourdb"
    module = "ourdb"
    keys = "int"
    plain_mode = 'durability="process"'
    durable_mode = 'durability="commit"'

    def open(self, durable: bool = False) -> None:
        db = self._db = self.library.open(self.path, "c", durability="commit" if durable else "process")
        self.put = db.set
        self.get = db.get
        self.get_many = db.get_many
        self.load = db.set_many
        self.scan = db.items
        self.delete = db.delete

    def close(self) -> None:
        self._db.close()
        del self._db, self.put, self.get, self.get_many, self.load, self.scan, self.delete


class LMDBEngine(Engine):
    """py-lmdb: a transaction a put, one long read transaction for all reads, putmulti and getmulti."""

    name = "lmdb"
    module = "lmdb"
    plain_mode = "sync=False"
    durable_mode = "sync=True"
    writemap: ClassVar[bool] = False
    values = staticmethod(_values_of_pairs)

    def open(self, durable: bool = False) -> None:
        self._env = self.library.open(
            self.path, map_size=MAP_BYTES, sync=durable, writemap=self.writemap, map_async=not durable
        )
        self.put, self.load, self.delete = self._put, self._load, self._delete

    def close(self) -> None:
        self._env.close()

    def begin_reads(self) -> None:
        self._reads = self._env.begin()
        self.get = self._reads.get
        self.get_many = self._reads.cursor().getmulti
        self.scan = self._reads.cursor

    def end_reads(self) -> None:
        del self.get, self.get_many, self.scan
        self._reads.abort()

    def _put(self, key: bytes, value: bytes) -> None:
        transaction = self._env.begin(None, None, True)  # quicker than the with statement
        transaction.put(key, value)
        transaction.commit()

    def _delete(self, key: bytes) -> None:
        transaction = self._env.begin(None, None, True)
        transaction.delete(key)
        transaction.commit()

    def _load(self, pairs: Pairs) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.cursor().putmulti(pairs, append=True)


class LMDBWritemapEngine(LMDBEngine):
    """py-lmdb that writes through its map: faster, and a stray pointer may damage the store."""

    name = "lmdb writemap"
    plain_mode = "writemap=True, map_async=True, sync=False"
    durable_mode = "writemap=True, sync=True"
    writemap = True


class RocksDBEngine(Engine):
    """rocksdict in raw mode: WriteBatch, no compression (the values are random), maps for reads."""

    name = "rocksdict"
    module = "rocksdict"
    plain_mode = "write-ahead log, sync=False"
    durable_mode = "write-ahead log, sync=True"

    def open(self, durable: bool = False) -> None:
        library = self.library
        options = library.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(library.DBCompressionType.none())
        options.set_allow_mmap_reads(True)
        options.increase_parallelism(os.cpu_count() or 1)
        blocks = library.BlockBasedOptions()
        blocks.set_block_cache(library.Cache(CACHE_BYTES))
        options.set_block_based_table_factory(blocks)
        db = self._db = library.Rdict(self.path, options)
        writes = library.WriteOptions()
        writes.sync = durable
        db.set_write_options(writes)
        self.put, self.get, self.get_many, self.delete = db.put, db.get, db.get, db.delete
        self.load, self.scan = self._load, db.items

    def close(self) -> None:
        del self.put, self.get, self.get_many, self.delete, self.scan
        self._db.close()

    def _load(self, pairs: Pairs) -> None:
        batch = self.library.WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in pairs:
            put(key, value)
        self._db.write(batch)


class LevelDBEngine(Engine):
    """plyvel: no compression, a block cache and a write buffer that are larger than the defaults."""

    name = "plyvel"
    module = "plyvel"
    has_get_many = False
    plain_mode = "sync=False"
    durable_mode = "sync=True"

    def open(self, durable: bool = False) -> None:
        db = self._db = self.library.DB(
            self.path,
            create_if_missing=True,
            compression=None,
            lru_cache_size=CACHE_BYTES,
            write_buffer_size=64 << 20,
        )
        self.put = partial(db.put, sync=True) if durable else db.put
        self.delete = partial(db.delete, sync=True) if durable else db.delete
        self.get, self.load, self.scan = db.get, self._load, db.iterator

    def close(self) -> None:
        del self.put, self.get, self.delete, self.scan
        self._db.close()

    def _load(self, pairs: Pairs) -> None:
        with self._db.write_batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)


class SQLiteEngine(Engine):
    """sqlite3: WAL, one table, statements from the connection's cache, a map for reads, autocommit for single puts."""

    name = "sqlite3"
    module = "sqlite3"
    keys = "int"
    plain_mode = "WAL, synchronous=OFF"
    durable_mode = "WAL, synchronous=FULL"
    values = staticmethod(_values_of_pairs)

    def open(self, durable: bool = False) -> None:
        self._connection = self.library.connect(os.path.join(self.path, "db"), isolation_level=None)
        cursor = self._connection.cursor()
        self._execute, self._executemany = cursor.execute, cursor.executemany
        for pragma in ("journal_mode=WAL", f"mmap_size={MAP_BYTES}", f"cache_size={-CACHE_BYTES // 1024}"):
            cursor.execute(f"PRAGMA {pragma}").fetchall()
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        cursor.execute("CREATE TABLE IF NOT EXISTS pairs (key INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        self.put, self.get, self.get_many = self._put, self._get, self._get_many
        self.load, self.scan, self.delete = self._load, self._scan, self._delete

    def close(self) -> None:
        del self._execute, self._executemany
        self._connection.close()

    @classmethod
    def version(cls) -> str:
        return str(importlib.import_module("sqlite3").sqlite_version)

    def _put(self, key: int, value: bytes) -> None:
        self._execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, value))

    def _get(self, key: int) -> Any:
        return self._execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()[0]

    def _get_many(self, keys: Sequence[int]) -> Any:
        """Quicker than ``IN (?, ?, …)``: one parameter, and the keys drive the join."""
        listed = str(keys)  # a list of numbers is JSON as it stands
        return self._execute(
            "SELECT pairs.key, pairs.value FROM json_each(?) AS wanted CROSS JOIN pairs ON pairs.key = wanted.value",
            (listed,),
        ).fetchall()

    def _load(self, pairs: Pairs) -> None:
        self._execute("BEGIN")
        self._executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", pairs)
        self._execute("COMMIT")

    def _scan(self) -> Iterable[Any]:
        rows: Iterable[Any] = self._connection.execute("SELECT key, value FROM pairs ORDER BY key")
        return rows

    def _delete(self, key: int) -> None:
        self._execute("DELETE FROM pairs WHERE key = ?", (key,))


class GDBMEngine(Engine):
    """dbm.gnu, where Python has it: no batches (load is a loop) and no get_many."""

    name = "dbm.gnu"
    module = "dbm.gnu"
    has_get_many = False
    plain_mode = "no sync"
    durable_mode = "sync() after each put"

    def open(self, durable: bool = False) -> None:
        db = self._db = self.library.open(os.path.join(self.path, "db"), "c")  # its "s" mode was seen not to sync
        self.put = self._durable_put if durable else db.__setitem__
        self.get, self.delete = db.__getitem__, db.__delitem__
        self.load, self.scan = self._load, self._scan

    def close(self) -> None:
        del self.put, self.get, self.delete
        self._db.close()

    @classmethod
    def version(cls) -> str:
        return "with Python"

    def _durable_put(self, key: bytes, value: bytes) -> None:
        self._db[key] = value
        self._db.sync()

    def _load(self, pairs: Pairs) -> None:
        put = self.put
        for key, value in pairs:
            put(key, value)

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        db = self._db
        key = db.firstkey()
        while key is not None:
            yield key, db[key]
            key = db.nextkey(key)


class DiskCacheEngine(Engine):
    """diskcache with eviction off and every value in its database.

    By default values above 32 KiB become files of their own, which it never syncs.
    """

    name = "diskcache"
    module = "diskcache"
    keys = "int"
    has_get_many = False
    plain_mode = "sqlite_synchronous=OFF"
    durable_mode = "sqlite_synchronous=FULL"

    def open(self, durable: bool = False) -> None:
        cache = self._cache = self.library.Cache(
            self.path,
            eviction_policy="none",
            cull_limit=0,
            size_limit=1 << 60,
            disk_min_file_size=1 << 30,
            sqlite_mmap_size=MAP_BYTES,
            sqlite_synchronous=2 if durable else 0,
        )
        self.put, self.get, self.delete = cache.set, cache.get, cache.delete
        self.load, self.scan = self._load, self._scan

    def close(self) -> None:
        del self.put, self.get, self.delete
        self._cache.close()

    def _load(self, pairs: Pairs) -> None:
        put = self.put
        with self._cache.transact():
            for key, value in pairs:
                put(key, value)

    def _scan(self) -> Iterator[tuple[int, bytes]]:
        get = self.get
        return ((key, get(key)) for key in self._cache)


class SemiDBMEngine(Engine):
    """semidbm: a log with all keys in a dict; no batches (load is a loop) and no get_many; checks nothing at reads."""

    name = "semidbm"
    module = "semidbm"
    has_get_many = False
    plain_mode = "no sync"
    durable_mode = "sync() after each put"

    def open(self, durable: bool = False) -> None:
        db = self._db = self.library.open(self.path, "c")
        self.put = self._durable_put if durable else db.__setitem__
        self.get, self.delete, self.load, self.scan = db.__getitem__, db.__delitem__, self._load, self._scan

    def close(self) -> None:
        del self.put, self.get, self.delete
        self._db.close()

    def _durable_put(self, key: bytes, value: bytes) -> None:
        self._db[key] = value
        self._db.sync()

    def _load(self, pairs: Pairs) -> None:
        put = self.put
        for key, value in pairs:
            put(key, value)

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        get = self.get
        return ((key, get(key)) for key in self._db.keys())  # noqa: SIM118 (its own iterator is slower)


ENGINES: tuple[type[Engine], ...] = (
    OurDBEngine,
    LMDBEngine,
    LMDBWritemapEngine,
    RocksDBEngine,
    LevelDBEngine,
    SQLiteEngine,
    GDBMEngine,
    DiskCacheEngine,
    SemiDBMEngine,
)


def installed() -> tuple[list[type[Engine]], dict[str, str]]:
    """The engines that can be imported here, and why the others cannot."""
    present: list[type[Engine]] = []
    absent: dict[str, str] = {}
    for engine in ENGINES:
        try:
            module = importlib.import_module(engine.module)
        except ImportError as error:
            absent[engine.name] = str(error)
            continue
        if hasattr(module, "open") or engine is not OurDBEngine:
            present.append(engine)
        else:
            absent[engine.name] = "the package has no open()"
    return present, absent

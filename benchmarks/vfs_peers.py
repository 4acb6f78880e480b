"""One adapter a filesystem, each in its own usual calls: vfsdb, the host, an SQLite tree, PyFilesystem2, fsspec.

Operations are plain attributes, bound when the filesystem is made, so that the timed loop calls it and nothing between.
What a peer has not got is None, and its row says so. Paths begin with a slash and are text.
"""

from __future__ import annotations

import glob as host_glob
import importlib
import os
import shutil
import sqlite3
import stat
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

CHUNK = 65536


class Peer:
    """A filesystem in directory *path*, open."""

    name: ClassVar[str]
    module: ClassVar[str] = "os"

    write: Callable[[str, bytes], Any]  # make a file with this content
    read: Callable[[str], bytes]
    stat: Callable[[str], Any]
    listdir: Callable[[str], list[str]]
    mkdir: Callable[[str], Any]
    remove: Callable[[str], Any]
    rename: Callable[[str, str], Any]
    open: Callable[..., Any]  # as the builtin, binary
    liststat: Callable[[str], Any] | None = None  # every name with its attributes
    glob: Callable[[str], list[str]] | None = None
    walk: Callable[[str], Iterable[Any]] | None = None
    many: Callable[[list[tuple[str, bytes]]], Any] | None = None  # all files in one transaction
    sync: Callable[[Any], Any] | None = None  # of an open file

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, exist_ok=True)

    def close(self) -> None:
        """Give everything back."""

    @classmethod
    def version(cls) -> str:
        """Version of the library."""
        return str(getattr(importlib.import_module(cls.module), "__version__", "of Python"))


class Vfsdb(Peer):
    """vfsdb over ourdb with its defaults."""

    name = "vfsdb"
    module = "ourdb"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        vfsdb = importlib.import_module("vfsdb")
        fs = self.fs = self.make(vfsdb)
        self.write, self.read, self.stat, self.listdir = fs.write_bytes, fs.read_bytes, fs.stat, fs.listdir
        self.mkdir, self.remove, self.rename, self.open = fs.mkdir, fs.remove, fs.rename, fs.open
        self.liststat, self.glob, self.walk = fs.list_stats, fs.glob, fs.walk
        self.many, self.sync = self._many, lambda file: (file.flush(), fs.fsync(file.name))

    def make(self, vfsdb: Any) -> Any:
        """The filesystem."""
        return vfsdb.open(os.path.join(self.path, "store"))

    def _many(self, files: list[tuple[str, bytes]]) -> None:
        write = self.fs.write_bytes
        with self.fs.transaction():
            for path, data in files:
                write(path, data)

    def close(self) -> None:
        self.fs.close()


class VfsdbMemory(Vfsdb):
    """vfsdb in memory."""

    name = "vfsdb memory"

    def make(self, vfsdb: Any) -> Any:
        return vfsdb.memory()


class Host(Peer):
    """A directory of the host, by the os module."""

    name = "host"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        base = self.base = os.path.join(path, "tree")
        os.mkdir(base)
        self.stat, self.listdir = lambda name: os.stat(base + name), lambda name: os.listdir(base + name)
        self.mkdir, self.remove = lambda name: os.mkdir(base + name), lambda name: os.remove(base + name)
        self.rename = lambda source, target: os.rename(base + source, base + target)
        self.open = lambda name, *rest, **named: open(base + name, *rest, **named)
        self.glob = lambda pattern: sorted(host_glob.glob(base + pattern, recursive=True))
        self.walk = lambda name: os.walk(base + name)
        self.liststat = lambda name: [(entry.name, entry.stat()) for entry in os.scandir(base + name)]
        self.sync = self._sync

    @staticmethod
    def _sync(file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())

    def write(self, path: str, data: bytes) -> None:
        with open(self.base + path, "wb") as file:
            file.write(data)

    def read(self, path: str) -> bytes:
        with open(self.base + path, "rb") as file:
            return file.read()


class SQLiteTree(Peer):
    """Paths in one table, chunks of 64 KiB in another, as SQLite-backed filesystems in Python do it."""

    name = "sqlite tree"
    module = "sqlite3"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._db = sqlite3.connect(os.path.join(path, "tree.db"), isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
            "CREATE TABLE nodes"
            "(id INTEGER PRIMARY KEY, path TEXT UNIQUE, parent TEXT, mode INTEGER, size INTEGER, mtime REAL);"
            "CREATE INDEX children ON nodes(parent);"
            "CREATE TABLE chunks(node INTEGER, number INTEGER, data BLOB, PRIMARY KEY(node, number)) WITHOUT ROWID;"
            "INSERT INTO nodes(path, parent, mode, size, mtime) VALUES('/', NULL, 16877, 0, 0);"
        )
        self.many = self._many

    def close(self) -> None:
        self._db.close()

    def _put(self, path: str, data: bytes) -> None:
        execute = self._db.execute
        node = execute(
            "INSERT INTO nodes(path, parent, mode, size, mtime) VALUES(?, ?, 33188, ?, ?) "
            "ON CONFLICT(path) DO UPDATE SET size=excluded.size, mtime=excluded.mtime RETURNING id",
            (path, path.rpartition("/")[0] or "/", len(data), time.time()),
        ).fetchone()[0]
        execute("DELETE FROM chunks WHERE node=?", (node,))
        for number, start in enumerate(range(0, len(data), CHUNK)):
            execute("INSERT INTO chunks VALUES(?, ?, ?)", (node, number, data[start : start + CHUNK]))

    def write(self, path: str, data: bytes) -> None:
        self._many([(path, data)])

    def _many(self, files: list[tuple[str, bytes]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for path, data in files:
            self._put(path, data)
        self._db.execute("COMMIT")

    def read(self, path: str) -> bytes:
        rows = self._db.execute(
            "SELECT data FROM chunks JOIN nodes ON node=id WHERE path=? ORDER BY number", (path,)
        ).fetchall()
        return b"".join(row[0] for row in rows)

    def stat(self, path: str) -> Any:
        return self._db.execute("SELECT mode, size, mtime FROM nodes WHERE path=?", (path,)).fetchone()

    def listdir(self, path: str) -> list[str]:
        rows = self._db.execute("SELECT path FROM nodes WHERE parent=?", (path,)).fetchall()
        return [row[0].rpartition("/")[2] for row in rows]

    def liststat(self, path: str) -> Any:
        return self._db.execute("SELECT path, mode, size, mtime FROM nodes WHERE parent=?", (path,)).fetchall()

    def mkdir(self, path: str) -> None:
        self._db.execute(
            "INSERT INTO nodes(path, parent, mode, size, mtime) VALUES(?, ?, 16877, 0, 0)",
            (path, path.rpartition("/")[0] or "/"),
        )

    def remove(self, path: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM chunks WHERE node=(SELECT id FROM nodes WHERE path=?)", (path,))
        self._db.execute("DELETE FROM nodes WHERE path=?", (path,))
        self._db.execute("COMMIT")

    def rename(self, source: str, target: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "UPDATE nodes SET path=?, parent=? WHERE path=?", (target, target.rpartition("/")[0] or "/", source)
        )
        self._db.execute(
            "UPDATE nodes SET path=?||substr(path, ?), parent=?||substr(parent, ?) WHERE path GLOB ?||'/*'",
            (target, len(source) + 1, target, len(source) + 1, source),
        )
        self._db.execute("COMMIT")

    def glob(self, pattern: str) -> list[str]:
        return [
            row[0] for row in self._db.execute("SELECT path FROM nodes WHERE path GLOB ? ORDER BY path", (pattern,))
        ]


class PyFilesystem(Peer):
    """PyFilesystem2 in memory."""

    name = "fs memory"
    module = "fs"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fs = self._fs = self.make()
        self.write, self.read, self.listdir = fs.writebytes, fs.readbytes, fs.listdir
        self.stat = lambda name: fs.getinfo(name, ["details"])
        self.mkdir, self.remove, self.open = fs.makedir, fs.remove, fs.openbin
        self.rename = lambda source, target: fs.movedir(source, target, create=True)
        self.liststat = lambda name: list(fs.scandir(name, ["details"]))
        self.glob = lambda pattern: [match.path for match in fs.glob(pattern)]
        self.walk = fs.walk.files

    def make(self) -> Any:
        """The filesystem."""
        return importlib.import_module("fs.memoryfs").MemoryFS()

    def close(self) -> None:
        self._fs.close()


class PyFilesystemHost(PyFilesystem):
    """PyFilesystem2 over a host directory."""

    name = "fs host"

    def make(self) -> Any:
        return importlib.import_module("fs.osfs").OSFS(self.path)


class FsspecMemory(Peer):
    """fsspec in memory."""

    name = "fsspec memory"
    module = "fsspec"
    protocol: ClassVar[str] = "memory"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        fs = self._fs = importlib.import_module("fsspec").filesystem(self.protocol, skip_instance_cache=True)
        base = self._base = f"{path}/tree"
        fs.makedirs(base, exist_ok=True)
        self.write, self.read = (
            lambda name, data: fs.pipe_file(base + name, data),
            lambda name: fs.cat_file(base + name),
        )
        self.stat, self.mkdir = lambda name: fs.info(base + name), lambda name: fs.mkdir(base + name)
        self.remove = lambda name: fs.rm_file(base + name)
        self.rename = lambda source, target: fs.mv(base + source, base + target, recursive=True)
        self.open = lambda name, mode: fs.open(base + name, mode)
        self.listdir = lambda name: fs.ls(base + name, detail=False)
        self.liststat = lambda name: fs.ls(base + name, detail=True)
        self.glob = lambda pattern: list(fs.glob(base + pattern))
        self.walk = lambda name: fs.walk(base + name)

    def close(self) -> None:
        if self._fs.exists(self._base):
            self._fs.rm(self._base, recursive=True)


class FsspecLocal(FsspecMemory):
    """fsspec over a host directory."""

    name = "fsspec local"
    protocol = "file"


PEERS: tuple[type[Peer], ...] = (
    Vfsdb,
    VfsdbMemory,
    Host,
    SQLiteTree,
    PyFilesystem,
    PyFilesystemHost,
    FsspecMemory,
    FsspecLocal,
)


def installed() -> tuple[list[type[Peer]], dict[str, str]]:
    """The peers that can run here, and why the others cannot."""
    found, absent = [], {}
    for peer in PEERS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(peer.module)
        except ImportError as error:
            absent[peer.name] = str(error)
        else:
            found.append(peer)
    return found, absent


def remove(path: str) -> None:
    """Take a peer's directory away."""
    shutil.rmtree(path, ignore_errors=True)
    assert not os.path.lexists(path) or stat.S_ISDIR(os.lstat(path).st_mode)

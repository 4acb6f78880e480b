"""The file that lets the copies of two stores take effect as one: a directory with it is what it says already.

It lies beside the two directories of a backup, and has the manifests that are about to be put in place. Its own rename
is the commit point: before it, both stores are the previous backup, from it on both are the new one. Who opens the
filesystem for reading reads it so; who opens it for writing, or takes the next backup, puts the manifests in place.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Final
from zlib import crc32

from ourdb import StagedStorage, install_manifest
from ourdb.storage import DiskStorage
from vfsdb.errors import CorruptionError, FormatError
from vfsdb.stores.ourdb_versions import vfsdb_errors

NAME: Final = "SWITCH"
_TEMPORARY: Final = "SWITCH.new"
_MAGIC: Final = b"vfsdb switch"
_FORMAT: Final = 1
Manifests = tuple[bytes, bytes]  # of the metadata and of the block store


def announce(root: str, manifests: Manifests) -> None:
    """Write the file: the commit point of a backup. Durable on return."""
    body = json.dumps([data.decode() for data in manifests]).encode()
    storage = DiskStorage(root)
    storage.write_new(_TEMPORARY, b"%s %d %08x\n%s\n" % (_MAGIC, _FORMAT, crc32(body), body))
    storage.rename(_TEMPORARY, NAME)
    storage.sync_directory()


def pending(root: str) -> Manifests | None:
    """What is announced in the directory *root* and not known to be in place. CorruptionError, FormatError."""
    path = os.path.join(root, NAME)
    try:
        head, _, body = DiskStorage(root).read_file(NAME).partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    body = body[:-1]
    *magic, written_format, checksum = head.split(b" ") if head.count(b" ") > 1 else (b"", b"", b"")
    if b" ".join(magic) != _MAGIC:
        raise CorruptionError("this is no file of a backup's switch; take the backup again, to a new directory", path)
    if written_format != b"%d" % _FORMAT:
        raise FormatError(f"a backup's switch of format {written_format!r}, this vfsdb reads {_FORMAT}", path)
    if checksum != b"%08x" % crc32(body):
        raise CorruptionError("its checksum does not match; take the backup again, to a new directory", path)
    metadata, data = json.loads(body)
    return metadata.encode(), data.encode()


def staged(root: str, names: tuple[str, str]) -> tuple[StagedStorage, StagedStorage] | None:
    """The two stores as the file says they are; None where there is none."""
    found = pending(root)
    if found is None:
        return None
    with vfsdb_errors(root):
        first, second = (
            StagedStorage(DiskStorage(os.path.join(root, name)), data) for name, data in zip(names, found, strict=True)
        )
    return first, second


def finish(root: str, names: tuple[str, str]) -> None:
    """Put in place what is announced, and remove the file. StoreBusyError where a backup goes on just now."""
    found = pending(root)
    if found is not None:
        with vfsdb_errors(root):
            for name, data in zip(names, found, strict=True):
                install_manifest(os.path.join(root, name), data)
        remove(root)


def remove(root: str) -> None:
    """Both manifests are in place, or of no use: the file goes, where there is one. Durable on return."""
    storage = DiskStorage(root)
    with suppress(FileNotFoundError, NotADirectoryError):
        storage.remove(NAME)
        storage.sync_directory()

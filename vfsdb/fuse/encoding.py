"""Replies: values in, bytes out. Pure. One `Struct.pack` makes a reply with its header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vfsdb.fuse import structures as s
from vfsdb.interface import DirEntry, Stat, StatFS

_SECOND: Final = 10**9
_U32: Final = 0xFFFFFFFF
_U64: Final = (1 << 64) - 1
_ERRNO_MAX: Final = 511  # the kernel takes no larger one
_STATX_BASIC_AND_BIRTH: Final = 0xFFF
_DOTS: Final = (b".", b"..")
_PADDING: Final = [bytes(-length & 7) for length in range(8)]
_BLOCK_BYTES_MAX: Final = 1 << 20

_NOTHING: Final = bytes(s.ATTR.size)

_out_header = s.OUT_HEADER.pack
_packed_attr = s.ATTR.pack
_entry_reply = s.ENTRY_REPLY.pack
_attr_reply = s.ATTR_REPLY.pack
_create_reply = s.CREATE_REPLY.pack
_open_reply = s.OPEN_REPLY.pack
_write_reply = s.WRITE_REPLY.pack


def error(unique: int, code: int) -> bytes:
    """The answer that a request failed with errno *code*."""
    return _out_header(16, -code if 0 < code <= _ERRNO_MAX else -5, unique)


def empty(unique: int) -> bytes:
    """The answer that a request was done, and that there is nothing to tell."""
    return _out_header(16, 0, unique)


def data(unique: int, content: bytes | bytearray | memoryview) -> bytes:
    """An answer of bytes that fits one allocation; `header` before larger ones."""
    return _out_header(16 + len(content), 0, unique) + content


def header(unique: int, size: int) -> bytes:
    """What stands before *size* bytes of answer."""
    return _out_header(16 + size, 0, unique)


def opened(unique: int, handle: int, flags: int) -> bytes:
    """OPEN and OPENDIR."""
    return _open_reply(32, 0, unique, handle, flags, 0)


def written(unique: int, size: int) -> bytes:
    """WRITE and COPY_FILE_RANGE."""
    return _write_reply(24, 0, unique, size, 0)


def kernel_device(device: int) -> int:
    """A device number of stat(2) as the kernel has it in 32 bits. Source: Linux new_encode_dev()."""
    major = device >> 8 & 0xFFF | device >> 32 & ~0xFFF
    minor = device & 0xFF | device >> 12 & ~0xFF
    return (minor & 0xFF | major << 8 | (minor & ~0xFF) << 12) & _U32


def host_device(device: int) -> int:
    """The other way. Source: Linux new_decode_dev(), glibc gnu_dev_makedev()."""
    major, minor = (device & 0xFFF00) >> 8, device & 0xFF | device >> 12 & 0xFFF00
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


class Encoder:
    """Makes replies that have attributes; the kernel keeps names and attributes for so many seconds."""

    def __init__(self, entry_seconds: float, attribute_seconds: float) -> None:
        self.seconds = entry_seconds, attribute_seconds
        entry, attribute = _timeout(entry_seconds), _timeout(attribute_seconds)
        self._valid = (entry[0], attribute[0], entry[1], attribute[1])
        self._attribute_valid = attribute
        self.keeps_negative = entry_seconds > 0

    def entry(self, unique: int, stat: Stat) -> bytes:
        """LOOKUP, MKNOD, MKDIR, SYMLINK, LINK."""
        return _entry_reply(144, 0, unique, stat[1], stat[14] & _U64, *self._valid, _attributes(stat))

    def negative(self, unique: int) -> bytes:
        """LOOKUP of a name that is not there, for the kernel to keep."""
        seconds, _, ns, _ = self._valid
        return _entry_reply(144, 0, unique, 0, 0, seconds, 0, ns, 0, _NOTHING)

    def attributes(self, unique: int, stat: Stat) -> bytes:
        """GETATTR, SETATTR."""
        return _attr_reply(120, 0, unique, *self._attribute_valid, 0, _attributes(stat))

    def created(self, unique: int, stat: Stat, handle: int, flags: int) -> bytes:
        """CREATE, TMPFILE."""
        return _create_reply(
            160, 0, unique, stat[1], stat[14] & _U64, *self._valid, _attributes(stat), handle, flags, 0
        )

    def extended(self, unique: int, stat: Stat) -> bytes:
        """STATX: with the time of birth."""
        rdev = kernel_device(stat.st_rdev)
        content = s.STATX_OUT.pack(
            *self._attribute_valid,
            0,
            _STATX_BASIC_AND_BIRTH,
            min(stat.st_blksize, _BLOCK_BYTES_MAX),
            0,
            stat.st_nlink,
            stat.st_uid,
            stat.st_gid,
            stat.st_mode,
            0,
            stat.st_ino,
            stat.st_size,
            stat.st_blocks,
            0,
            *_time(stat.st_atime_ns),
            *_time(stat.st_birthtime_ns),
            *_time(stat.st_ctime_ns),
            *_time(stat.st_mtime_ns),
            rdev >> 8 & 0xFFF,
            rdev & 0xFF | rdev >> 12 & 0xFFF00,
            0,
            0,
        )
        return data(unique, content)

    def entries(self, found: Iterable[DirEntry], size: int) -> tuple[bytes, int]:
        """READDIR: as many as fit into *size* bytes, and how many that were."""
        parts: list[bytes] = []
        left, pack = size, s.DIRENT.pack
        for name, ino, kind, offset in found:
            length = len(name)
            left -= 24 + length + 7 & ~7
            if left < 0:
                break
            parts.append(pack(ino, offset, length, kind >> 12) + name + bytes(-length & 7))
        return b"".join(parts), len(parts)

    def entries_plus(self, found: Iterable[tuple[DirEntry, Stat]], size: int) -> tuple[bytes, int]:
        """READDIRPLUS: as `entries`. ``.`` and ``..`` come without a node: they are not counted as looked up."""
        parts: list[bytes] = []
        left, pack, padding = size, s.PACKED_DIRENTPLUS.pack, _PADDING
        entry_seconds, attribute_seconds, entry_ns, attribute_ns = self._valid
        for (name, entry_ino, kind, offset), stat in found:
            length = len(name)
            left -= 152 + length + 7 & ~7
            if left < 0:
                break
            node, generation = (0, 0) if name in _DOTS else (stat[1], stat[14] & _U64)
            attributes = _attributes(stat)
            parts += (
                pack(
                    node,
                    generation,
                    entry_seconds,
                    attribute_seconds,
                    entry_ns,
                    attribute_ns,
                    attributes,
                    entry_ino,
                    offset,
                    length,
                    kind >> 12,
                ),
                name,
                padding[length & 7],
            )
        return b"".join(parts), len(parts) // 3


def space(unique: int, found: StatFS) -> bytes:
    """STATFS."""
    content = s.STATFS_OUT.pack(
        found.blocks,
        found.bfree,
        found.bavail,
        found.files,
        found.ffree,
        found.bsize,
        found.namemax,
        found.frsize,
        0,
    )
    return data(unique, content)


def _attributes(stat: Stat) -> bytes:
    mode, ino, _, nlink, uid, gid, size, atime, mtime, ctime, _, block_bytes, blocks, rdev, _, _, _, _ = stat
    return _packed_attr(
        ino,
        size,
        blocks,
        atime // _SECOND,
        mtime // _SECOND,
        ctime // _SECOND,
        atime % _SECOND,
        mtime % _SECOND,
        ctime % _SECOND,
        mode,
        nlink,
        uid,
        gid,
        kernel_device(rdev) if rdev else 0,
        block_bytes if block_bytes <= _BLOCK_BYTES_MAX else _BLOCK_BYTES_MAX,
        0,
    )


def _time(time_ns: int) -> tuple[int, int, int]:
    return time_ns // _SECOND, time_ns % _SECOND, 0


def _timeout(seconds: float) -> tuple[int, int]:
    """Whole seconds and nanoseconds."""
    whole = int(seconds)
    return whole, int((seconds - whole) * _SECOND)

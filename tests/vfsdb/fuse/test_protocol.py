"""Structures are as long as the kernel's, and what is encoded stands where the kernel looks for it."""

import errno
import os
import stat
import struct

import pytest

import vfsdb
from vfsdb.fuse import encoding, structures
from vfsdb.fuse.encoding import Encoder
from vfsdb.fuse.handlers import Handlers
from vfsdb.fuse.negotiation import negotiate
from vfsdb.fuse.opcodes import Init
from vfsdb.fuse.operations import Operations
from vfsdb.fuse.options import MountOptions
from vfsdb.fuse.requests import Request
from vfsdb.interface import ROOT, DirEntry, Stat

KERNEL_SIZES = {  # sizeof() of Linux include/uapi/linux/fuse.h, 7.45
    "IN_HEADER": 40,
    "OUT_HEADER": 16,
    "ATTR": 88,
    "ENTRY_OUT": 128,
    "ATTR_OUT": 104,
    "OPEN_OUT": 16,
    "CREATE_OUT": 144,
    "GETATTR_IN": 16,
    "SETATTR_IN": 88,
    "MKNOD_IN": 16,
    "MKDIR_IN": 8,
    "RENAME_IN": 8,
    "RENAME2_IN": 16,
    "LINK_IN": 8,
    "OPEN_IN": 8,
    "CREATE_IN": 16,
    "RELEASE_IN": 24,
    "FLUSH_IN": 24,
    "READ_IN": 40,
    "WRITE_IN": 40,
    "WRITE_OUT": 8,
    "STATFS_OUT": 80,
    "FSYNC_IN": 16,
    "SETXATTR_IN": 16,
    "SETXATTR_COMPAT_IN": 8,
    "GETXATTR_IN": 8,
    "GETXATTR_OUT": 8,
    "FILE_LOCK": 24,
    "LK_IN": 48,
    "LK_OUT": 24,
    "ACCESS_IN": 8,
    "INIT_IN": 64,
    "INIT_COMPAT_IN": 16,
    "INIT_OUT": 64,
    "INTERRUPT_IN": 8,
    "BMAP_IN": 16,
    "IOCTL_IN": 32,
    "IOCTL_OUT": 16,
    "POLL_IN": 24,
    "POLL_OUT": 8,
    "FORGET_IN": 8,
    "FORGET_ONE": 16,
    "BATCH_FORGET_IN": 8,
    "FALLOCATE_IN": 32,
    "LSEEK_IN": 24,
    "LSEEK_OUT": 8,
    "COPY_FILE_RANGE_IN": 56,
    "COPY_FILE_RANGE_OUT": 8,
    "SYNCFS_IN": 8,
    "DIRENT": 24,
    "DIRENTPLUS": 152,
    "PACKED_DIRENTPLUS": 152,
    "STATX_IN": 24,
    "STATX": 256,
    "STATX_OUT": 288,
    "NOTIFY_INVAL_INODE": 24,
    "NOTIFY_INVAL_ENTRY": 16,
    "EXTENSION_HEADER": 8,
    "SUPP_GROUPS": 4,
}
REPLIES = {"ENTRY_REPLY": "ENTRY_OUT", "ATTR_REPLY": "ATTR_OUT", "OPEN_REPLY": "OPEN_OUT", "CREATE_REPLY": "CREATE_OUT"}
EARLY = Stat(
    stat.S_IFREG | 0o640, 7, 1, 2, 1000, 1001, 1 << 40, -1, -(10**9), 2**33 * 10**9 + 5, 9, 4096, 8, 0, 3, 0, "", ""
)


def test_structures_are_as_long_as_the_kernels() -> None:
    ours = {name: value.size for name, value in vars(structures).items() if isinstance(value, struct.Struct)}
    with_header = {name: KERNEL_SIZES[inner] + KERNEL_SIZES["OUT_HEADER"] for name, inner in REPLIES.items()}
    assert ours == KERNEL_SIZES | with_header | {"WRITE_REPLY": 24}


def test_entry_has_times_before_1970_and_after_2106_where_the_kernel_reads_them() -> None:
    reply = Encoder(1.5, 2.25).entry(77, EARLY)
    assert structures.OUT_HEADER.unpack_from(reply) == (len(reply), 0, 77)
    node, generation, entry_s, attr_s, entry_ns, attr_ns, *attr = structures.ENTRY_OUT.unpack_from(reply, 16)
    assert (node, generation) == (7, 3)
    assert (entry_s, entry_ns, attr_s, attr_ns) == (1, 500_000_000, 2, 250_000_000)
    ino, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, nlink, uid, gid, rdev, block, _ = attr
    assert (ino, size, blocks, mode, nlink, uid, gid, rdev, block) == (7, 1 << 40, 8, 0o100640, 2, 1000, 1001, 0, 4096)
    assert (atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns) == (-1, 999_999_999, -1, 0, 2**33, 5)


def test_birth_time_is_in_the_extended_attributes() -> None:
    reply = Encoder(1, 1).extended(5, EARLY)
    assert len(reply) == 16 + 288
    fields = structures.STATX.unpack_from(reply, 16 + 32)
    assert fields[15:18] == (0, 9, 0)


@pytest.mark.parametrize("device", [os.makedev(1, 3), os.makedev(8, 300), os.makedev(4095, 1048575), 0])
def test_device_numbers_come_back(device: int) -> None:
    assert encoding.host_device(encoding.kernel_device(device)) == device


@pytest.mark.parametrize("code", [errno.ENOENT, 511])
def test_error_is_negative(code: int) -> None:
    assert structures.OUT_HEADER.unpack(encoding.error(3, code)) == (16, -code, 3)


@pytest.mark.parametrize("code", [0, -1, 512, 100000])
def test_number_that_is_no_errno_becomes_eio(code: int) -> None:
    assert structures.OUT_HEADER.unpack(encoding.error(3, code))[1] == -errno.EIO


@pytest.mark.parametrize("size", range(0, 200, 7))
def test_listing_ends_where_the_buffer_does(size: int) -> None:
    found = [DirEntry(b"n" * length, length, stat.S_IFREG, 300 + length) for length in (1, 8, 9, 30)]
    content, count = Encoder(1, 1).entries(found, size)
    lengths = [32, 32, 40, 56]
    assert len(content) <= size and count == len([n for n in range(1, 5) if sum(lengths[:n]) <= size])
    start = 0
    for entry in found[:count]:
        ino, offset, length, kind = structures.DIRENT.unpack_from(content, start)
        assert (ino, offset, kind) == (entry.ino, entry.offset, stat.S_IFREG >> 12)
        assert content[start + 24 : start + 24 + length] == entry.name
        start += (24 + length + 7) // 8 * 8


def test_dots_of_a_listing_with_attributes_have_no_node() -> None:
    found = [(DirEntry(name, 7, stat.S_IFDIR, 1), EARLY) for name in (b".", b"..", b"f")]
    content, count = Encoder(1, 1).entries_plus(found, 4096)
    assert count == 3 and [structures.DIRENTPLUS.unpack_from(content, 160 * n)[0] for n in range(3)] == [0, 0, 7]


def test_an_entry_of_a_listing_says_what_a_lookup_of_it_says() -> None:
    encoder = Encoder(1.5, 2.25)
    device = EARLY._replace(st_mode=stat.S_IFBLK | 0o600, st_rdev=os.makedev(300, 70_000), st_blksize=1 << 22)
    for known in (EARLY, device, EARLY._replace(st_gen=-1)):
        content, count = encoder.entries_plus([(DirEntry(b"name", known.st_ino, stat.S_IFREG, 3), known)], 4096)
        assert count == 1 and content[:128] == encoder.entry(9, known)[16:]


@pytest.mark.parametrize("size", [512, 4096, 32_768])
def test_a_listing_in_pieces_is_whole_and_counts_what_was_delivered(size: int) -> None:
    names = {b"%03d" % number + b"n" * (number % 7 * number % 250) for number in range(400)}
    with vfsdb.memory() as vfs:
        for name in names:
            vfs.write_bytes(b"/" + name, b"")
        operations = Operations(vfs.filesystem)
        handlers = Handlers(operations, Encoder(1, 1), Init(0), keep_cache=False)
        handle = operations.opendir(ROOT, operations.caller(0, 0))
        seen: list[bytes] = []
        numbers: list[int] = []
        offset = 0
        while True:
            request = Request()
            request.body = memoryview(structures.READ_IN.pack(handle, offset, size, 0, 0, 0, 0))
            reply = handlers.readdirplus(request)
            assert isinstance(reply, bytes) and len(reply) <= 16 + size
            content = reply[16:]
            if not content:
                break
            while content:
                fields = structures.DIRENTPLUS.unpack_from(content)
                offset, length = fields[-3:-1]
                seen.append(content[152 : 152 + length])
                numbers += [fields[0]] if fields[0] else []
                content = content[(152 + length + 7) // 8 * 8 :]
        assert sorted(seen) == sorted(names | {b".", b".."}) and len(set(seen)) == len(seen)
        assert operations.lookups == dict.fromkeys(numbers, 1) and len(numbers) == len(names)
        operations.destroy()
        assert not vfs.filesystem.files.handles._lookups


def init(minor: int, flags: int, major: int = 7) -> memoryview:
    extended = structures.INIT_IN.pack(major, minor, 131072, flags & 0xFFFFFFFF, flags >> 32)
    return memoryview(extended if flags & Init.INIT_EXT else extended[:16])


def test_both_sides_use_the_lower_version_and_what_both_can() -> None:
    offered = Init.INIT_EXT | Init.POSIX_LOCKS | Init.CREATE_SUPP_GROUP | Init.WRITEBACK_CACHE | Init.SUBMOUNTS
    agreement, reply = negotiate(1, init(40, offered), MountOptions())
    assert agreement is not None and agreement.minor == 40
    assert agreement.flags == Init.INIT_EXT | Init.POSIX_LOCKS | Init.CREATE_SUPP_GROUP
    fields = structures.INIT_OUT.unpack_from(reply, 16)
    assert fields[:2] == (7, 40) and fields[3] | fields[10] << 32 == agreement.flags and fields[6] == 1 << 20
    agreement, _ = negotiate(1, init(99, offered), MountOptions(writeback=True))
    assert agreement is not None and agreement.minor == 45 and agreement.flags & Init.WRITEBACK_CACHE


def test_oldest_version_has_one_word_of_flags() -> None:
    agreement, _ = negotiate(1, init(31, Init.POSIX_LOCKS), MountOptions())
    assert agreement is not None and (agreement.minor, agreement.flags) == (31, Init.POSIX_LOCKS)


def test_newer_major_version_is_asked_to_come_down() -> None:
    agreement, reply = negotiate(1, init(1, 0, major=8), MountOptions())
    assert agreement is None and structures.INIT_OUT.unpack_from(reply, 16)[0] == 7


@pytest.mark.parametrize(("major", "minor"), [(6, 50), (7, 30)])
def test_older_kernel_is_refused_by_name(major: int, minor: int) -> None:
    with pytest.raises(OSError, match=f"{major}.{minor}") as caught:
        negotiate(1, init(minor, 0, major), MountOptions())
    assert caught.value.errno == errno.EPROTO

"""Layout of what travels between kernel and server. Source: Linux include/uapi/linux/fuse.h, 7.45.

All is in the byte order of the machine, without gaps: the kernel's structures are padded to 8 bytes by fields of their
own. Requests follow `IN_HEADER`, replies `OUT_HEADER`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

IN_HEADER: Final = Struct("=IIQQIIIHH")  # len opcode unique nodeid uid gid pid extensions/8 padding
OUT_HEADER: Final = Struct("=IiQ")  # len error unique

_ATTR = (
    "QQQqqqIIIIIIIIII"  # ino size blocks atime mtime ctime (s), the three's ns, mode nlink uid gid rdev blksize flags
)
_ENTRY = "QQQQII" + _ATTR  # nodeid generation entry_valid attr_valid (s), the two's ns, attr
_OPEN = "QIi"  # fh open_flags backing_id
ATTR: Final = Struct("=" + _ATTR)
ENTRY_OUT: Final = Struct("=" + _ENTRY)
ATTR_OUT: Final = Struct("=QII" + _ATTR)  # attr_valid (s), ns, dummy, attr
OPEN_OUT: Final = Struct("=" + _OPEN)
CREATE_OUT: Final = Struct("=" + _ENTRY + _OPEN)
_PACKED_ATTR = f"{ATTR.size}s"  # packed by itself: what is in it need not be gathered for each kind of reply
_PACKED_ENTRY = "QQQQII" + _PACKED_ATTR
ENTRY_REPLY: Final = Struct("=IiQ" + _PACKED_ENTRY)
ATTR_REPLY: Final = Struct("=IiQQII" + _PACKED_ATTR)
OPEN_REPLY: Final = Struct("=IiQ" + _OPEN)
CREATE_REPLY: Final = Struct("=IiQ" + _PACKED_ENTRY + _OPEN)
WRITE_REPLY: Final = Struct("=IiQII")

GETATTR_IN: Final = Struct("=IIQ")  # flags dummy fh
SETATTR_IN: Final = Struct("=IIQQQqqqIIIIIIII")  # valid _ fh size lock_owner times (s) times (ns) mode _ uid gid _
MKNOD_IN: Final = Struct("=IIII")  # mode rdev umask _
MKDIR_IN: Final = Struct("=II")  # mode umask
RENAME_IN: Final = Struct("=Q")  # new directory
RENAME2_IN: Final = Struct("=QII")  # new directory, flags, _
LINK_IN: Final = Struct("=Q")  # old node
OPEN_IN: Final = Struct("=II")  # flags open_flags
CREATE_IN: Final = Struct("=IIII")  # flags mode umask open_flags
RELEASE_IN: Final = Struct("=QIIQ")  # fh flags release_flags lock_owner
FLUSH_IN: Final = Struct("=QIIQ")  # fh _ _ lock_owner
READ_IN: Final = Struct("=QQIIQII")  # fh offset size read_flags lock_owner flags _
WRITE_IN: Final = Struct("=QQIIQII")  # fh offset size write_flags lock_owner flags _
WRITE_OUT: Final = Struct("=II")  # size _
STATFS_OUT: Final = Struct("=QQQQQIIII24x")  # blocks bfree bavail files ffree bsize namelen frsize _
FSYNC_IN: Final = Struct("=QII")  # fh flags _
SETXATTR_IN: Final = Struct("=IIII")  # size flags setxattr_flags _
SETXATTR_COMPAT_IN: Final = Struct("=II")  # size flags
GETXATTR_IN: Final = Struct("=II")  # size _
GETXATTR_OUT: Final = Struct("=II")  # size _
FILE_LOCK: Final = Struct("=QQII")  # start end type pid
LK_IN: Final = Struct("=QQQQIIII")  # fh owner, lock, flags _
LK_OUT: Final = FILE_LOCK
ACCESS_IN: Final = Struct("=II")  # mask _
INIT_IN: Final = Struct("=IIIII44x")  # major minor max_readahead flags flags2
INIT_COMPAT_IN: Final = Struct("=IIII")  # as it was before INIT_EXT (7.36)
INIT_OUT: Final = Struct("=IIIIHHIIHHIIH22x")
# major minor max_readahead flags max_background congestion max_write time_gran max_pages map_alignment flags2
# max_stack_depth request_timeout
INTERRUPT_IN: Final = Struct("=Q")  # unique
BMAP_IN: Final = Struct("=QII")  # block blocksize _
IOCTL_IN: Final = Struct("=QIIQII")  # fh flags cmd arg in_size out_size
IOCTL_OUT: Final = Struct("=iIII")  # result flags in_iovs out_iovs
POLL_IN: Final = Struct("=QQII")  # fh kh flags events
POLL_OUT: Final = Struct("=II")  # revents _
FORGET_IN: Final = Struct("=Q")  # nlookup
FORGET_ONE: Final = Struct("=QQ")  # nodeid nlookup
BATCH_FORGET_IN: Final = Struct("=II")  # count _
FALLOCATE_IN: Final = Struct("=QQQII")  # fh offset length mode _
LSEEK_IN: Final = Struct("=QQII")  # fh offset whence _
LSEEK_OUT: Final = Struct("=Q")
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")  # fh_in off_in nodeid_out fh_out off_out len flags
COPY_FILE_RANGE_OUT: Final = Struct("=Q")  # bytes
SYNCFS_IN: Final = Struct("=Q")
DIRENT: Final = Struct("=QQII")  # ino offset namelen type; then the name, padded to 8 bytes
DIRENTPLUS: Final = Struct("=" + _ENTRY + "QQII")
PACKED_DIRENTPLUS: Final = Struct("=" + _PACKED_ENTRY + "QQII")
STATX_IN: Final = Struct("=IIQII")  # flags _ fh sx_flags sx_mask
STATX: Final = Struct("=IIQIIIHHQQQQ" + "qIi" * 4 + "IIII112x")
# mask blksize attributes nlink uid gid mode _ ino size blocks attributes_mask; atime btime ctime mtime (s, ns, _);
# rdev major, minor, dev major, minor
STATX_OUT: Final = Struct("=QII16x" + STATX.format[1:])  # attr_valid (s), ns, flags, stat
NOTIFY_INVAL_INODE: Final = Struct("=Qqq")  # nodeid offset length
NOTIFY_INVAL_ENTRY: Final = Struct("=QII")  # parent namelen flags; then the name and a NUL
EXTENSION_HEADER: Final = Struct("=II")  # size type
SUPP_GROUPS: Final = Struct("=I")  # count; then so many u32

"""Headers of tar archives: what they say of an entry, and what of it is believed. No filesystem is touched.

PAX format, with what star and GNU tar add: extended attributes as ``SCHILY.xattr.*`` (``%`` and ``=`` in a name as
``%25`` and ``%3D``), sparse files as ``GNU.sparse`` 1.0. Source: pax(1) of POSIX.1-2008, the GNU tar manual.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_bits
import tarfile
from collections.abc import Iterable
from typing import Any, Final, Self

from vfsdb.errors import os_error
from vfsdb.interface import PATH_BYTES_MAX, Stat
from vfsdb.paths import decode, encode
from vfsdb.transfer import Attributes, Xattrs, carried

SPARSE_BYTES_MAX: Final = 8 << 30  # of data; with more the size needs a header that readers take for the real size
HEADER_BYTES_MAX: Final = 16 << 20  # of names, times and extended attributes of one member
_EXTENDED: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_KINDS: Final = {
    tarfile.DIRTYPE: stat_bits.S_IFDIR,
    tarfile.SYMTYPE: stat_bits.S_IFLNK,
    tarfile.FIFOTYPE: stat_bits.S_IFIFO,
    tarfile.CHRTYPE: stat_bits.S_IFCHR,
    tarfile.BLKTYPE: stat_bits.S_IFBLK,
    **dict.fromkeys(tarfile.REGULAR_TYPES, stat_bits.S_IFREG),
}
_TYPES: Final = {kind: letter for letter, kind in _KINDS.items() if letter not in tarfile.REGULAR_TYPES}
_XATTR: Final = "SCHILY.xattr."
_SECONDS: Final = re.compile(r"(-?)(\d{1,10})(?:\.(\d*))?")
_SPARSE: Final = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


class Member(tarfile.TarInfo):
    """A header that is read strictly: where the standard one takes damage or a cut for the end, this says so."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """The next header. `tarfile.ReadError`."""
        try:
            return super().fromtarfile(tarfile)
        except _NOT_THE_END as error:
            raise _damaged(f"at byte {tarfile.offset}: {error}") from None

    def _proc_member(self, tarfile: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > HEADER_BYTES_MAX:
            raise _damaged(
                f"at byte {tarfile.offset}: a header of {self.size} bytes; at most {HEADER_BYTES_MAX} are read"
            )
        return super()._proc_member(tarfile)  # type: ignore[misc]


_NOT_THE_END: Final = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
)


def _damaged(problem: str) -> tarfile.ReadError:
    return tarfile.ReadError(problem)


# -- reading -----------------------------------------------------------------------------------------------------------


def names_of(path: str, what: str = "the member") -> list[bytes]:
    """Components of a member's name or a hard link's target, from the top. EPERM (leads out), ENAMETOOLONG, EINVAL."""
    raw = encode(path)
    names = [name for name in raw.split(b"/") if name not in (b"", b".")]
    if raw.startswith(b"/") or b".." in names:
        raise os_error(errno.EPERM, path, reason=f"{what} leads out of the archive")
    if b"\0" in raw:
        raise os_error(errno.EINVAL, path, reason=f"{what} has a NUL in its name")
    if len(raw) >= PATH_BYTES_MAX:
        raise os_error(errno.ENAMETOOLONG, path)
    return names


def check_symlink(names: list[bytes], target: bytes) -> None:
    """EPERM where a symbolic link called *names* leads out of the archive's top."""
    depth = len(names) - 1
    lowest = depth
    for step in target.split(b"/"):
        depth += -1 if step == b".." else 0 if step in (b"", b".") else 1
        lowest = min(lowest, depth)
    if target.startswith(b"/") or lowest < 0:
        raise os_error(errno.EPERM, reason=f"the symbolic link leads out of the archive, to {decode(target)!r}")


def kind_of(member: tarfile.TarInfo) -> int:
    """S_IFMT bits; 0 for a hard link. EOPNOTSUPP for a kind that no filesystem has."""
    if member.type == tarfile.LNKTYPE:
        return 0
    kind = _KINDS.get(member.type)
    if kind is None:
        raise os_error(errno.EOPNOTSUPP, member.name, reason=f"a member of type {member.type!r}")
    return kind


def attributes_of(member: tarfile.TarInfo, kind: int, trusted: bool) -> Stat:
    """Attributes of a member; set-id bits only where it is *trusted*. EINVAL."""
    if member.size < 0:
        raise os_error(errno.EINVAL, reason=f"the member has a size of {member.size} bytes")
    mtime_ns = _nanoseconds(member.pax_headers.get("mtime"), member.mtime)
    atime_ns = _nanoseconds(member.pax_headers.get("atime"), None)
    return Stat(
        st_mode=kind | member.mode & (0o7777 if trusted else 0o1777),
        st_ino=0,
        st_dev=0,
        st_nlink=1,
        st_uid=member.uid,
        st_gid=member.gid,
        st_size=member.size,
        st_atime_ns=mtime_ns if atime_ns is None else atime_ns,
        st_mtime_ns=mtime_ns or 0,
        st_ctime_ns=0,
        st_birthtime_ns=0,
        st_blksize=0,
        st_blocks=0,
        st_rdev=os.makedev(member.devmajor, member.devminor) if kind in (stat_bits.S_IFCHR, stat_bits.S_IFBLK) else 0,
        st_gen=0,
        st_flags=0,
        st_owner=member.uname,
        st_group=member.gname,
    )


def _nanoseconds(exact: str | None, rounded: float | None) -> Any:
    match = _SECONDS.fullmatch(exact) if exact is not None else None
    if match is None:
        return None if rounded is None else _whole_seconds(rounded) * 1_000_000_000
    found = int(match[2]) * 1_000_000_000 + int((match[3] or "0").ljust(9, "0")[:9])
    return -found if match[1] else found


def _whole_seconds(value: float) -> int:
    return int(value) if -(10**10) < value < 10**10 else 0  # not a number, or of no calendar


def xattrs_of(member: tarfile.TarInfo, trusted: bool) -> Xattrs:
    """Extended attributes of a member; those that root alone may set only where it is *trusted*."""
    found = {
        encode(key[len(_XATTR) :].replace("%3D", "=").replace("%25", "%")): encode(value)
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    }
    return [(name, found[name]) for name in carried(found, trusted)]


# -- writing -----------------------------------------------------------------------------------------------------------


def header(path: bytes, attributes: Attributes, xattrs: Xattrs) -> tarfile.TarInfo:
    """The header of an entry; size and link target are still to be set."""
    made = tarfile.TarInfo(decode(path))
    kind = stat_bits.S_IFMT(attributes.st_mode)
    made.type = _TYPES.get(kind, tarfile.REGTYPE)
    made.mode = stat_bits.S_IMODE(attributes.st_mode)
    made.uid, made.gid = attributes.st_uid, attributes.st_gid
    made.uname, made.gname = getattr(attributes, "st_owner", ""), getattr(attributes, "st_group", "")
    made.mtime = attributes.st_mtime_ns // 1_000_000_000
    made.pax_headers = {
        "mtime": _seconds(attributes.st_mtime_ns),
        "atime": _seconds(attributes.st_atime_ns),
        **{_XATTR + _keyword(name): decode(value) for name, value in xattrs},
    }
    if kind in (stat_bits.S_IFCHR, stat_bits.S_IFBLK):
        made.devmajor, made.devminor = os.major(attributes.st_rdev), os.minor(attributes.st_rdev)
    return made


def _seconds(time_ns: int) -> str:
    seconds, rest = divmod(abs(time_ns), 1_000_000_000)
    text = f"{seconds}.{rest:09}".rstrip("0").rstrip(".")
    return f"-{text}" if time_ns < 0 else text


def _keyword(name: bytes) -> str:
    try:
        return name.decode("utf-8").replace("%", "%25").replace("=", "%3D")
    except UnicodeDecodeError:
        reason = f"tar cannot hold the name of the attribute {name!r}: it is no UTF-8"
        raise os_error(errno.EILSEQ, reason=reason) from None


def make_sparse(made: tarfile.TarInfo, data: Iterable[tuple[int, int]], size: int) -> bytes:
    """Make *made* the header of a sparse file of *size* bytes, and give the map that comes before its data."""
    ranges = [*data, (size, size)]
    numbers = [len(ranges), *(number for start, stop in ranges for number in (start, stop - start))]
    text = b"".join(b"%d\n" % number for number in numbers)
    text += bytes(-len(text) % tarfile.BLOCKSIZE)
    real = {"GNU.sparse.name": made.name, "GNU.sparse.realsize": str(size)}
    made.pax_headers = {**made.pax_headers, **_SPARSE, **real}
    # What a reader sees that knows no sparse files; short and ASCII, else a header of its own would hide the real name.
    made.name = "GNUSparseFile.0/" + made.name.rpartition("/")[2].encode("ascii", "replace").decode()[:80]
    made.size = len(text) + sum(stop - start for start, stop in ranges)
    return text

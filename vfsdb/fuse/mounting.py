"""Putting a filesystem into the tree of names and taking it out again: mount(2) for root, fusermount3 for others."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import stat as stat_bits
import subprocess
from collections.abc import Sequence
from typing import Final

from vfsdb.errors import os_error
from vfsdb.fuse.device import open_device
from vfsdb.fuse.options import MountOptions

HELPER: Final = "fusermount3"
_FLAGS: Final = {  # mount(8) -> (bits of mount(2), whether it is set)
    "ro": (1, True),
    "rw": (1, False),
    "nosuid": (2, True),
    "suid": (2, False),
    "nodev": (4, True),
    "dev": (4, False),
    "noexec": (8, True),
    "exec": (8, False),
    "sync": (16, True),
    "async": (16, False),
    "dirsync": (128, True),
    "nosymfollow": (256, True),
    "noatime": (1024, True),
    "atime": (1024, False),
    "relatime": (1 << 21, True),
    "strictatime": (1 << 24, True),
    "nodiratime": (2048, True),
    "diratime": (2048, False),
}
FLAG_NAMES: Final = frozenset(_FLAGS)
_REMOUNT: Final = 32  # MS_REMOUNT
_FORCE, _DETACH = 1, 2  # MNT_FORCE, MNT_DETACH
_HELPER_SECONDS: Final = 60


def mount(mountpoint: str, options: MountOptions) -> int:
    """Mount at *mountpoint*, an existing directory; the descriptor over which the kernel then asks.

    Raises
    ------
    OSError
        ENOTDIR, ENOENT; EBUSY where something is mounted there; ENOTCONN where the process behind a mount there died;
        EPERM without the right to mount and without fusermount3.
    """
    check_mountpoint(mountpoint)
    if os.geteuid() == 0:
        return _mount_as_root(mountpoint, options)
    return _mount_with_helper(mountpoint, options)


def check_mountpoint(mountpoint: str) -> None:
    """A directory on which nothing of ours is mounted."""
    try:
        mode = os.stat(mountpoint).st_mode
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            reason = "the process behind the mount there has ended; take it away with 'vfsdb umount'"
            raise os_error(errno.ENOTCONN, mountpoint, reason=reason) from None
        raise
    if not stat_bits.S_ISDIR(mode):
        raise os_error(errno.ENOTDIR, mountpoint, reason="a mount point is a directory")
    kind = mounted_kind(mountpoint)
    if kind.startswith("fuse."):
        raise os_error(errno.EBUSY, mountpoint, reason=f"a filesystem of type {kind} is mounted there already")


def mounted_kind(mountpoint: str) -> str:
    """Type of the filesystem that is mounted at exactly *mountpoint*; empty where none is."""
    return _mount_of(mountpoint)[0]


def _mount_of(mountpoint: str) -> tuple[str, str]:
    """Type and device of the topmost mount at *mountpoint*. Nothing is asked of the filesystem itself."""
    parent, name = os.path.split(os.path.abspath(mountpoint))
    path, found = os.path.join(os.path.realpath(parent), name), ("", "")
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            fields = line.split()
            if os.fsdecode(_unescaped(fields[4])) == path:
                found = os.fsdecode(fields[fields.index(b"-") + 1]), os.fsdecode(fields[2])
    return found


def _unescaped(field: bytes) -> bytes:
    """A path of mountinfo, where blanks and backslashes stand as octal numbers."""
    for number in (b"040", b"011", b"012", b"134"):
        field = field.replace(b"\\" + number, bytes([int(number, 8)]))
    return field


def _mount_as_root(mountpoint: str, options: MountOptions) -> int:
    descriptor = open_device()
    try:
        text = f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions"
        if options.allow_other:
            text += ",allow_other"
        bits = _bits(["ro", *options.flags] if options.read_only else options.flags)
        _call("mount", mountpoint, options.source, mountpoint, f"fuse.{options.subtype}", bits, text)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remount(mountpoint: str, flags: Sequence[str]) -> None:
    """Change the flags of the mount at *mountpoint*: those that are not named are off. Needs root."""
    kind = mounted_kind(mountpoint)
    if not kind.startswith("fuse"):
        raise os_error(errno.EINVAL, mountpoint, reason=_REASONS[errno.EINVAL])
    _call("mount", mountpoint, "none", mountpoint, kind, _bits(flags) | _REMOUNT, "")


def _bits(flags: Sequence[str]) -> int:
    bits = 0
    for flag in flags:
        bit, is_set = _flag(flag)
        bits = bits | bit if is_set else bits & ~bit
    return bits


def _flag(name: str) -> tuple[int, bool]:
    try:
        return _FLAGS[name]
    except KeyError:
        raise os_error(errno.EINVAL, name, reason="no such mount option") from None


def _call(function: str, mountpoint: str, *arguments: str | int) -> None:
    """mount(2) or umount2(2). The interpreter goes on meanwhile: the kernel may ask us before it returns."""
    library = ctypes.CDLL(None, use_errno=True)
    converted = [os.fsencode(one) if isinstance(one, str) else ctypes.c_ulong(one) for one in arguments]
    if getattr(library, function)(*converted) != 0:
        code = ctypes.get_errno()
        raise os_error(code, mountpoint, reason=_REASONS.get(code, ""))


_REASONS: Final = {
    errno.EBUSY: "it is in use; 'lsof +f -- MOUNTPOINT' shows by whom, a lazy unmount does not wait for them",
    errno.EPERM: "only root mounts and unmounts without fusermount3 (Debian: apt-get install fuse3)",
    errno.EINVAL: "nothing is mounted there",
}


def _mount_with_helper(mountpoint: str, options: MountOptions) -> int:
    """Let the setuid program mount; it hands the descriptor over a socket. Source: libfuse lib/mount.c."""
    source = options.source.replace("\\", "\\\\").replace(",", "\\,")
    words = ["default_permissions", f"fsname={source}", f"subtype={options.subtype}", *options.flags]
    if options.read_only:
        words.append("ro")
    if options.allow_other:
        words.append("allow_other")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        command = [_helper(mountpoint), "-o", ",".join(words), "--", mountpoint]
        done = subprocess.run(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            timeout=_HELPER_SECONDS,
            check=False,
        )
        if done.returncode:
            raise os_error(errno.EPERM, mountpoint, reason=done.stderr.decode(errors="replace").strip())
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise os_error(errno.EPROTO, mountpoint, reason=f"{HELPER} ended without a descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _helper(mountpoint: str) -> str:
    found = shutil.which(HELPER)
    if found is None:
        raise os_error(errno.EPERM, mountpoint, reason=_REASONS[errno.EPERM])
    return found


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Take the mount at *mountpoint* out of the tree. EBUSY while somebody uses it; *lazy*: it goes on for them.

    EINVAL where nothing is mounted there.
    """
    if os.geteuid() == 0:
        _call("umount2", mountpoint, mountpoint, _DETACH if lazy else 0)
        return
    command = [_helper(mountpoint), "-u", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=_HELPER_SECONDS, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise os_error(errno.EBUSY if "busy" in said else errno.EINVAL, mountpoint, reason=said)


def abort(mountpoint: str) -> None:
    """Let nobody wait for an answer any more: whoever uses the mount gets ENOTCONN from now on."""
    control = f"/sys/fs/fuse/connections/{_device(mountpoint).partition(':')[2]}/abort"
    if os.path.exists(control):
        with open(control, "w") as file:
            file.write("1")
        return
    try:
        _call("umount2", mountpoint, mountpoint, _FORCE)
    except OSError as error:
        # EBUSY: the kernel ended the requests, and then found open files. EPERM: a user can only wait for others.
        if error.errno not in (errno.EBUSY, errno.EPERM):
            raise


def set_readahead(mountpoint: str, size: int) -> None:
    """How far the kernel reads ahead in the filesystem at *mountpoint*, in bytes. EACCES without root."""
    with open(f"/sys/class/bdi/{_device(mountpoint)}/read_ahead_kb", "w") as setting:
        setting.write(str(size // 1024))


def _device(mountpoint: str) -> str:
    """``major:minor`` of what is mounted at *mountpoint*."""
    return _mount_of(mountpoint)[1]

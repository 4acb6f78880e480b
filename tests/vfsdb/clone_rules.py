"""Rules for the machine of `test_model`: clones of files and trees, and ranges copied inside the filesystem."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

if TYPE_CHECKING:
    from tests.vfsdb.test_model import FilesystemMachine, Slot

PATHS_MAX: Final = 40  # clones of clones would fill the disk


class CloneRules:
    """Mixed into the machine, which has all that *self* is used for."""

    @rule(data=st.data())
    def clone(self: FilesystemMachine, data: st.DataObject) -> None:  # type: ignore[misc]
        source, target = self.any_path(data), self.new_path(data)
        if len(self.host_tree()) > PATHS_MAX:
            return

        def of_host() -> None:
            kind = stat.S_IFMT(os.lstat(self.at(source)).st_mode)
            if kind == stat.S_IFDIR and (target + b"/").startswith(source + b"/"):
                code = errno.EEXIST if _is_there(self.at(target)) else errno.EINVAL
                raise OSError(code, os.strerror(code))
            os.mkdir(self.at(target))  # as it would fail, this does
            os.rmdir(self.at(target))
            copy_host(self.at(source), self.at(target), {})

        self.both(of_host, lambda: self.fs.clone(self.ino(source), *self.entry(target)))

    @precondition(lambda self: self.slots)
    @rule(
        data=st.data(),
        here=st.sampled_from((0, 0, 4096, 8192, 60)),
        there=st.sampled_from((0, 0, 4096, 8192, 60, 40960)),
        size=st.sampled_from((1, 64, 4096, 5000, 8192, 20000)),
    )
    def copy_range(self: FilesystemMachine, data: st.DataObject, here: int, there: int, size: int) -> None:  # type: ignore[misc]
        source, target = self.slot(data), self.slot(data)
        if not _is_read(source) or not _is_written(target) or _overlap(source, target, here, there, size):
            return

        self.both(
            lambda: _copy_some(source.host, target.host, size, here, there),
            lambda: self.fs.copy_file_range(source.handle, here, target.handle, there, size),
        )


def _is_there(path: bytes) -> bool:
    os.lstat(os.path.dirname(path))
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _is_read(slot: Slot) -> bool:
    return slot.flags & os.O_ACCMODE != os.O_WRONLY


def _is_written(slot: Slot) -> bool:
    return slot.flags & os.O_ACCMODE != os.O_RDONLY and not slot.flags & os.O_APPEND


def _overlap(source: Slot, target: Slot, here: int, there: int, size: int) -> bool:
    same = os.path.sameopenfile(source.host, target.host)
    return same and abs(here - there) < size


def _copy_some(source: int, target: int, size: int, here: int, there: int) -> None:
    data = os.pread(source, size, here)
    if data:
        os.pwrite(target, data, there)


def copy_host(source: bytes, target: bytes, seen: dict[int, bytes]) -> None:
    """A copy as a clone is one: owners, modes, times, attributes, and several names of one inode."""
    info: Any = os.lstat(source)
    kind = stat.S_IFMT(info.st_mode)
    if info.st_ino in seen:
        os.link(seen[info.st_ino], target, follow_symlinks=False)
        return
    if kind == stat.S_IFDIR:
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            copy_host(source + b"/" + name, target + b"/" + name, seen)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    else:
        shutil.copyfile(source, target)
    if kind != stat.S_IFDIR:
        seen[info.st_ino] = target
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(target, stat.S_IMODE(info.st_mode))
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)

"""A directory of the host as the target of an export."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb.errors import os_error
from vfsdb.host_tree import HostDirectories, HostDirectory, entry_path
from vfsdb.transfer import DEFAULT_ACL, NO_SUCH_XATTR, Attributes, Content, Xattrs, pieces

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ITSELF: Final = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC
Place = tuple[HostDirectory, bytes]


class HostTarget:
    """Makes entries by descriptor of their directory, never through a symbolic link.

    What stands in the way of a file or link is unlinked, never written to: it may have other names. A file gets its
    time of change after its content, so one that was interrupted differs from its source.
    """

    def __init__(self, directories: HostDirectories, owners: bool) -> None:
        self._directories = directories
        self._owners = owners

    def enter(
        self, parent: HostDirectory, name: bytes, attributes: Attributes, xattrs: Xattrs
    ) -> tuple[HostDirectory, bool]:
        """A directory below *parent*, and whether it was made. ENOTDIR where something else is there."""
        number = self._directories.number(parent)
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=number)
        except FileExistsError:
            made = False
            if not stat_bits.S_ISDIR(os.stat(name, dir_fd=number, follow_symlinks=False).st_mode):
                raise os_error(errno.ENOTDIR, reason="a directory cannot replace it") from None
        directory = self._directories.below(parent, name)
        if not made:
            self.prepare(directory)
        return directory, made

    def prepare(self, directory: HostDirectory) -> None:
        """Take away what new entries of a directory that was there would inherit; its copy brings its own."""
        try:
            os.removexattr(self._directories.number(directory), DEFAULT_ACL)
        except OSError as error:
            if error.errno not in NO_SUCH_XATTR:
                raise

    def leave(self, directory: HostDirectory, attributes: Attributes, xattrs: Xattrs) -> None:
        """Give a directory its attributes: after all that is done in it, which changes its times."""
        self._finish_open(self._directories.number(directory), attributes, xattrs)
        self._directories.leave(directory)

    def unchanged(self, directory: HostDirectory, name: bytes, attributes: Attributes) -> Place | None:
        """The regular file of that name, where size and time of change are those of *attributes*."""
        found = self._lookup(directory, name)
        if (
            found is None
            or not stat_bits.S_ISREG(found.st_mode)
            or found.st_size != attributes.st_size
            or found.st_mtime_ns != attributes.st_mtime_ns
        ):
            return None
        return directory, name

    def _lookup(self, directory: HostDirectory, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._directories.number(directory), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def file(self, directory: HostDirectory, name: bytes, content: Content) -> tuple[Place, int]:
        """A regular file with its attributes; where it is and how many bytes were written. None of it at an error."""
        parent = self._directories.number(directory)
        try:
            number = os.open(name, _NEW, 0o600, dir_fd=parent)
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            number = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            written = _write(number, content)
            self._finish_open(number, content.stat, content.xattrs)
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(number)
        return (directory, name), written

    def symlink(
        self, directory: HostDirectory, name: bytes, target: bytes, attributes: Attributes, xattrs: Xattrs
    ) -> Place:
        """A symbolic link that says *target*."""
        self._make_way(directory, name)
        os.symlink(target, name, dir_fd=self._directories.number(directory))
        return self._finished(directory, name, attributes, xattrs)

    def node(self, directory: HostDirectory, name: bytes, attributes: Attributes, xattrs: Xattrs) -> Place:
        """A fifo, socket or device."""
        self._make_way(directory, name)
        mode = stat_bits.S_IFMT(attributes.st_mode) | 0o600
        os.mknod(name, mode, attributes.st_rdev, dir_fd=self._directories.number(directory))
        return self._finished(directory, name, attributes, xattrs)

    def link(self, existing: Place, directory: HostDirectory, name: bytes) -> None:
        """Another name for a file; nothing happens where it is that already."""
        found = self._lookup(directory, name)
        if found is not None:
            old = self._lookup(*existing)
            if old is not None and (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino):
                return
            self._make_way(directory, name)
        # Each directory may push the other's descriptor out; the second call cannot, with one open before.
        new_parent = os.dup(self._directories.number(directory))
        try:
            old_parent = self._directories.number(existing[0])
            os.link(existing[1], name, src_dir_fd=old_parent, dst_dir_fd=new_parent, follow_symlinks=False)
        finally:
            os.close(new_parent)

    def _make_way(self, directory: HostDirectory, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=self._directories.number(directory))
        except FileNotFoundError:
            return

    def _finished(self, directory: HostDirectory, name: bytes, attributes: Attributes, xattrs: Xattrs) -> Place:
        parent = self._directories.number(directory)
        try:
            self._finish_entry(parent, name, attributes, xattrs)
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        return directory, name

    def _finish_entry(self, parent: int, name: bytes, attributes: Attributes, xattrs: Xattrs) -> None:
        """Attributes of what cannot be opened: each call is told not to follow a link."""
        if self._owners:
            os.chown(name, attributes.st_uid, attributes.st_gid, dir_fd=parent, follow_symlinks=False)
        if not stat_bits.S_ISLNK(attributes.st_mode):
            number = os.open(name, _ITSELF, dir_fd=parent)
            try:
                os.chmod(f"/proc/self/fd/{number}", stat_bits.S_IMODE(attributes.st_mode))
            finally:
                os.close(number)
        for key, value in xattrs:
            os.setxattr(entry_path(parent, name), key, value, follow_symlinks=False)
        os.utime(name, ns=(attributes.st_atime_ns, attributes.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _finish_open(self, number: int, attributes: Attributes, xattrs: Xattrs) -> None:
        if self._owners:
            os.fchown(number, attributes.st_uid, attributes.st_gid)
        os.fchmod(number, stat_bits.S_IMODE(attributes.st_mode))  # after chown, which takes setuid bits away
        for key, value in xattrs:
            os.setxattr(number, key, value)
        os.utime(number, ns=(attributes.st_atime_ns, attributes.st_mtime_ns))


def _write(number: int, content: Content) -> int:
    """Write the content to a new file; how many bytes."""
    whole = content.whole()
    if whole is not None:
        _write_at(number, whole, 0)
        return len(whole)
    written = 0
    for offset, data in pieces(content):
        _write_at(number, data, offset)
        written += len(data)
    os.ftruncate(number, content.end())
    return written


def _write_at(number: int, data: bytes, offset: int) -> None:
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += os.pwrite(number, rest[done:], offset + done)

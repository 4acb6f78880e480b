"""A vfsdb filesystem as a PyFilesystem2 one, for its suite: names and errors are translated, nothing is decided."""

from __future__ import annotations

import stat as stat_bits
import typing
import warnings
from collections.abc import Collection
from typing import Any, BinaryIO

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it declares its namespace with pkg_resources, which says that it will go
    from fs import errors
    from fs.base import FS
    from fs.enums import ResourceType
    from fs.error_tools import convert_os_errors
    from fs.info import Info
    from fs.mode import Mode
    from fs.path import basename
    from fs.permissions import Permissions
    from fs.subfs import SubFS

from vfsdb.interface import Stat
from vfsdb.posix import VFS

_TYPES = {
    stat_bits.S_IFDIR: ResourceType.directory,
    stat_bits.S_IFREG: ResourceType.file,
    stat_bits.S_IFLNK: ResourceType.symlink,
    stat_bits.S_IFIFO: ResourceType.fifo,
    stat_bits.S_IFSOCK: ResourceType.socket,
    stat_bits.S_IFCHR: ResourceType.character,
    stat_bits.S_IFBLK: ResourceType.block_special_file,
}


class VFSAdapter(FS):
    """The eight methods that PyFilesystem2 builds on, and those where the path API does more in one step."""

    _meta: typing.ClassVar = {
        "case_insensitive": False,
        "invalid_path_chars": "\0",
        "max_path_length": 4095,
        "network": False,
        "supports_mtime": True,
        "supports_rename": False,  # it means files of the host
        "thread_safe": True,
        "unicode_paths": True,
        "virtual": False,
    }

    def __init__(self, vfs: VFS) -> None:
        super().__init__()
        self._meta = {**self._meta, "read_only": vfs.read_only}
        self._vfs = vfs

    def getinfo(self, path: str, namespaces: Collection[str] | None = None) -> Info:
        self.check()
        asked = namespaces or ()
        checked = self.validatepath(path)
        with convert_os_errors("getinfo", path):
            found = self._vfs.stat(checked)
            link = self._vfs.lstat(checked)
            target = self._vfs.readlink(checked) if stat_bits.S_ISLNK(link.st_mode) else None
        return Info(self._raw_info(basename(checked), found, link, target, asked))

    def _raw_info(
        self, name: str, found: Stat, link: Stat, target: str | None, asked: Collection[str]
    ) -> dict[str, Any]:
        info: dict[str, Any] = {"basic": {"name": name, "is_dir": stat_bits.S_ISDIR(found.st_mode)}}
        if "details" in asked:
            info["details"] = {
                "_write": ["accessed", "modified"],
                "accessed": found.st_atime,
                "created": found.st_birthtime,
                "metadata_changed": found.st_ctime,
                "modified": found.st_mtime,
                "size": found.st_size,
                "type": int(_TYPES[stat_bits.S_IFMT(found.st_mode)]),
            }
        if "stat" in asked:
            info["stat"] = found._asdict()
        if "lstat" in asked:
            info["lstat"] = link._asdict()
        if "link" in asked:
            info["link"] = {"target": target}
        if "access" in asked:
            info["access"] = {
                "permissions": Permissions(mode=found.st_mode).dump(),
                "uid": found.st_uid,
                "gid": found.st_gid,
            }
        return info

    def listdir(self, path: str) -> list[str]:
        self.check()
        with convert_os_errors("listdir", path, directory=True):
            return self._vfs.listdir(self.validatepath(path))

    def makedir(self, path: str, permissions: Permissions | None = None, recreate: bool = False) -> SubFS[VFSAdapter]:
        self.check()
        checked = self.validatepath(path)
        with convert_os_errors("makedir", path, directory=True):
            try:
                self._vfs.mkdir(checked, Permissions.get_mode(permissions))
            except FileExistsError:
                if not recreate:
                    raise
        return self.opendir(checked)

    def openbin(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> BinaryIO:
        asked = Mode(mode)
        asked.validate_bin()
        self.check()
        with convert_os_errors("openbin", path):
            return typing.cast(BinaryIO, self._vfs.open(self.validatepath(path), asked.to_platform_bin(), buffering))

    def remove(self, path: str) -> None:
        self.check()
        with convert_os_errors("remove", path):
            self._vfs.unlink(self.validatepath(path))

    def removedir(self, path: str) -> None:
        self.check()
        checked = self.validatepath(path)
        if checked == "/":
            raise errors.RemoveRootError
        with convert_os_errors("removedir", path, directory=True):
            self._vfs.rmdir(checked)

    def setinfo(self, path: str, info: Any) -> None:
        self.check()
        checked = self.validatepath(path)
        details = info.get("details", {})
        with convert_os_errors("setinfo", path):
            found = self._vfs.stat(checked)
            times = (details.get("accessed"), details.get("modified"))
            if times != (None, None):
                accessed, modified = (
                    old if new is None else round(new * 1e9)
                    for new, old in zip(times, (found.st_atime_ns, found.st_mtime_ns), strict=True)
                )
                self._vfs.utime(checked, ns=(accessed, modified))

    def close(self) -> None:
        if not self.isclosed():
            self._vfs.close()
        super().close()

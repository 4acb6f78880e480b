"""Regular files that come back: all that are wanted together, with the blocks they had where these can be named again.

To name blocks of an earlier state costs a look through all that wait to be free, so files are gathered, and with them
what can only be done behind them: their further names, and the attributes of the directories they lie in.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple

from vfsdb.interface import Caller, FileSystem, SetAttr, Stat
from vfsdb.tree_reader import FsSource
from vfsdb.tree_writer import FsTarget

FILES_MAX: Final = 4096  # gathered
_CANNOT: Final = (errno.EXDEV, errno.ENODATA, errno.ENOSYS, errno.EOPNOTSUPP)  # name blocks of that state
_SET_ID: Final = stat_bits.S_ISUID | stat_bits.S_ISGID


class _File(NamedTuple):
    was: int  # directory there
    here: int
    name: bytes
    stat: Stat


class Returning:
    """Brings files of *past* back into *target*.

    Attributes
    ----------
    is_own : bool
        Whether *past* is an earlier state of *target*, with the same stores: then numbers and generations of inodes
        mean the same in both.
    files : int
        How many were brought back.
    size_bytes, copied_bytes : int
        Of them, and of those that had to be copied: *past* is of other stores, or is not kept.
    """

    def __init__(self, target: FileSystem, past: FileSystem, caller: Caller, source: FsSource) -> None:
        self._target = target
        self._past = past
        self._caller = caller
        self._source = source
        self._writer = FsTarget(target, caller, caller.privileged)
        self._is_free = caller.privileged or caller.uid == 0
        self.is_own = True
        self._known: dict[int, int] = {}  # inode there -> inode here, 0: it is waited for
        self._files: list[_File] = []
        self._names: list[tuple[int, int, bytes]] = []  # inode there; directory and name here
        self._after: list[Callable[[], None]] = []
        self.files = self.size_bytes = self.copied_bytes = 0

    def begin(self) -> None:
        """Learn whether blocks can be named again, in the transaction of the caller."""
        try:
            self._target.adopt(self._past, (), self._caller)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self.is_own = False

    def is_known(self, ino: int) -> bool:
        """Whether inode *ino* of the earlier state came back under another name."""
        return ino in self._known

    def knows(self, ino: int, made: int) -> None:
        """Inode *ino* of the earlier state is *made* here: its further names are links."""
        self._known[ino] = made

    def file(self, was: int, here: int, name: bytes, stat: Stat) -> None:
        """File *name* of directory *was* comes back into the directory *here*, where nothing has the name."""
        if stat.st_nlink > 1:
            self._known[stat.st_ino] = 0
        self._files.append(_File(was, here, name, stat))
        if len(self._files) >= FILES_MAX:
            self.bring()

    def link(self, ino: int, here: int, name: bytes) -> None:
        """Another name of what is known."""
        self._names.append((ino, here, name))

    def after(self, act: Callable[[], None]) -> None:
        """*act* is called when all that was gathered before is there."""
        self._after.append(act)

    def bring(self) -> None:
        """Do all that was gathered, in the transaction of the caller."""
        files, self._files = self._files, []
        if files:
            for file, made in zip(files, self._made(files), strict=True):
                self.files += 1
                self.size_bytes += file.stat.st_size
                if file.stat.st_nlink > 1:
                    self._known[file.stat.st_ino] = made
        for ino, here, name in self._names:
            self._writer.link(self._known[ino], here, name)
        self._names.clear()
        after, self._after = self._after, []
        for act in after:
            act()

    def _made(self, files: list[_File]) -> list[int]:
        return self._adopted(files) if self.is_own else [self._copied(file) for file in files]

    def _adopted(self, files: list[_File]) -> list[int]:
        wanted = [(file.stat.st_ino, file.here, file.name) for file in files]
        made = self._target.adopt(self._past, wanted, self._caller)
        if not self._is_free:
            for ino, file in zip(made, files, strict=True):
                if file.stat.st_mode & _SET_ID:
                    mode = stat_bits.S_IMODE(file.stat.st_mode)
                    self._target.setattr(ino, SetAttr(mode=mode), None, self._caller)
        return made

    def _copied(self, file: _File) -> int:
        with closing(self._source.open(file.was, file.name)) as content:
            made, written = self._writer.file(file.here, file.name, content)
        self.copied_bytes += written
        return made

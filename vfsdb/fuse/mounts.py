"""`mount`: any FileSystem as a directory of this machine, served by this process."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from vfsdb.fuse import mounting
from vfsdb.fuse.notifications import Notifier
from vfsdb.fuse.operations import Operations
from vfsdb.fuse.options import MountOptions
from vfsdb.fuse.session import Session, opcode_name
from vfsdb.interface import Event, FileSystem


class Mount:
    """A mounted filesystem. As a context manager it is unmounted at the end.

    Attributes
    ----------
    mountpoint : str
    options : MountOptions
    """

    def __init__(self, fs: FileSystem, mountpoint: str, options: MountOptions) -> None:
        self.mountpoint = mountpoint
        self.options = options
        self._operations = Operations(fs, writeback=options.writeback, keeps=options.keep_cache)
        self._descriptor = mounting.mount(mountpoint, options)
        self._session = Session(self._descriptor, self._operations, options)
        self._notifier = Notifier(self._descriptor)
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="vfsdb-fuse", daemon=True)
        self._thread.start()
        self._session.ready.wait()
        if self._session.agreement is None:
            self.wait()
            raise OSError(errno.EPROTO, "the kernel did not accept the mount", mountpoint)
        if options.readahead_bytes and os.geteuid() == 0:
            mounting.set_readahead(mountpoint, options.readahead_bytes)

    def _serve(self) -> None:
        try:
            self._session.run()
        except BaseException as error:
            self._failure = error
            mounting.abort(self.mountpoint)
        finally:
            self._notifier.close()
            os.close(self._descriptor)  # who still waits for an answer gets ENOTCONN
            self._done.set()

    @property
    def held(self) -> Operations:
        """What the kernel holds now: lookups, handles."""
        return self._operations

    @property
    def requests(self) -> int:
        """How many requests the kernel sent so far."""
        return self._session.requests()

    def metrics(self) -> dict[str, Any]:
        """What the kernel asked so far, by name, and what it holds now."""
        session, operations = self._session, self._operations
        asked = {opcode_name(opcode): count for opcode, count in sorted(session.counts.items()) if count}
        return {
            "requests": asked,
            "refused": session.failures,
            "stalls": session.stalls,
            "inodes": len(operations.lookups),
            "lookups": sum(operations.lookups.values()),
            "files": len(operations.files),
            "directories": len(operations.directories),
            "notifications": self._notifier.sent,
        }

    def changed(self, events: Sequence[Event]) -> None:
        """Others changed this: the kernel forgets what it kept of it. Returns at once; may be called under any lock."""
        for event in events:
            self._operations.changed(event.ino)
        self._notifier.tell(events)

    def settle(self, seconds: float = 1.0) -> bool:
        """Until the kernel has forgotten all that `changed` was told, at most so long; whether it has."""
        return self._notifier.wait(seconds)

    @property
    def alive(self) -> bool:
        """Whether it is still served."""
        return not self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until the filesystem was unmounted, by whom ever; False after *timeout* seconds.

        Raises
        ------
        Exception
            What ended the service, where that was not an unmount.
        """
        if not self._done.wait(timeout):
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount and wait until all is given back. EBUSY while somebody uses it; *lazy* waits until nobody does."""
        if self.alive:
            mounting.unmount(self.mountpoint, lazy=lazy)
        self.wait()

    def stop(self) -> None:
        """Unmount, whoever uses it: they get ENOTCONN, and what was answered before has happened."""
        try:
            self.unmount()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            mounting.abort(self.mountpoint)
            mounting.unmount(self.mountpoint, lazy=True)
            self.wait()

    def __enter__(self) -> Mount:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def mount(fs: FileSystem, mountpoint: str | os.PathLike[str], **options: Any) -> Mount:
    """Mount *fs* at the directory *mountpoint*, and serve it in a thread until it is unmounted.

    Whoever uses the mount should be another process: this one answers for it. *fs* stays open afterwards.

    Parameters
    ----------
    fs : FileSystem
        Any: a store's (``vfs.filesystem``), a view, a `HostFileSystem`, one of your own.
    mountpoint : path
        An existing directory.
    **options
        Fields of `MountOptions`.

    Raises
    ------
    OSError
        EBUSY, ENOTCONN (a mount there lost its process), EPERM, ENOTDIR, ENOENT; EINVAL for options.
    """
    options["read_only"] = options.get("read_only", False) or fs.read_only
    chosen = MountOptions(**options)
    return Mount(fs, os.path.abspath(os.fsdecode(mountpoint)), chosen)

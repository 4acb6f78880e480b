"""Check and repair of the filesystem at a path: its stores first, then what is in them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from vfsdb.database import Stores
from vfsdb.errors import FormatError, StoreBusyError, VFSError, os_error
from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.checkpoint import Checkpoint
from vfsdb.fsck.findings import Finding, Progress, Report, StoppedError, problems
from vfsdb.fsck.kept import Kept
from vfsdb.fsck.places import NAMES, Places, Which
from vfsdb.fsck.repair import repair_stores
from vfsdb.fsck.state import Check
from vfsdb.stores.ourdb_fsck import mend_store, open_as_found, verify_store

Path = str | os.PathLike[str]


def fsck(
    path: Path | None = None,
    repair: bool = False,
    deep: bool = False,
    *,
    metadata_dir: Path | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    resume: Path | None = None,
    below: Iterable[str] = (),
    inos: Iterable[int] = (),
    lock_timeout: float = 0.0,
    give_up: Which | None = None,
) -> Report:
    """Check a filesystem, and with *repair* mend it.

    A check writes nothing, needs no lock, and works beside a writer in another process, whose state of one moment it
    looks at.

    Parameters
    ----------
    path : path, optional
        The directory of the filesystem; or name its two stores:
    metadata_dir, data_dir : path, optional
    repair : bool
        Follow the plan of the findings. Takes the writer's lock. What is dropped is kept in a file beside the stores.
    deep : bool
        Compare every checksum of both stores, too: O(bytes), otherwise O(records and blocks). A repair always does.
    progress : Callable, optional
        ``(phase, done, total, unit)``; returning False stops the check, and the report says ``complete=False``.
    resume : path, optional
        A file of the host: what a stopped check had verified is written there and read from there. It is removed when
        a check ends.
    below : Iterable[str]
        Paths in the filesystem: look at what is below them alone.
    inos : Iterable[int]
        Look at these inodes alone.
    lock_timeout : float
        Seconds to wait for another writer, with *repair*.
    give_up : {"metadata", "data"}, optional
        With *repair*: this one of the two stores is gone for good. An empty one is made for it. Without ``data`` the
        repair ends with names, attributes and small files, all other content being holes; without ``metadata`` with
        an empty filesystem, the bytes of every block being kept in a file beside the stores.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        There is no filesystem.
    StoreBusyError
        *repair*, and another process writes, or repairs.
    FormatError
        It is no filesystem, or one of a newer version.
    OSError
        The disk fails; EINVAL: *repair* together with *below* or *inos*, *give_up* without *repair* or where that
        store is there.
    """
    some = [os.fsencode(one) for one in below], [*inos]
    job = _Job(path, metadata_dir, data_dir, progress, deep or repair)
    if repair and any(some):
        raise VFSError("a repair looks at the whole filesystem: leave out below and inos", job.path)
    if give_up is not None and (give_up not in NAMES or not repair):
        raise os_error(errno.EINVAL, job.path, reason="a repair can give up one store, metadata or data")
    checkpoint = Checkpoint(os.fspath(resume)) if resume is not None else None
    try:
        with job.places.alone(lock_timeout) if repair else contextlib.nullcontext():
            return job.run(repair, checkpoint, *some, lock_timeout, give_up)
    except StoppedError:
        return job.stopped()


class _Job:
    """One call of `fsck`."""

    def __init__(
        self, path: Path | None, metadata_dir: Path | None, data_dir: Path | None, progress: Progress | None, deep: bool
    ) -> None:
        if path is not None:
            root = os.path.abspath(os.fsdecode(path))
            if not os.path.isdir(root):
                raise FileNotFoundError(2, "there is no filesystem here", root)
            self.path = root
            self.directories = [os.path.join(root, "metadata"), os.path.join(root, "data")]
        elif metadata_dir is not None and data_dir is not None:
            self.directories = [os.path.abspath(os.fsdecode(one)) for one in (metadata_dir, data_dir)]
            self.path = self.directories[0]
        else:
            raise TypeError("give the filesystem's path, or both of its directories")
        self.report = Report()
        self.places = Places(self.path, self.directories, path is not None, self.report)
        self.progress = progress
        self.deep = deep
        self.verified = True

    def stopped(self) -> Report:
        """The report of a check that was asked to stop."""
        self.report.complete = False
        return self.report

    def run(
        self,
        repair: bool,
        checkpoint: Checkpoint | None,
        below: list[bytes],
        inos: list[int],
        lock_timeout: float,
        give_up: Which | None,
    ) -> Report:
        """Stores, then what is in them."""
        report = self.report
        if not self.places.are_sound(repair, give_up):
            report.left = problems(report.findings)
            return report
        if not below and not inos:
            self._verify(repair, checkpoint)
        with self._opened(repair, lock_timeout) as stores:
            if stores is None:
                report.left = problems(report.findings)
                return report
            check = self._check(stores, checkpoint, below, inos)
            report.findings += check.findings
            report.counts |= dict(check.totals)
            if repair and problems(check.findings):
                kept = Kept(os.path.dirname(self.directories[0]))
                repair_stores(stores, check, kept, report, deep=self.deep, progress=self.progress)
            else:
                check.source.close()
        if checkpoint is not None:
            checkpoint.remove()
        return report

    def _check(self, stores: Stores, checkpoint: Checkpoint | None, below: list[bytes], inos: list[int]) -> Check:
        try:
            return check_stores(
                stores,
                deep=self.deep,
                progress=self.progress,
                inos=inos,
                paths=below,
                verified=self.deep and self.verified and not below and not inos,
            )
        except StoppedError as stopped:
            check = stopped.args[0]
            assert isinstance(check, Check)
            self.report.findings += check.findings
            check.source.close()
            raise

    # -- the stores ------------------------------------------------------------------------------------------

    def _verify(self, repair: bool, checkpoint: Checkpoint | None) -> None:
        """ourdb's own check of both, and its repair."""
        for directory, storage in zip(self.directories, self.places.storages or (None, None), strict=True):
            name = os.path.basename(directory)
            if checkpoint is not None and checkpoint.is_done(name, self.deep):
                continue
            found = verify_store(
                directory,
                deep=self.deep,
                progress=self._named(name),
                resume=checkpoint.token(name, self.deep) if checkpoint is not None else "",
                storage=storage,
            )
            for problem in found.problems:
                code = "store.damaged" if problem.is_damage else "store.note"
                self._find(code, f"{problem.text} (byte {problem.offset})", problem.file)
            if found.token:
                if checkpoint is not None:
                    checkpoint.stop(name, self.deep, found.token)
                raise StoppedError
            if checkpoint is not None and found.sound:
                checkpoint.done(name, self.deep)
            if not found.sound:
                self.verified = self.verified and name == "metadata"
                if repair:
                    self._mend(directory)

    def _mend(self, directory: str) -> None:
        done = mend_store(directory, self.progress)
        self.report.repaired = self.report.repaired or bool(done.actions)
        self.report.actions += done.actions
        self.report.lost += done.lost
        if done.aside:
            self.report.kept.append(done.aside)

    def _named(self, name: str) -> Progress | None:
        progress = self.progress
        if progress is None:
            return None
        return lambda phase, done, total, unit: progress(f"{name} store: {phase}", done, total, unit)

    @contextlib.contextmanager
    def _opened(self, repair: bool, lock_timeout: float) -> Iterator[Stores | None]:
        """Both stores; None where one cannot be opened, which is a finding then."""
        try:
            metadata, data = self.directories
            stores = open_as_found(
                metadata,
                data,
                self.path,
                write=repair,
                deep=self.deep,
                lock_timeout=lock_timeout,
                storages=self.places.storages,
            )
        except (StoreBusyError, FileNotFoundError, PermissionError):
            raise
        except (VFSError, FormatError) as error:
            if not problems(self.report.findings):
                self._find("store.damaged", f"it cannot be opened: {error}", self.path)
            yield None
            return
        try:
            yield stores
        finally:
            stores.metadata.close()
            stores.blocks.close()

    def _find(self, code: str, problem: str, store: str) -> None:
        self.report.findings.append(Finding(code, problem, store=store))

"""Commands that make a store a directory of this machine: mount, umount."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Final

from vfsdb import api, garbage
from vfsdb.cli_context import NO_FILESYSTEM, Context, holder
from vfsdb.cli_output import ExitCode
from vfsdb.errors import StoreBusyError, os_error
from vfsdb.fuse import words as mount_words
from vfsdb.fuse.guests import Guests
from vfsdb.fuse.mounting import check_mountpoint, unmount
from vfsdb.fuse.mounts import Mount, mount
from vfsdb.posix import VFS
from vfsdb.snapdir import SnapdirFileSystem

log = logging.getLogger("vfsdb.fuse")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_NOBODY_ELSE: Final = {"entry_seconds": 3600.0, "attribute_seconds": 3600.0, "keep_cache": True}
_SWITCH_SECONDS: Final = 0.0005  # at most so long a thread that computes keeps the one that answers waiting
_READY: Final = b"1"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class _Stop(BaseException):
    """A signal asked the process to end. It may come inside a log handler, which keeps each Exception to itself."""


def run_mount(context: Context, arguments: argparse.Namespace) -> int:
    """Mount the store at a directory, and serve it until it is unmounted (ctrl-C, SIGTERM, umount)."""
    words = mount_words.parse(arguments.options)
    if arguments.read_only:
        words.mount["read_only"] = True
    if arguments.allow_other:
        words.mount["allow_other"] = True
    words.snapshot = arguments.snapshot or words.snapshot
    check_mountpoint(arguments.mountpoint)  # before the store is waited for
    log_format = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=arguments.log_level.upper(), format=log_format, filename=arguments.log)

    def serve(ready: Callable[[], None]) -> int:
        return _serve(context, arguments, words, ready)

    return _in_background(serve) if arguments.daemon else serve(lambda: None)


def _serve(
    context: Context, arguments: argparse.Namespace, words: mount_words.MountWords, ready: Callable[[], None]
) -> int:
    sys.setswitchinterval(_SWITCH_SECONDS)
    with ExitStack() as stack:
        vfs = stack.enter_context(_opened(context.store, words, arguments.wait))
        if words.snapshot:
            vfs = stack.enter_context(vfs.at(words.snapshot))
        served = vfs.filesystem
        garbage.collect_seldom()
        if words.snapdir != "off" and not words.snapshot:
            served = SnapdirFileSystem(served, visible=words.snapdir == "visible")
            stack.callback(served.views.close)
        own = not vfs.filesystem.read_only
        options = {"source": os.path.abspath(context.store), "flags": tuple(words.flags)}
        options |= (_NOBODY_ELSE if own or words.snapshot else {}) | words.mount
        before = [signal.signal(number, _stop) for number in _ENDING]
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until there is something to unmount
        try:
            mounted = mount(served, arguments.mountpoint, **options)
            signal.signal(signal.SIGUSR1, lambda number, frame: _log_metrics(mounted))
            if own:
                description = f"mounted at {mounted.mountpoint}"
                service = api.listen(vfs.filesystem, context.store, description, Guests(vfs.filesystem, mounted))
                if service is not None:
                    stack.callback(service.close)
            log.info("mounted %s at %s", context.store, mounted.mountpoint)
            _wait(mounted, ready)
        finally:
            for number, handler in zip(_ENDING, before, strict=True):
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    log.info("unmounted %s", arguments.mountpoint)
    return ExitCode.OK


def _log_metrics(mounted: Mount) -> None:
    """SIGUSR1: what the kernel asked and holds, as one line of JSON, whatever the log level is."""
    log.critical("%s", json.dumps(mounted.metrics()))


def _wait(mounted: Mount, ready: Callable[[], None]) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        ready()
        mounted.wait()
    except _Stop:
        mounted.stop()


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _opened(store: str, words: mount_words.MountWords, wait: float) -> VFS:
    try:
        return _opened_as(store, words, wait)
    except StoreBusyError as error:
        rest = "wait for it (--wait SECONDS), mount it beside that with --read-only, or end it"
        raise StoreBusyError(f"{holder(error)} has it open for writing; {rest}", store) from None
    except FileNotFoundError as error:
        if error.filename != store:
            raise
        raise os_error(errno.ENOENT, store, reason=NO_FILESYSTEM) from None


def _opened_as(store: str, words: mount_words.MountWords, wait: float) -> VFS:
    if words.read_only or words.snapshot:
        return api.open(store, "r", atime="noatime")
    return api.open(
        store,
        "w",
        atime=words.atime,  # type: ignore[arg-type]
        lock_timeout=wait,
        durability="commit" if words.durable else "process",
        compaction="process",
        flush_seconds=words.commit_seconds,
        serve=False,
        commit_at_close=False,
        commit_each=False,
    )


def _in_background(serve: Callable[[Callable[[], None]], int]) -> int:
    """Run *serve* in a process of its own; returns when that is ready, or with its exit code."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, "rb") as pipe:
            if pipe.read(1) == _READY:
                return ExitCode.OK
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reading)
    os.setsid()

    def ready() -> None:
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nowhere, standard)
        os.write(writing, _READY)
        os.close(writing)

    return serve(ready)


def run_umount(context: Context, arguments: argparse.Namespace) -> int:
    """Unmount what is mounted at a directory."""
    try:
        unmount(arguments.mountpoint, lazy=arguments.lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise os_error(
                errno.EBUSY, arguments.mountpoint, reason="somebody uses it; --lazy waits for nobody"
            ) from None
        raise
    return ExitCode.OK

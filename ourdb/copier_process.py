"""Copying in a process of its own, so that the threads of the store's process have its interpreter for themselves.

The process is started when a compaction has enough to copy, and ends with that compaction. Where it cannot be
started, or ends or falls silent, this process copies instead, and `ProcessCopying.problem` says so.

Invariants
----------
* The process is given open files, never a lock, and its end is waited for before anything else is done with its output.
* What it reports counts only when its output is as long as it says.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import suppress

from ourdb.copier_messages import (
    COPY,
    DONE,
    FAILED,
    GO,
    HELLO,
    NEED,
    OUTPUT,
    REACHED,
    REACHED_BODY,
    WORDS,
    GarbledError,
    Message,
    Order,
    decode_copied,
    decode_failure,
    encode_order,
    receive,
    send,
)
from ourdb.copying import WRITE_BYTES, Copied, Task
from ourdb.format import encode_segment_header
from ourdb.moving import copy_records
from ourdb.state import State
from ourdb.storage import DiskFile, File, Storage

_SILENT_SECONDS = 60.0  # a slice is a megabyte
_LEAVING_SECONDS = 1.0
_LEAST_BYTES = WRITE_BYTES  # a process costs more than a slice
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from ourdb.copier import main; main()"


class CopierLostError(Exception):
    """The process is not there, or not any more; what to do is up to who asked it."""


def _identity(path: str | None) -> tuple[int, int] | None:
    """Which file *path* leads to; None where there is none."""
    try:
        info = os.stat(path or "")
    except OSError:
        return None
    return info.st_dev, info.st_ino


_INTERPRETER = _identity(sys.executable)


class _Child:
    """A process that copies, and the stream to it."""

    def __init__(self) -> None:
        if os.name != "posix":
            raise CopierLostError("this system hands over no open files")
        name = os.path.basename(sys.executable or "")
        if getattr(sys, "frozen", False) or not name.startswith(("python", "pypy")):
            raise CopierLostError(f"{sys.executable or 'this interpreter'!r} runs no Python of its own")
        if _identity(sys.executable) != _INTERPRETER:  # replaced, or covered by a mount, which may be ours to answer
            raise CopierLostError(f"{sys.executable} is not the interpreter any more that runs here")
        ours, theirs = socket.socketpair()
        nowhere = subprocess.DEVNULL
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, _ROOT]
        try:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=nowhere, stderr=nowhere, cwd="/", process_group=0
            )
        except OSError as error:
            ours.close()
            raise CopierLostError(f"{sys.executable}: {error.strerror}") from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(_SILENT_SECONDS)
        self._connection = ours

    def send(self, kind: int, body: bytes = b"", file: File | None = None) -> None:
        """Say something, with an open file. CopierLostError."""
        descriptor = file.fileno() if isinstance(file, DiskFile) else -1
        try:
            send(self._connection, kind, body, descriptor)
        except OSError as error:
            raise self._lost(error) from error

    def receive(self) -> Message:
        """Wait for what it says. CopierLostError."""
        try:
            return receive(self._connection)
        except (OSError, EOFError, GarbledError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> CopierLostError:
        if isinstance(error, TimeoutError):
            return CopierLostError(f"it said nothing for {_SILENT_SECONDS:.0f} seconds")
        if isinstance(error, GarbledError):
            return CopierLostError(str(error))
        with suppress(subprocess.TimeoutExpired):  # it closed its end and does not go: then by force
            self._process.wait(_LEAVING_SECONDS)
        self.kill()
        status = self._process.returncode
        return CopierLostError(f"it ended by signal {-status}" if status < 0 else f"it ended with status {status}")

    def has_said(self) -> bool:
        """Whether something waits to be received."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self) -> None:
        """End it, whatever it does, and wait for that. What it had said can still be received."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and the stream to it."""
        try:
            self.kill()
        finally:
            self._connection.close()

    def forget(self) -> None:
        """In a forked child: it is the parent's, and so is the stream's other end."""
        self._connection.close()
        self._process.returncode = 0


class ProcessRun:
    """Copies for one compaction: by a process from the first step on that is worth one."""

    def __init__(self, owner: ProcessCopying) -> None:
        self._owner = owner
        self._child: _Child | None = None
        self._here = not owner.is_usable  # in this process, from now on

    @property
    def is_beside(self) -> bool:
        """See `ourdb.copying.CopyRun`."""
        return self._child is not None

    def hold(self, storage: Storage, state: State) -> File | None:
        """See `ourdb.copying.CopyRun`."""
        if self._here or not state.generation.name:
            return None
        try:
            return storage.open(state.generation.name)
        except FileNotFoundError:  # somebody removed it, which costs no more than this
            return None

    def copy(self, task: Task) -> Generator[int, None, Copied]:
        """Do *task*; see `ourdb.copying.CopyRun`."""
        worth = sum(entry.end or 0 for entry in task.victims) > _LEAST_BYTES
        if worth and not self._here and task.generation is not None:
            try:
                return (yield from self._copy_there(task))
            except CopierLostError as error:
                task.check()
                self._here = True
                self._owner.note(task.storage, error)
                task.drop_output()
        return (yield from copy_records(task))

    def _copy_there(self, task: Task) -> Generator[int, None, Copied]:
        whole = False
        outputs: list[File] = []
        try:
            if self._child is None:
                self._child = self._owner.start()
                yield 0
                self._check_hello(self._child.receive())
            answer = yield from self._converse(self._child, task, outputs)
            whole = True
            return _taken(answer, outputs)
        finally:
            if not whole:  # it may still write: nothing is done with its output before it has ended
                self.close()
            for file in outputs:
                file.close()

    def _converse(self, child: _Child, task: Task, outputs: list[File]) -> Generator[int, None, Message]:
        """Have *child* do the task, and give it the segments to write; what it says at last."""
        generation = task.state.generation.name
        numbers = [entry.number for entry in task.victims]
        path = task.storage.path
        order = Order(path, task.manifest, generation, task.sequence, numbers, task.state.overlay)
        child.send(COPY, encode_order(order), task.generation)
        copied = 0
        while True:
            yield copied
            message = child.receive()
            if message.kind == NEED:
                output = task.make_output()
                outputs.append(output.file)
                child.send(OUTPUT, encode_segment_header(output.header), output.file)
            elif message.kind == REACHED:
                (copied,) = REACHED_BODY.unpack(message.body)
                child.send(GO)
            elif message.kind in (DONE, FAILED):
                self._owner.problem = ""
                return message
            else:
                raise CopierLostError(f"it said what nobody asked ({message.kind})")

    def _check_hello(self, message: Message) -> None:
        if message.kind != HELLO or message.body != WORDS:
            self._owner.is_usable = False
            raise CopierLostError(f"{_ROOT} holds another version of ourdb than the one that runs")

    def is_ready(self) -> bool:
        """See `ourdb.copying.CopyRun`."""
        return self._child is not None and self._child.has_said()

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.close()
            self._owner.ended(child)


def _taken(answer: Message, outputs: list[File]) -> Copied:
    """What was copied into *outputs*, or the error that it ended in."""
    if answer.kind == FAILED:
        raise decode_failure(answer.body)
    copied = decode_copied(answer.body)
    if [copied.end] != ([file.size() for file in outputs] or [0]):
        raise CopierLostError(f"what it wrote is not {copied.end} bytes long, as it said")
    return copied


class ProcessCopying:
    """Copying in a process of its own, where that can be had."""

    def __init__(self) -> None:
        self.problem = ""
        self.is_usable = True
        self._children: set[_Child] = set()
        self._lock = threading.Lock()

    def run(self) -> ProcessRun:
        """One for each compaction."""
        return ProcessRun(self)

    def start(self) -> _Child:
        """A new process. CopierLostError where none can be started."""
        try:
            child = _Child()
        except CopierLostError:
            self.is_usable = False
            raise
        with self._lock:
            self._children.add(child)
        return child

    def ended(self, child: _Child) -> None:
        """*child* is no more."""
        with self._lock:
            self._children.discard(child)

    def note(self, storage: Storage, error: CopierLostError) -> None:
        """Say why a compaction goes on in this process."""
        self.problem = f"{storage.path}: compaction copies in this process, not in one of its own ({error})"

    def close(self) -> None:
        """End what is at work; its run finds out."""
        with self._lock:
            children = list(self._children)
        for child in children:
            child.kill()

    def forget(self) -> None:
        """In a forked child: what is at work is the parent's."""
        children, self._children = self._children, set()
        self._lock = threading.Lock()
        for child in children:
            child.forget()

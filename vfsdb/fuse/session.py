"""One mount's conversation with the kernel: a loop that reads requests, and threads for those that wait.

The loop answers everything that is quick itself, one request after the other: a change of threads costs more than most
requests. What may wait for a disk or for another process (`_WAITING`) is done by a thread of its own. A watcher
looks whether requests lie unread while the loop is at one; then another thread goes on with the loop, and the
one that was held up ends with its answer.

Invariants
----------
* Each request that wants an answer gets exactly one, whatever happens in its handler.
* A handler that raises anything but an OSError is a bug: it is logged, the caller gets EIO, and the mount goes on.
* When `run` returns, no thread of the session uses the filesystem any more, and all handles and lookups are given back.
"""

from __future__ import annotations

import errno
import logging
import select
import threading

from vfsdb.database import EngineError
from vfsdb.fuse import encoding
from vfsdb.fuse.decoding import Malformed, fixed
from vfsdb.fuse.device import HEADER_ROOM, receive, send
from vfsdb.fuse.encoding import Encoder
from vfsdb.fuse.handlers import Handlers
from vfsdb.fuse.handlers_base import Handler, Reply
from vfsdb.fuse.negotiation import Agreement, negotiate
from vfsdb.fuse.opcodes import Opcode
from vfsdb.fuse.operations import Operations
from vfsdb.fuse.options import MountOptions
from vfsdb.fuse.requests import Request
from vfsdb.fuse.structures import INTERRUPT_IN
from vfsdb.fuse.workers import Workers

log = logging.getLogger("vfsdb.fuse")
_WAITING = frozenset({Opcode.FSYNC, Opcode.FSYNCDIR, Opcode.SYNCFS, Opcode.SETLKW})
_STALL_SECONDS = 0.02
_END_SECONDS = 1.0
_UNANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY})


class Session:
    """A conversation over *descriptor*, an open /dev/fuse that is mounted or about to be.

    Parameters
    ----------
    descriptor : int
        Stays the caller's to close, after `run`.
    operations : Operations
    options : MountOptions
    """

    def __init__(self, descriptor: int, operations: Operations, options: MountOptions) -> None:
        self._descriptor = descriptor
        self._operations = operations
        self._options = options
        self._workers = Workers("vfsdb-fuse")
        self._handlers: dict[int, Handler] = {}
        self._turn = 0  # number of the loop that reads; older ones end when they notice
        self._loops: set[threading.Thread] = set()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.agreement: Agreement | None = None
        self.ready = threading.Event()  # the kernel and we agreed: the mount works
        self.counts = dict.fromkeys(map(int, Opcode), 0)  # requests so far, by opcode; 0: unknown ones
        self.counts[0] = 0
        self.failures = 0  # of those that were refused with an errno

    def run(self) -> None:
        """Answer until the filesystem is unmounted.

        Raises
        ------
        Exception
            What made reading requests impossible.
        """
        watcher = threading.Thread(target=self._watch, name="vfsdb-fuse-watch", daemon=True)
        self._go_on()
        watcher.start()
        self._over.wait()
        watcher.join(_END_SECONDS)  # so that it begins no other loop; after a failure nothing wakes it
        self._operations.interrupt_all()
        self._workers.join()
        for thread in list(self._loops):
            thread.join()
        self._operations.destroy()
        self.ready.set()
        if self._failure is not None:
            raise self._failure

    def requests(self) -> int:
        """How many there were so far."""
        return sum(self.counts.values())

    @property
    def stalls(self) -> int:
        """How often another thread had to go on with the loop."""
        return self._turn - 1

    def _go_on(self) -> None:
        """A new thread reads from now on."""
        self._turn += 1
        thread = threading.Thread(target=self._loop, args=(self._turn,), name="vfsdb-fuse-loop", daemon=True)
        self._loops = {thread, *(other for other in self._loops if other.is_alive())}
        thread.start()

    def _watch(self) -> None:
        """Go on with another thread whenever a request has been left unread for `_STALL_SECONDS`."""
        unread = select.poll()
        unread.register(self._descriptor, select.POLLIN)
        while not self._over.is_set():
            if any(events & ~select.POLLIN for _, events in unread.poll()):
                return  # unmounted
            before = self.requests()
            if self._over.wait(_STALL_SECONDS):
                return
            if self.requests() == before and unread.poll(0):
                self._go_on()

    def _loop(self, turn: int) -> None:
        try:
            if self._read(turn):
                self._over.set()
        except BaseException as error:
            self._failure = error
            self._over.set()

    def _read(self, turn: int) -> bool:
        """Read and answer until another thread's *turn* comes (False), or the filesystem is unmounted (True)."""
        buffer = bytearray(HEADER_ROOM + self._options.write_bytes_max)
        view, buffers, descriptor, counts = memoryview(buffer), [buffer], self._descriptor, self.counts
        request = Request()
        while self._turn == turn:
            size = receive(descriptor, buffers)
            if not size:
                return True
            try:
                request.fill(view, size)
            except Malformed as error:
                log.warning("a request that is none: %s", error)
                continue
            counts[request.opcode if request.opcode in counts else 0] += 1
            if request.opcode in _WAITING:
                if request.opcode == Opcode.SETLKW:
                    self._operations.begin_wait(request.unique)
                self._workers.do(self._answer, request.copy())
            else:
                self._answer(request)
        return False

    def _answer(self, request: Request) -> None:
        """Do what is asked and send the reply."""
        handler = self._handlers.get(request.opcode)
        try:
            reply = handler(request) if handler is not None else self._special(request)
        except OSError as error:
            self.failures += 1
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s of inode %d: %s", opcode_name(request.opcode), request.node, error)
            reply = self._refused(request, error.errno or errno.EIO)
        except EngineError as error:
            log.error("%s of inode %d: %s", opcode_name(request.opcode), request.node, error)
            reply = self._refused(request, errno.EIO)
        except Malformed as error:
            log.warning("%s that is none: %s", opcode_name(request.opcode), error)
            reply = self._refused(request, errno.EINVAL)
        except Exception:
            log.exception("%s of inode %d", opcode_name(request.opcode), request.node)
            reply = self._refused(request, errno.EIO)
        if reply is not None:
            send(self._descriptor, reply if type(reply) is tuple else (reply,))  # type: ignore[arg-type]

    @staticmethod
    def _refused(request: Request, code: int) -> Reply:
        return None if request.opcode in _UNANSWERED else encoding.error(request.unique, code)

    def _special(self, request: Request) -> Reply:
        """What belongs to the conversation, not to the filesystem."""
        if request.opcode == Opcode.INIT:
            self._begin(request)
            return None
        if request.opcode == Opcode.INTERRUPT:
            self._operations.interrupt(fixed(INTERRUPT_IN, request.body)[0])
            return None
        if request.opcode == Opcode.NOTIFY_REPLY:
            return None
        if request.opcode == Opcode.DESTROY:
            return encoding.empty(request.unique)
        return encoding.error(request.unique, errno.ENOSYS)

    def _begin(self, request: Request) -> None:
        agreement, reply = negotiate(request.unique, request.body, self._options, self._operations.has_locks)
        if agreement is not None:
            self.agreement = agreement
            encoder = Encoder(self._options.entry_seconds, self._options.attribute_seconds)
            handlers = Handlers(self._operations, encoder, agreement.flags, keep_cache=self._options.keep_cache)
            self._handlers = handlers.table()
        # First the reply: with it the kernel sets what whoever waits for `ready` sets otherwise, as its readahead.
        send(self._descriptor, (reply,))
        if agreement is not None:
            self.ready.set()


def opcode_name(opcode: int) -> str:
    """Its name in the protocol."""
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"request {opcode}"

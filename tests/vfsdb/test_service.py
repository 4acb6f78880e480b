"""A filesystem over the socket of the process that has it open: the same answers and errors, and clean ends."""

import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfsdb import wire
from vfsdb.host import HostFileSystem
from vfsdb.interface import NOW, ROOT, Caller, FileSystem, Lock, LockKind, SetAttr
from vfsdb.remote import SOCKET_NAME, RemoteFileSystem, connect
from vfsdb.service import Service


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / ("deep" * 20) / ("er" * 40)
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def served(tmp_path: Path, store: Path) -> Iterator[FileSystem]:
    (tmp_path / "tree").mkdir()
    filesystem = HostFileSystem(tmp_path / "tree")
    service = Service(filesystem, str(store), "a test")
    yield filesystem
    service.close()
    filesystem.close()


@pytest.fixture
def remote(served: FileSystem, store: Path) -> Iterator[RemoteFileSystem]:
    filesystem = RemoteFileSystem(str(store))
    yield filesystem
    filesystem.close()


def test_socket_is_its_users_alone_and_says_who_answers(remote: RemoteFileSystem, store: Path) -> None:
    mode = os.stat(store / SOCKET_NAME).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert (remote.pid, remote.description) == (os.getpid(), "a test")


def test_operations_answer_as_they_do_here(remote: RemoteFileSystem, served: FileSystem) -> None:
    made, handle = remote.create(ROOT, b"f\xff", 0o640, os.O_RDWR)
    assert remote.write(handle, memoryview(b"0123456789"), 0) == 10
    assert remote.read(handle, 4, 3) == b"3456"
    assert remote.tell_end(handle) == 10
    remote.release(handle)
    directory = remote.mkdir(ROOT, b"d", 0o755)
    assert remote.lookup(ROOT, b"f\xff") == served.lookup(ROOT, b"f\xff")
    assert remote.list_names(ROOT) == served.list_names(ROOT)
    assert remote.list_entries(ROOT) == served.list_entries(ROOT)
    assert remote.list_stats(ROOT) == served.list_stats(ROOT)
    remote.setattr(made.st_ino, SetAttr(mode=0o600, mtime_ns=5, atime_ns=NOW))
    assert served.getattr(made.st_ino).st_mtime_ns == 5
    assert remote.read_file(made.st_ino) == b"0123456789"
    remote.rename(ROOT, b"f\xff", directory.st_ino, b"g")
    assert served.lookup(directory.st_ino, b"g").st_ino == made.st_ino
    assert type(remote.statfs()) is type(served.statfs())


def test_names_of_arguments_and_defaults_are_those_of_the_interface(remote: RemoteFileSystem) -> None:
    remote.mkdir(parent=ROOT, name=b"d", caller=Caller(os.getuid(), os.getgid(), umask=0o077))
    assert stat.S_IMODE(remote.lookup(ROOT, name=b"d").st_mode) == 0o700
    with pytest.raises(TypeError, match="argument"):
        remote.mkdir(ROOT, nmae=b"e")


def test_errors_come_back_as_what_they_were(remote: RemoteFileSystem) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        remote.lookup(ROOT, b"none")
    assert raised.value.errno == errno.ENOENT


def test_locks_are_the_same_for_both_sides(remote: RemoteFileSystem, served: FileSystem) -> None:
    _, mine = remote.create(ROOT, b"f", 0o600, os.O_RDWR)
    ino = served.lookup(ROOT, b"f").st_ino
    theirs = served.open(ino, os.O_RDWR)
    remote.setlk(mine, 1, Lock(LockKind.WRITE, 0, 9), ofd=True)
    found = served.getlk(theirs, 2, Lock(LockKind.READ, 5))
    assert found is not None and (found.start, found.end) == (0, 9)
    served.release(theirs)


def test_what_a_connection_left_open_is_closed(served: FileSystem, store: Path) -> None:
    remote = RemoteFileSystem(str(store))
    _, handle = remote.create(ROOT, b"f", 0o600, os.O_RDWR)
    remote.close()
    while any(thread.name == "vfsdb-connection" for thread in threading.enumerate()):
        threading.Event().wait(0.001)
    with pytest.raises(OSError, match="handle") as raised:
        served.tell_end(handle)
    assert raised.value.errno == errno.EBADF


def test_a_killed_servers_socket_is_taken_over(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(store)
    left.bind(SOCKET_NAME)
    left.close()
    with pytest.raises(ConnectionRefusedError):
        RemoteFileSystem(str(store))
    (tmp_path / "tree").mkdir()
    service = Service(HostFileSystem(tmp_path / "tree"), str(store))
    RemoteFileSystem(str(store)).close()
    service.close()
    assert not (store / SOCKET_NAME).exists()
    with pytest.raises(FileNotFoundError):
        RemoteFileSystem(str(store))


def test_calls_after_the_server_closed_name_it(served: FileSystem, store: Path) -> None:
    remote = RemoteFileSystem(str(store))
    (store / SOCKET_NAME).unlink()
    connection = remote._connection
    connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=f"process {os.getpid()}") as raised:
        remote.lookup(ROOT, b"f")
    assert raised.value.errno == errno.EIO
    remote.close()
    (store / SOCKET_NAME).touch()


@pytest.mark.parametrize(
    "request_",
    [
        ["__class__", []],
        ["close", []],
        ["lookup", []],
        ["lookup", [1, b"x", {"caller": [1]}]],
        ["lookup", [1, b"x", {"what": [1]}]],
        ["commit", []],
        ["leave", []],
        ["leave", [], 3],
        ["getattr", [1], 3],
        ["getattr", [1], "x"],
        ["getattr", [1], [1]],
        ["adopt", [7, [], {"caller": [0, 0, []]}]],
        ["adopt", [0, [[1]], {"caller": [0, 0, []]}]],
        ["work", ["compact", True, 1, 2, 3]],
        ["work", ["none", False]],
        ["more", [1]],
        ["at", [{"time": 1 << 62}]],
        "nonsense",
        7,
        [],
    ],
)
def test_a_request_that_is_none_is_answered_with_an_error(served: FileSystem, store: Path, request_: object) -> None:
    with connect(str(store)) as connection:
        wire.receive(connection)
        wire.send(connection, request_)
        assert wire.receive(connection)[0] in (errno.EPROTO, errno.ENOSYS, errno.EINVAL, errno.EBADF)
        wire.send(connection, ["getattr", [1]])
        assert wire.receive(connection)[0] == 0, "the connection goes on"


@pytest.mark.parametrize("data", [struct.pack("<I", 1 << 31), struct.pack("<I", 3) + b"\xc1\xc1\xc1", b"\5\0"])
def test_bytes_that_are_no_frame_end_the_connection_alone(served: FileSystem, store: Path, data: bytes) -> None:
    with connect(str(store)) as connection:
        wire.receive(connection)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    RemoteFileSystem(str(store)).close()

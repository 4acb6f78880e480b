"""Errors: the builtin kind by errno, texts that name what was asked for, and their way through pickle."""

import errno
import pickle

import pytest

from vfsdb.errors import CorruptionError, OutOfKeysError, os_error
from vfsdb.host import HostFileSystem
from vfsdb.posix import VFS


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((errno.ENOENT, "/a"), FileNotFoundError, "[Errno 2] No such file or directory: '/a'"),
        ((errno.ENOENT,), FileNotFoundError, "[Errno 2] No such file or directory"),
        ((errno.EEXIST, b"a", b"b"), FileExistsError, "[Errno 17] File exists: b'a' -> b'b'"),
        ((errno.EINVAL, "/a", None, "because"), OSError, "[Errno 22] Invalid argument: because: '/a'"),
    ],
)
def test_the_errno_makes_the_kind_and_names_stand_in_the_text(
    arguments: tuple[int, str], kind: type[OSError], text: str
) -> None:
    error = os_error(*arguments)
    assert type(error) is kind
    assert str(error) == text


@pytest.mark.parametrize("kind", [CorruptionError, OutOfKeysError])
def test_own_errors_have_an_errno_and_survive_pickling(kind: type[OSError]) -> None:
    error = kind("something is wrong", "/store")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.errno, again.filename, str(again)) == (kind, error.errno, "/store", str(error))


def test_an_error_of_one_path_names_one_path(tmp_path: object) -> None:
    with VFS(HostFileSystem(str(tmp_path))) as fs:
        with pytest.raises(FileNotFoundError) as raised:
            fs.read_bytes("/missing")
        assert str(raised.value) == "[Errno 2] No such file or directory: '/missing'"
        fs.mkdir("/a")
        with pytest.raises(OSError, match="'/a' -> '/a/b'"):
            fs.rename("/a", "/a/b")

"""Where the rules of POSIX are tried: a directory of the host, and a mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.vfsdb.fuse.mounted import Server
from tests.vfsdb.fuse.stores import checked_mount

pytest.register_assert_rewrite("tests.vfsdb.fuse.rules")
_number = count()


@pytest.fixture(scope="module", params=["host", "mount"])
def ground(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that every user gets to."""
    if request.param == "mount":
        with checked_mount() as server:
            yield server.path
    else:
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            os.chmod(name, 0o755)
            yield Path(name)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A mount for the tests of a module."""
    with checked_mount() as made:
        yield made


@pytest.fixture
def there(server: Server, request: pytest.FixtureRequest) -> Path:
    """A new directory on the mount."""
    path = server.path / request.node.name.replace("/", "_")
    path.mkdir()
    return path


@pytest.fixture
def here(ground: Path) -> Path:
    """A new directory in which everybody may write; no umask."""
    path = ground / str(next(_number))
    path.mkdir()
    os.chmod(path, 0o777)
    return path


@pytest.fixture(autouse=True)
def no_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """For tests of rules: modes are what they say."""
    if "here" not in request.fixturenames:
        yield
        return
    before = os.umask(0)
    yield
    os.umask(before)

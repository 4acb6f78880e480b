"""Fixtures of the suites that run on every FileSystem; their assertions tell what they compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

for part in (
    "support",
    "attributes",
    "files",
    "listing",
    "locking",
    "names",
    "numbers",
    "permissions",
    "space",
    "whole",
):
    pytest.register_assert_rewrite(f"tests.vfsdb.contract.{part}")

pytest.register_assert_rewrite("tests.vfsdb.twins")

from tests.vfsdb import invariants  # noqa: E402
from tests.vfsdb.contract.support import Subject  # noqa: E402
from tests.vfsdb.subjects import SUBJECTS  # noqa: E402
from vfsdb.core import InodeFileSystem  # noqa: E402
from vfsdb.interface import FileSystem  # noqa: E402
from vfsdb.posix import VFS  # noqa: E402


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name.replace(" ", "-"))
def subject(request: pytest.FixtureRequest) -> Subject:
    """What is under test."""
    found = request.param
    assert isinstance(found, Subject)
    return found


@pytest.fixture
def fs(subject: Subject, tmp_path: Path) -> Iterator[FileSystem]:
    """An empty filesystem; what a test left in it must be clean."""
    made = subject.make(tmp_path)
    yield made
    if isinstance(made, InodeFileSystem) and not made.commits.closed:
        invariants.check(made.committed)
    made.close()


@pytest.fixture
def vfs(fs: FileSystem) -> Iterator[VFS]:
    """An empty filesystem by paths."""
    with VFS(fs) as made:
        yield made

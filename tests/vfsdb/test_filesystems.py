"""Every implementation of FileSystem keeps the contract."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vfsdb.contract.filesystems import *  # noqa: F403
from tests.vfsdb.contract.support import Subject
from vfsdb.host import HostFileSystem
from vfsdb.interface import FileSystem


def host_directory(path: Path, read_only: bool = False) -> FileSystem:
    (path / "root").mkdir(exist_ok=True)
    return HostFileSystem(path / "root", read_only=read_only)


HOST_FEATURES = {"acl", "callers"} if os.geteuid() == 0 else {"acl"}
SUBJECTS = [
    Subject(
        "a host directory",
        host_directory,
        frozenset(HOST_FEATURES),
        lambda path: host_directory(path, read_only=True),
    ),
]


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name.replace(" ", "-"))
def subject(request: pytest.FixtureRequest) -> Subject:
    found = request.param
    assert isinstance(found, Subject)
    return found


@pytest.fixture
def fs(subject: Subject, tmp_path: Path) -> Iterator[FileSystem]:
    made = subject.make(tmp_path)
    yield made
    made.close()

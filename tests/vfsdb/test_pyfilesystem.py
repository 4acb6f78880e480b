"""PyFilesystem2's own suite for implementations, over the path API."""

from __future__ import annotations

import shutil
import tempfile
import unittest
import warnings
from pathlib import Path

import pytest

from tests.vfsdb.pyfilesystem import VFSAdapter
from tests.vfsdb.subjects import core_in_memory, core_over_ourdb, host_directory
from vfsdb.interface import FileSystem
from vfsdb.posix import VFS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fs.test import FSTestCases

# The suite itself uses what Python and PyFilesystem2 call deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning"),
]


class OverFileSystem(FSTestCases):
    """The suite over one implementation of FileSystem."""

    def make_filesystem(self, path: Path) -> FileSystem:
        raise NotImplementedError

    def make_fs(self) -> VFSAdapter:
        self.path = Path(tempfile.mkdtemp(prefix="vfsdb"))
        return VFSAdapter(VFS(self.make_filesystem(self.path)))

    def destroy_fs(self, fs: VFSAdapter) -> None:
        super().destroy_fs(fs)
        shutil.rmtree(self.path)


class TestCoreInMemory(OverFileSystem, unittest.TestCase):
    def make_filesystem(self, path: Path) -> FileSystem:
        return core_in_memory(path)


class TestCoreOverOurdb(OverFileSystem, unittest.TestCase):
    def make_filesystem(self, path: Path) -> FileSystem:
        return core_over_ourdb(path)


class TestHostDirectory(OverFileSystem, unittest.TestCase):
    def make_filesystem(self, path: Path) -> FileSystem:
        return host_directory(path)

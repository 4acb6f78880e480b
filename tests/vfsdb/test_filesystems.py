"""Every implementation of FileSystem keeps the contract."""

from tests.vfsdb.contract.filesystems import *  # noqa: F403

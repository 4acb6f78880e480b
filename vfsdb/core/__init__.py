"""The filesystem itself: the inode-level interface over two stores, one module for each of its faces."""

from vfsdb.core.filesystem import InodeFileSystem

__all__ = ["InodeFileSystem"]

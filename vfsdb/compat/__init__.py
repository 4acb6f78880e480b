"""The names of other filesystems in a database, over vfsdb's path API. No logic of their own."""

from vfsdb.compat import vfs_db
from vfsdb.compat.vfs import VirtualFileSystem
from vfsdb.compat.vfs_db import DatabaseVFS

__all__ = ["DatabaseVFS", "VirtualFileSystem", "vfs_db"]

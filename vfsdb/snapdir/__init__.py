"""Snapshots as directories of the filesystem that they are of: ``/.snapshots/NAME``."""

from vfsdb.snapdir.filesystem import SNAPDIR_NAME, SnapdirFileSystem

__all__ = ["SNAPDIR_NAME", "SnapdirFileSystem"]

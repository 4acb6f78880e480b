"""Any FileSystem as a directory of this machine: the kernel's FUSE protocol, spoken in Python, nothing installed.

Linux 5.4 or newer. `mount` serves in a thread of this process until the filesystem is unmounted.
"""

from vfsdb.fuse.mounting import unmount
from vfsdb.fuse.mounts import Mount, mount
from vfsdb.fuse.options import MountOptions

__all__ = ["Mount", "MountOptions", "mount", "unmount"]

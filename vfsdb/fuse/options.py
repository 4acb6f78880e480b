"""How a filesystem is mounted."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from vfsdb.errors import os_error

REQUEST_BYTES_MIN = 4096
REQUEST_BYTES_MAX = 1 << 20  # one request's data, as the kernel allows without being told otherwise


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What `mount` takes.

    Attributes
    ----------
    read_only : bool
        The kernel refuses every change (EROFS). On for a filesystem that is read-only itself.
    allow_other : bool
        Users beside the one who mounts may enter. Permissions are checked for each. An ordinary user needs
        ``user_allow_other`` in ``/etc/fuse.conf``.
    entry_seconds, attribute_seconds : float
        How long the kernel keeps names and attributes before it asks again. A filesystem that nobody changes but
        through this mount can have both as long as you like.
    keep_cache : bool
        The kernel keeps content over open and close. Only where nobody else changes it.
    writeback : bool
        The kernel collects small writes and sends them later: many times faster for those, but what is written
        reaches the filesystem at fsync, close or after seconds only.
    write_bytes_max : int
        The most that one WRITE or READ request carries, 4096 to 1 MiB.
    readahead_bytes : int
        How far the kernel reads ahead; 0: as the system has it. Beyond 128 KiB it takes root to set.
    source, subtype : str
        What stands in ``/proc/mounts`` as device and, behind ``fuse.``, as type.
    flags : tuple of str
        ``nosuid``, ``nodev``, ``noexec``, ``noatime``, … as mount(8) has them.
    """

    read_only: bool = False
    allow_other: bool = False
    entry_seconds: float = 1.0
    attribute_seconds: float = 1.0
    keep_cache: bool = False
    writeback: bool = False
    write_bytes_max: int = REQUEST_BYTES_MAX
    readahead_bytes: int = 1 << 20
    source: str = "vfsdb"
    subtype: str = "vfsdb"
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("entry_seconds", "attribute_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds <= 1 << 31:
                raise os_error(errno.EINVAL, reason=f"{name} is {seconds}; it is 0 or more")
        if not REQUEST_BYTES_MIN <= self.write_bytes_max <= REQUEST_BYTES_MAX:
            raise os_error(errno.EINVAL, reason=f"write_bytes_max is {self.write_bytes_max}; it is 4096 to 1 MiB")

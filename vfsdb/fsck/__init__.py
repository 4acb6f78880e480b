"""Check and repair of filesystems, from the records up: nothing is asked of the core.

`fsck` checks the filesystem at a path, and with ``repair=True`` mends it; `check_stores` checks stores that are open.
"""

from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.findings import CODES, Finding, Report, Stage
from vfsdb.fsck.run import fsck

__all__ = ["CODES", "Finding", "Report", "Stage", "check_stores", "fsck"]

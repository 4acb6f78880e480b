#!/usr/bin/env python3
"""Check a filesystem, and with ``--repair`` mend it: ``vfsdb fsck`` without an installation.

Works as ``python3 -E fsck.py STORE`` with the folders ``ourdb/`` and ``vfsdb/`` beside this script or above it. Records
are msgpack: the package ``msgpack`` must be there too, installed or as a folder beside this script.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from vfsdb.cli_fsck import run

if __name__ == "__main__":
    sys.exit(run())

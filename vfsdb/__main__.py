"""``python -m vfsdb``: the ``vfsdb`` command."""

import sys

from vfsdb.cli import main

if __name__ == "__main__":
    sys.exit(main())

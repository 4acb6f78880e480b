"""``python -m ourdb``: the same program as the ``ourdb`` command."""

import sys

from ourdb.cli import main

if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Check a store without writing a byte: `ourdb verify` for a bare Python.

Works as ``python -I -S verify.py STORE`` with the ``ourdb/`` folder beside this script or above it.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from ourdb.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))

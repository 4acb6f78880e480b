"""``mount.vfsdb``: what mount(8) and fstab(5) call for a filesystem of type vfsdb. Exit codes are those of mount(8)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from vfsdb.cli import main
from vfsdb.fuse import words
from vfsdb.fuse.mounting import remount

USAGE, FAILED = 1, 32
_IGNORED: Final = "-s", "-n", "-v"  # sloppy, no mtab, verbose


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As mount(8): code 1 for arguments that make no sense."""
        self.exit(USAGE, f"mount.vfsdb: {message}\n")


def run(argv: Sequence[str] | None = None) -> int:
    """Mount a store as mount(8) asks, with every user let in; return when it is mounted."""
    parser = _Parser(prog="mount.vfsdb", description=run.__doc__)
    parser.add_argument("store")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", dest="options", action="append", default=[])
    parser.add_argument("-t", dest="type")
    parser.add_argument("-f", dest="fake", action="store_true", help="do all but mount")
    for flag in _IGNORED:
        parser.add_argument(flag, action="store_true")
    asked = parser.parse_args(argv)
    try:
        parsed = words.parse(asked.options)
        if asked.fake:
            return 0
        if parsed.remount:
            remount(asked.mountpoint, parsed.remount_flags)
            return 0
    except OSError as error:
        sys.stderr.write(f"mount.vfsdb: {error.filename}: {error.strerror}\n")
        return FAILED
    everybody = ["--allow-other"] if os.geteuid() == 0 else []
    options = [f"-o{text}" for text in asked.options]
    return FAILED if main(["mount", "--daemon", *everybody, *options, asked.store, asked.mountpoint]) else 0

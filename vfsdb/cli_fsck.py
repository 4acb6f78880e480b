"""The command ``fsck.vfsdb``, as fsck(8) calls it: ``vfsdb fsck`` with the options that every fsck has.

``-a``, ``-p`` and ``-y`` repair, ``-n`` only looks; ``-f``, ``-v`` and ``-V`` are taken and change nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from vfsdb.cli import main

_MEANINGS: Final = {"-a": ["--repair"], "-p": ["--repair"], "-y": ["--repair"]}
_IGNORED: Final = frozenset(["-n", "-f", "-v", "-V"])


def run(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit code of fsck(8)."""
    given = list(sys.argv[1:] if argv is None else argv)
    if "-n" in given and any(option in _MEANINGS for option in given):
        sys.stderr.write("fsck.vfsdb: -n only looks, -a, -p and -y repair: give one of them\n")
        return 16
    arguments = [word for option in given if option not in _IGNORED for word in _MEANINGS.get(option, [option])]
    return main(["fsck", *arguments])

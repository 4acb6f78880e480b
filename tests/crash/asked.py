"""The command line of a check of stores that were cut off: one directory, or a server that is asked for many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

FailureOf = Callable[[argparse.Namespace, str, int, int], str]  # arguments, directory, ack, start: what is wrong


def main(
    text: str | None,
    kinds: Sequence[str],
    count_max: int,
    flag: str,
    recover: Callable[[Any, Any], object],
    failure_of: FailureOf,
) -> int:
    """``KIND DIR ACK START``, or ``KIND --server``; *flag* is what this check alone understands."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("dir", nargs="?")
    parser.add_argument("ack", nargs="?", type=int, default=0)
    parser.add_argument("start", nargs="?", type=int, default=count_max)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--recover", action="store_true")
    parser.add_argument(flag, action="store_true")
    chosen = parser.parse_args()
    if chosen.recover:
        recover(chosen.kind, chosen.dir)
        return 0
    if not chosen.server:
        problem = failure_of(chosen, chosen.dir, chosen.ack, chosen.start)
        if problem:
            print(problem, file=sys.stderr)
        return 1 if problem else 0
    for line in sys.stdin:
        path, ack, start = line.rstrip("\n").split("\t")
        problem = failure_of(chosen, path, int(ack), int(start))
        print(f"FAIL {problem}" if problem else "OK", flush=True)
    return 0

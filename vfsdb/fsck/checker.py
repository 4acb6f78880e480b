"""One check, phase after phase, over stores that are open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from vfsdb.database import Stores
from vfsdb.fsck import names, scan, space
from vfsdb.fsck.findings import Finding, Progress, StoppedError
from vfsdb.fsck.paths import path_of
from vfsdb.fsck.source import READ_AT_ONCE, Source
from vfsdb.fsck.state import Check
from vfsdb.fsck.subtree import check_some


def check_stores(
    stores: Stores,
    *,
    deep: bool = False,
    progress: Progress | None = None,
    inos: Iterable[int] = (),
    paths: Iterable[bytes] = (),
    verified: bool = False,
    read_from: int = 0,
) -> Check:
    """Check a moment of *stores*, which somebody may be changing.

    Parameters
    ----------
    stores : Stores
        Open, for reading or writing. Nothing is written.
    deep : bool
        Read every block, too, and compare its checksum.
    progress : Callable, optional
        ``(phase, done, total, unit)``; False stops: `StoppedError`, with the check as its argument.
    inos, paths : Iterable
        Look at these inodes, and at what is below these paths, alone.
    verified : bool
        The block store has been read as a whole already, and every checksum matched.
    read_from : int
        With *deep*: blocks below this key were read by a run before.

    Returns
    -------
    Check
        With its findings; its `source` is to be closed by the caller.
    """
    check = Check(Source(stores), progress, deep=deep)
    some = [*inos], [*paths]
    try:
        scan.fixed_records(check)
        _load_blocks(check)
        scan.load_shares(check)
        if any(some):
            check_some(check, *some)
        else:
            if deep and not verified:
                _read_blocks(check, read_from)
            _whole(check)
    except StoppedError:
        raise StoppedError(check) from None
    except BaseException:
        check.source.close()
        raise
    _add_paths(check)
    return check


def _load_blocks(check: Check) -> None:
    total = check.counters.blocks
    for count in check.blocks.load():
        check.step("blocks", count, max(total, count), "blocks")


def _read_blocks(check: Check, start: int) -> None:
    """Compare the checksum of every block that is stored."""
    store, blocks = check.source.stores.blocks, check.blocks
    keys = store.keys(start)
    done = 0
    while chosen := list(islice(keys, READ_AT_ONCE // 8)):
        for key in chosen:
            stored = blocks.get(key)
            if stored is None:
                continue
            problem = blocks.read(key, stored[0])
            if problem:
                check.bad_blocks[key] = problem
            check.totals["read"] += stored[1]
        done += len(chosen)
        check.read_up_to = chosen[-1] + 1
        check.step("checksums", done, max(blocks.count, done), "blocks")


def _whole(check: Check) -> None:
    scan.scan(check)
    scan.compare_shares(check)
    listed = names.orphans(check)
    names.directories(check, listed)
    names.links(check, listed)
    _salt(check)
    check.step("space", 0, 1, "lists")
    space.free_lists(check)
    space.unreferenced(check)
    check.step("space", 1, 1, "lists")


def _salt(check: Check) -> None:
    """Where no name is under its hash it is the salt that is wrong, which is said once."""
    entries = check.totals["entries"]
    if not check.bad_hashes or check.bad_hashes < entries:
        return
    wrong = [finding for finding in check.findings if finding.code == "entry.hash"]
    check.findings = [finding for finding in check.findings if finding.code != "entry.hash"]
    problem = f"none of {len(wrong)} names is under its hash"
    check.find("superblock.salt", problem, key=0, field="salt")


def _add_paths(check: Check) -> None:
    """Say where in the tree each finding is."""
    known: dict[int, str] = {}

    def named(finding: Finding) -> Finding:
        ino = finding.ino
        if ino is None or finding.path:
            return finding
        if ino not in known:
            if len(known) > 1 << 16:
                known.clear()
            known[ino] = path_of(check, ino)
        return replace(finding, path=known[ino])

    check.findings = [named(finding) for finding in check.findings]

"""What a file's map must be, entry by entry: the size of its blocks, layers that fit, blocks that are there."""

from __future__ import annotations

from collections.abc import Iterator

from vfsdb import extents, layers
from vfsdb.codecs import BLOCK_SIZE_MAX, BLOCK_SIZE_MIN
from vfsdb.errors import CorruptionError
from vfsdb.extents import Patched, Run
from vfsdb.fsck.state import Check
from vfsdb.fsck.trees import TreeWalk
from vfsdb.records import MAP_PAGE, Inode


def _runs(check: Check, inode: Inode) -> Iterator[Run]:
    walk = TreeWalk(check, inode.ino, inode.root, MAP_PAGE, quiet=True)
    for leaf in walk.leaves():
        for index, value in zip(leaf.keys, leaf.values, strict=True):
            if value[:1] in (b"\0", b"\1"):
                try:
                    entry = extents.decode(index, value)
                except CorruptionError:
                    continue
                if type(entry) is Run:
                    yield entry


def likely_block_size(check: Check, inode: Inode) -> int | None:
    """What the whole blocks of a file's map have; None where it has none."""
    for run in _runs(check, inode):
        if run.length - (1 if run.tail else 0) < 1:
            continue
        stored = check.blocks.get(run.key)
        if stored is not None and stored[0] == run.birth and is_block_size(stored[1]):
            return stored[1]
    return None


def contradicting_block_size(check: Check, inode: Inode) -> int | None:
    """Another block size than the inode's that the map's first whole block has."""
    first = next(_runs(check, inode), None) if inode.root.keys else None
    if first is None:
        return None
    stored = check.blocks.get(first.key)
    if first.tail or stored is None or stored == (first.birth, inode.block_size):
        return None
    found = likely_block_size(check, inode)
    return found if found != inode.block_size else None


def agrees_with_itself(check: Check, inode: Inode) -> bool:
    """Whether a file's map has the blocks and bytes that the inode counts, and none behind its end.

    Of two files that name one block, one that does not is wrong most likely.
    """
    blocks = byte_count = end = 0
    try:
        for leaf in TreeWalk(check, inode.ino, inode.root, MAP_PAGE, quiet=True).leaves():
            for entry in map(extents.decode, leaf.keys, leaf.values):
                if type(entry) is Run:
                    blocks += entry.length
                elif type(entry) is Patched:
                    blocks += len(entry.layers)
                length = extents.byte_count(entry, inode.block_size)
                byte_count += length
                if type(entry) is Run:
                    end = entry.block * inode.block_size + length
    except CorruptionError:
        return False
    return (blocks, byte_count) == (inode.blocks, inode.block_bytes) and end <= inode.size


def is_block_size(size: int) -> bool:
    """Whether files can have it."""
    return BLOCK_SIZE_MIN <= size <= BLOCK_SIZE_MAX and size & (size - 1) == 0


def layers_problem(entry: Patched, block_size: int, page: int) -> str:
    """What contradicts the rules of layers, "" for nothing."""
    if not entry.layers or not isinstance(extents.entry_of(entry.block, entry.layers, block_size), Patched):
        return "needs no layers"
    shown = 0
    for layer in entry.layers:
        if not layer.shown or layer.shown & ~layer.stored or layer.shown & shown:
            return "shows a page twice, none, or one that is not stored"
        if layer.stored.bit_count() != -(-layer.size // page) or layer.stored.bit_length() * page > block_size:
            return f"has a layer of {layer.size} bytes for {layer.stored.bit_count()} pages"
        shown |= layer.shown
    return "stores more than twice of what shows" if layers.wasteful(entry.layers) else ""


def block_problem(check: Check, key: int, birth: int) -> tuple[str, str] | None:
    """Code and text of what is wrong with a block that a file names; None for nothing."""
    stored = check.blocks.get(key)
    if stored is None:
        told = check.blocks.damaged.get(key)
        return ("block.damaged", told) if told else ("block.missing", "there is no block under its key")
    if stored[0] != birth:
        return "block.stale", f"the block there was born at {stored[0]}, the file's at {birth}"
    told = check.bad_blocks.get(key)
    return ("block.damaged", told) if told else None

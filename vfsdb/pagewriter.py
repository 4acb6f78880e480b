"""Changes of trees of pages (`vfsdb.pages`): entries one by one, ranges of them, all of them.

What is changed is given as that which holds the root (a `Holder`, or the number of an inode); pages are got and
changed through a `WriteSet`. Each change costs O(log n) pages, and what it touches beside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from vfsdb.copyonwrite import Sharing, own_path
from vfsdb.pagebalance import grow, path_to, shrink, upper_bound
from vfsdb.pages import VALUE_BYTES_MAX, child_of, is_over, is_small, leaf_of
from vfsdb.records import Page
from vfsdb.writeset import WriteSet


class Holder(Protocol):
    """What has a tree's root: an inode that is being edited, or what stands for a record of the root's own."""

    def own_root(self) -> Page:
        """The root, to be changed."""


def put(write_set: WriteSet, ino: int, key: int, value: bytes, record_type: int, replace: bool = True) -> bool:
    """Insert *key*, or replace its value unless *replace* is False; whether it is new. *record_type*: of the pages."""
    page_key, leaf = leaf_of(write_set, write_set.inode(ino).root, key)
    index = bisect_left(leaf.keys, key)
    if index == len(leaf.keys) or leaf.keys[index] != key:
        insert_at(write_set, write_set.edit(ino), page_key, index, key, value, record_type)
        return True
    if replace:
        replace_at(write_set, write_set.edit(ino), page_key, index, value, record_type)
    return False


def insert_at(
    write_set: WriteSet, holder: Holder, page_key: int, index: int, key: int, value: bytes, record_type: int
) -> None:
    """Insert *key*, which belongs at *index* of the leaf *page_key* (as `leaf_of` has it)."""
    assert len(value) <= VALUE_BYTES_MAX
    leaf = write_set.edit_page(page_key) if page_key else holder.own_root()
    leaf.keys.insert(index, key)
    leaf.values.insert(index, value)
    leaf.value_bytes += len(value)
    if is_over(leaf, page_key == 0):
        _grow_leaf(write_set, holder.own_root(), leaf, index, record_type)


def replace_at(write_set: WriteSet, holder: Holder, page_key: int, index: int, value: bytes, record_type: int) -> None:
    """Exchange the value at *index* of the leaf *page_key*."""
    assert len(value) <= VALUE_BYTES_MAX
    leaf = write_set.edit_page(page_key) if page_key else holder.own_root()
    leaf.value_bytes += len(value) - len(leaf.values[index])
    leaf.values[index] = value
    if is_over(leaf, page_key == 0):
        _grow_leaf(write_set, holder.own_root(), leaf, index, record_type)


def remove(write_set: WriteSet, ino: int, key: int) -> bytes:
    """Take *key* away; its value. KeyError where it is not there."""
    page_key, leaf = leaf_of(write_set, write_set.inode(ino).root, key)
    index = bisect_left(leaf.keys, key)
    if index == len(leaf.keys) or leaf.keys[index] != key:
        raise KeyError(key)
    return remove_at(write_set, write_set.edit(ino), page_key, index)


def remove_at(write_set: WriteSet, holder: Holder, page_key: int, index: int) -> bytes:
    """Take away what is at *index* of the leaf *page_key*; its value."""
    leaf = write_set.edit_page(page_key) if page_key else holder.own_root()
    key = leaf.keys.pop(index)
    value = leaf.values.pop(index)
    leaf.value_bytes -= len(value)
    if page_key and is_small(leaf):
        root = holder.own_root()
        shrink(write_set, root, path_to(write_set, root, key), page_key, leaf)
    return value


def _grow_leaf(write_set: WriteSet, root: Page, leaf: Page, index: int, record_type: int) -> None:
    at_end = index == len(leaf.keys) - 1
    grow(write_set, root, path_to(write_set, root, leaf.keys[index]), leaf, record_type, at_end)


def replace_range(
    write_set: WriteSet,
    ino: int,
    start: int,
    stop: int,
    entries: Sequence[tuple[int, bytes]],
    record_type: int,
    sharing: Sharing | None = None,
) -> None:
    """Exchange all entries from *start* to below *stop* for *entries*, which ascend and lie in that range.

    Each leaf of the range is changed once; a range in one leaf costs as much as a `put`. Without *sharing* no page of
    the tree is shared.
    """
    assert all(one[0] < other[0] for one, other in pairwise(entries)), "entries that do not ascend"
    assert not entries or start <= entries[0][0] <= entries[-1][0] < stop, "entries outside the range"
    assert all(len(value) <= VALUE_BYTES_MAX for _, value in entries)
    root = write_set.edit(ino).own_root()
    taken = 0
    while start < stop:
        page_key, leaf = leaf_of(write_set, root, start)
        path = path_to(write_set, root, start)
        upper = upper_bound(path)
        last = bisect_left(entries, (upper,), taken)
        new = entries[taken:last]
        first, end = bisect_left(leaf.keys, start), bisect_left(leaf.keys, stop)
        if new or first < end:
            if sharing is not None:
                own_path(write_set, root, start, sharing)
                page_key, leaf = leaf_of(write_set, root, start)
                path = path_to(write_set, root, start)
            if page_key:
                leaf = write_set.edit_page(page_key)
            at_end = end == len(leaf.keys)
            leaf.keys[first:end] = array("Q", [key for key, _ in new])
            leaf.values[first:end] = [value for _, value in new]
            leaf.value_bytes = len(b"".join(leaf.values))
            if is_over(leaf, page_key == 0):
                grow(write_set, root, path, leaf, record_type, at_end)
            else:
                shrink(write_set, root, path, page_key, leaf, sharing)
        start, taken = upper, last


def drop_all(write_set: WriteSet, ino: int, sharing: Sharing | None = None) -> Iterator[list[bytes]]:
    """Empty the tree and free its pages, yielding the values of each leaf. To be run to its end.

    Pages that are shared lose a parent; what is in them is not yielded.
    """
    inode = write_set.edit(ino)
    root, inode.root = inode.root, Page()
    return drop_below(write_set, root, sharing)


def drop_below(write_set: WriteSet, page: Page, sharing: Sharing | None = None) -> Iterator[list[bytes]]:
    """Free the pages below *page*, yielding the values of each leaf. To be run to its end."""
    for index, key in enumerate(page.children):
        if sharing is not None and sharing.is_shared(key):
            sharing.released(key)
        else:
            yield from drop_below(write_set, child_of(write_set, page, index), sharing)
            write_set.drop_page(key)
    if page.values:
        yield page.values

"""A tree of pages: ordered u64 keys to small values (directories, block maps and lists of links are such).

Its root is inside an inode, or a record of its own. Here is what a tree looks like and how it is read, from its root
page and through a `WriteSet`; it is changed by `vfsdb.pagewriter`. All cost O(log n) pages, and what they touch beside.

Invariants, which `check` looks for and every change keeps:

* keys of a page ascend strictly; the root of an empty tree is a leaf, no other page is empty;
* the key that an inner page holds for a child is the lowest that the child may hold: what the child holds lies at
  or above it and below that of the next child. The first of them is not looked at: the lower bound of the first
  child is that of the page itself, 0 at the root;
* a child's level is one less than its parent's, leaves have level 0;
* pages stay within the limits below, a leaf with one entry more at most; so no page is above `PAGE_BYTES_MAX`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from vfsdb.errors import CorruptionError
from vfsdb.records import FIRST_KEY, PAGE_BYTES_MAX, Page
from vfsdb.writeset import WriteSet

KEY_END: Final = 1 << 64  # above every key
VALUE_BYTES_MAX: Final = 1024
LEAF_BYTES = 1024  # of a leaf's entries, which every change of one rewrites: about 33 names of 15 bytes
INNER_CHILDREN = 256
ROOT_BYTES = 1024  # the same of a root, which every change of the inode rewrites
ROOT_CHILDREN = 32
ENTRY_BYTES: Final = 10  # of an entry beside the value
assert LEAF_BYTES + VALUE_BYTES_MAX + 2 * ENTRY_BYTES + 16 <= PAGE_BYTES_MAX
assert INNER_CHILDREN * 12 + 16 <= PAGE_BYTES_MAX


# -- reading -----------------------------------------------------------------------------------------------


def get(write_set: WriteSet, root: Page, key: int) -> bytes | None:
    """The value of *key*."""
    leaf = leaf_of(write_set, root, key)[1]
    index = bisect_left(leaf.keys, key)
    return leaf.values[index] if index < len(leaf.keys) and leaf.keys[index] == key else None


def leaf_of(write_set: WriteSet, root: Page, key: int) -> tuple[int, Page]:
    """The leaf where *key* belongs, and before it the metadata key of that page, 0: it is the root."""
    page_key, page = 0, root
    while level := page.level:
        page_key = page.children[bisect_right(page.keys, key, 1) - 1]
        page = write_set.page(page_key)
        if page.level != level - 1:
            raise _wrong_level(page_key, page, level)
    return page_key, page


def floor(write_set: WriteSet, root: Page, key: int) -> tuple[int, bytes] | None:
    """The last entry at or below *key*."""
    while key >= 0:
        leaf, lower, _ = seek(write_set, root, key)
        if index := bisect_right(leaf.keys, key):
            return leaf.keys[index - 1], leaf.values[index - 1]
        key = lower - 1
    return None


def ceiling(write_set: WriteSet, root: Page, key: int) -> tuple[int, bytes] | None:
    """The first entry at or above *key*."""
    return next(items(write_set, root, key), None)


def items(write_set: WriteSet, root: Page, start: int = 0, stop: int = KEY_END) -> Iterator[tuple[int, bytes]]:
    """Entries from *start* to below *stop*, leaf by leaf: to go on later, start behind the last key seen."""
    for leaf in leaves(write_set, root, start, stop):
        keys = leaf.keys
        first, last = bisect_left(keys, start), bisect_left(keys, stop)
        yield from zip(keys[first:last], leaf.values[first:last], strict=True)


def leaves(write_set: WriteSet, root: Page, start: int = 0, stop: int = KEY_END) -> Iterator[Page]:
    """Every leaf that may hold keys from *start* to below *stop*. The tree may change under way as keys behind do."""
    while start < stop:
        leaf, _, start = seek(write_set, root, start)
        yield leaf


def seek(write_set: WriteSet, root: Page, key: int) -> tuple[Page, int, int]:
    """The leaf where *key* belongs, and the bounds of what it may hold: the lowest key, and the first above."""
    page, lower, upper = root, 0, KEY_END
    while page.level:
        index = bisect_right(page.keys, key, 1)
        if index < len(page.keys):
            upper = page.keys[index]
        if index > 1:
            lower = page.keys[index - 1]
        page = child_of(write_set, page, index - 1)
    return page, lower, upper


def count_pages(write_set: WriteSet, root: Page) -> int:
    """Pages beside the root. Leaves are not read."""
    if root.level < 2:
        return len(root.children)
    return len(root.children) + sum(
        count_pages(write_set, child_of(write_set, root, index)) for index in range(len(root.children))
    )


def child_of(write_set: WriteSet, page: Page, index: int) -> Page:
    """The page at *index* of the children of *page*."""
    child = write_set.page(page.children[index])
    if child.level != page.level - 1:
        raise _wrong_level(page.children[index], child, page.level)
    return child


def _wrong_level(page_key: int, page: Page, above: int) -> CorruptionError:
    return CorruptionError(f"page {page_key} has level {page.level} below one of level {above}; run fsck")


# -- limits ------------------------------------------------------------------------------------------------


def size_of(page: Page) -> int:
    """What the limits bound: bytes of a leaf, children of an inner page."""
    if page.level:
        return len(page.keys)
    return len(page.keys) * ENTRY_BYTES + page.value_bytes


def limit_of(level: int, is_root: bool) -> int:
    """Bound of `size_of`."""
    if level:
        return ROOT_CHILDREN if is_root else INNER_CHILDREN
    return ROOT_BYTES if is_root else LEAF_BYTES


def is_over(page: Page, is_root: bool) -> bool:
    """Whether the page is to be split. A leaf with one entry never is."""
    count = len(page.keys)
    if page.level:
        return count > (ROOT_CHILDREN if is_root else INNER_CHILDREN)
    return count * ENTRY_BYTES + page.value_bytes > (ROOT_BYTES if is_root else LEAF_BYTES) and count > 1


def is_small(page: Page) -> bool:
    """Whether a page below the root is to be joined with a neighbour, where both together are small enough."""
    return size_of(page) * 4 < limit_of(page.level, False)


def stays_large(leaf: Page, page_key: int, index: int) -> bool:
    """Whether the leaf *page_key* is not to be joined with a neighbour once what is at *index* is gone."""
    return not page_key or (size_of(leaf) - ENTRY_BYTES - len(leaf.values[index])) * 4 >= LEAF_BYTES


def has_room(leaf: Page, page_key: int, value_size: int) -> bool:
    """Whether the leaf *page_key* takes one value of *value_size* bytes more as it is."""
    count = len(leaf.keys) + 1
    size = count * ENTRY_BYTES + leaf.value_bytes + value_size
    return size <= (LEAF_BYTES if page_key else ROOT_BYTES) or count == 1


# -- checking ----------------------------------------------------------------------------------------------


def check(write_set: WriteSet, root: Page) -> Iterator[str]:
    """What contradicts the invariants. Reads every page; CorruptionError where one cannot be read."""
    yield from _check(write_set, root, "the root", 0, KEY_END, True)


def _check(write_set: WriteSet, page: Page, name: str, lower: int, upper: int, is_root: bool) -> Iterator[str]:
    keys = page.keys
    if any(one >= other for one, other in pairwise(keys)):
        yield f"{name}: keys do not ascend"
    if keys and (keys[0] < lower or keys[-1] >= upper):
        yield f"{name}: keys from {keys[0]} to {keys[-1]} where {lower} to {upper - 1} belong"
    if not keys and not (is_root and page.level == 0):
        yield f"{name}: no entries"
    largest = ENTRY_BYTES + max(map(len, page.values)) if page.values else 0
    if is_over(page, is_root) and size_of(page) - largest > limit_of(page.level, is_root):
        yield f"{name}: {size_of(page)} is over the limit {limit_of(page.level, is_root)}"
    if page.value_bytes != len(b"".join(page.values)):
        yield f"{name}: values of {page.value_bytes} bytes, by its own count"
    if len(page.values if page.level == 0 else page.children) != len(keys):
        yield f"{name}: another number of keys than of what they stand for"
    for index, (key, (first, end)) in enumerate(zip(page.children, pairwise([lower, *keys[1:], upper]), strict=False)):
        if key < FIRST_KEY:
            yield f"{name}: a child under the key {key}"
        else:
            yield from _check(write_set, child_of(write_set, page, index), f"page {key}", first, end, False)

"""Trees of pages keep their balance: pages that grew too large are split, small ones joined, levels come and go.

Pages are split in the middle, or at the end of the tree behind the last entry, so that what is filled in ascending
order has full pages. A page below a quarter of its limit is joined with a neighbour where both together fill at most
three quarters. The root gives its entries to a page below when it is full, and takes them back when they
fill half of it, so that work at a limit does not go back and forth.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import NamedTuple

from vfsdb.copyonwrite import Sharing, own_child
from vfsdb.errors import CorruptionError
from vfsdb.pages import ENTRY_BYTES, KEY_END, child_of, is_over, is_small, limit_of, size_of
from vfsdb.records import PAGE_LEVEL_MAX, Page
from vfsdb.writeset import WriteSet


class Step(NamedTuple):
    """An inner page on the way down and which child was taken; *key* 0: the root."""

    key: int
    page: Page
    taken: int


def path_to(write_set: WriteSet, root: Page, key: int) -> list[Step]:
    """The inner pages on the way to the leaf where *key* belongs, from the root down."""
    path: list[Step] = []
    page_key, page = 0, root
    while page.level:
        index = bisect_right(page.keys, key, 1) - 1
        path.append(Step(page_key, page, index))
        page_key, page = page.children[index], child_of(write_set, page, index)
    return path


def upper_bound(path: list[Step]) -> int:
    """The first key above those of the leaf at the end of *path*."""
    bounds = (step.page.keys[step.taken + 1] for step in reversed(path) if step.taken + 1 < len(step.page.keys))
    return next(bounds, KEY_END)


def grow(write_set: WriteSet, root: Page, path: list[Step], page: Page, record_type: int, at_end: bool) -> None:
    """Split *page*, at the end of *path*, and what above it gets too large by that. *at_end*: it grew at its end."""
    at_end = at_end and all(step.taken == len(step.page.keys) - 1 for step in path)
    while path and is_over(page, False):
        step = path.pop()
        parts = _split(page, at_end)
        _become(page, parts[0])
        parent = write_set.edit_page(step.key) if step.key else root
        behind = step.taken + 1
        if not step.taken:
            parent.keys[0] = parts[0].keys[0]  # nobody looks at it, but it must stay below the others
        parent.keys[behind:behind] = array("Q", [part.keys[0] for part in parts[1:]])
        parent.children[behind:behind] = [write_set.add_page(part, record_type) for part in parts[1:]]
        page = parent
    while page is root and is_over(root, True):
        if root.level == PAGE_LEVEL_MAX:
            raise CorruptionError(f"a tree of {PAGE_LEVEL_MAX} levels")
        parts = (
            _split(root, at_end) if is_over(root, False) else [Page(root.level, root.keys, root.values, root.children)]
        )
        below = [write_set.add_page(part, record_type) for part in parts]
        _become(root, Page(root.level + 1, [0, *(part.keys[0] for part in parts[1:])], [], below))


def _split(page: Page, at_end: bool) -> list[Page]:
    """Pages within the limits, of about the same size; *at_end*: full ones but for the last."""
    sizes = [1] * len(page.keys) if page.level else [ENTRY_BYTES + len(value) for value in page.values]
    cuts = (_cuts_full if at_end else _cuts_even)([0, *accumulate(sizes)], limit_of(page.level, False))
    return [
        Page(page.level, page.keys[first:last], page.values[first:last], page.children[first:last])
        for first, last in pairwise(cuts)
    ]


def _cuts_even(offsets: list[int], limit: int) -> list[int]:
    parts = -(-offsets[-1] // limit)
    wanted = [offsets[-1] * part // parts for part in range(1, parts)]
    return sorted({0, *(bisect_left(offsets, offset) for offset in wanted), len(offsets) - 1})


def _cuts_full(offsets: list[int], limit: int) -> list[int]:
    cuts = [0]
    while cuts[-1] < len(offsets) - 1:
        cuts.append(max(cuts[-1] + 1, bisect_right(offsets, offsets[cuts[-1]] + limit) - 1))
    return cuts


def _become(page: Page, other: Page) -> None:
    page.level, page.keys, page.values, page.children = other.level, other.keys, other.values, other.children
    page.value_bytes = other.value_bytes


def shrink(
    write_set: WriteSet, root: Page, path: list[Step], page_key: int, page: Page, sharing: Sharing | None = None
) -> None:
    """Take *page*, at the end of *path*, away where it is empty, join it where it is small; then those above it."""
    while path and is_small(page):
        step = path.pop()
        if not page.keys:
            parent = write_set.edit_page(step.key) if step.key else root
            del parent.keys[step.taken], parent.children[step.taken]
            write_set.drop_page(page_key)
        else:
            left = max(step.taken - 1, 0)
            if left + 1 == len(step.page.keys) or not _join(write_set, step, left, sharing):
                break
            parent = write_set.edit_page(step.key) if step.key else root
            del parent.keys[left + 1], parent.children[left + 1]
        page_key, page = step.key, parent
    while root.level:
        if not root.children:
            _become(root, Page())
        elif len(root.children) > 1:
            break
        else:
            child_key, child = root.children[0], child_of(write_set, root, 0)
            if size_of(child) * 2 > limit_of(child.level, True):
                break
            if sharing is not None:
                own_child(write_set, 0, root, 0, sharing)
                child_key, child = root.children[0], child_of(write_set, root, 0)
            _become(root, child.copy())
            write_set.drop_page(child_key)


def _join(write_set: WriteSet, step: Step, left: int, sharing: Sharing | None) -> bool:
    """Put the entries of child *left* + 1 into child *left*, if both together are small enough."""
    parent = step.page
    one, other = child_of(write_set, parent, left), child_of(write_set, parent, left + 1)
    if (size_of(one) + size_of(other)) * 4 > limit_of(one.level, False) * 3:
        return False
    if sharing is not None:
        for index in (left, left + 1):
            parent = own_child(write_set, step.key, parent, index, sharing)
        other = child_of(write_set, parent, left + 1)
    joined = write_set.edit_page(parent.children[left])
    joined.keys += other.keys
    if one.level:  # the first key of an inner page is not looked at in its own place
        joined.keys[-len(other.keys)] = parent.keys[left + 1]
    joined.values += other.values
    joined.value_bytes += other.value_bytes
    joined.children += other.children
    write_set.drop_page(parent.children[left + 1])
    return True

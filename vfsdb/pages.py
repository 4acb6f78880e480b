"""A tree of pages: ordered u64 keys to small values (directories, block maps and lists of links are such).

Its root is inside an inode, or a record of its own. Reading functions take the root page, changing ones what holds
it (a `Holder`, or the number of an inode), and get and change pages through a `WriteSet`. All cost O(log n) pages,
and what they touch beside.

Invariants, which `check` looks for and every change keeps:

* keys of a page ascend strictly; the root of an empty tree is a leaf, no other page is empty;
* the key that an inner page holds for a child is the lowest that the child may hold: what the child holds lies at
  or above it and below that of the next child. The first of them is not looked at: the lower bound of the first
  child is that of the page itself, 0 at the root;
* a child's level is one less than its parent's, leaves have level 0;
* pages stay within the limits below, a leaf with one entry more at most; so no page is above `PAGE_BYTES_MAX`.

Pages are split in the middle, or at the end of the tree behind the last entry, so that what is filled in ascending
order has full pages. A page below a quarter of its limit is joined with a neighbour where both together fill at most
three quarters. The root gives its entries to a page below when it is full, and takes them back when they
fill half of it, so that work at a limit does not go back and forth.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, Protocol

from vfsdb.errors import CorruptionError
from vfsdb.records import FIRST_KEY, PAGE_BYTES_MAX, PAGE_LEVEL_MAX, Page
from vfsdb.writeset import WriteSet

KEY_END: Final = 1 << 64  # above every key
VALUE_BYTES_MAX: Final = 1024
LEAF_BYTES = 1024  # of a leaf's entries, which every change of one rewrites: about 33 names of 15 bytes
INNER_CHILDREN = 256
ROOT_BYTES = 1024  # the same of a root, which every change of the inode rewrites
ROOT_CHILDREN = 32
_ENTRY_BYTES: Final = 10  # of an entry beside the value
assert LEAF_BYTES + VALUE_BYTES_MAX + 2 * _ENTRY_BYTES + 16 <= PAGE_BYTES_MAX
assert INNER_CHILDREN * 12 + 16 <= PAGE_BYTES_MAX


class Holder(Protocol):
    """What has a tree's root: an inode that is being edited, or what stands for a record of the root's own."""

    def own_root(self) -> Page:
        """The root, to be changed."""


class Sharing(Protocol):
    """Who keeps the counts of pages that trees have in common. Before such a page is changed it is copied."""

    record_type: int  # of its pages

    def is_shared(self, key: int) -> bool:
        """Whether the page has more than one parent."""

    def copied(self, key: int, page: Page) -> None:
        """A copy of *page* takes its place in one of its parents."""

    def released(self, key: int) -> None:
        """A shared page has lost one of its parents."""


class _Step(NamedTuple):
    """An inner page on the way down and which child was taken; *key* 0: the root."""

    key: int
    page: Page
    taken: int


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
        page = _child(write_set, page, index - 1)
    return page, lower, upper


def count_pages(write_set: WriteSet, root: Page) -> int:
    """Pages beside the root. Leaves are not read."""
    if root.level < 2:
        return len(root.children)
    return len(root.children) + sum(
        count_pages(write_set, _child(write_set, root, index)) for index in range(len(root.children))
    )


def _child(write_set: WriteSet, page: Page, index: int) -> Page:
    child = write_set.page(page.children[index])
    if child.level != page.level - 1:
        raise _wrong_level(page.children[index], child, page.level)
    return child


def _wrong_level(page_key: int, page: Page, above: int) -> CorruptionError:
    return CorruptionError(f"page {page_key} has level {page.level} below one of level {above}; run fsck")


# -- changing ----------------------------------------------------------------------------------------------


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
    if _is_over(leaf, page_key == 0):
        _grow_leaf(write_set, holder.own_root(), leaf, index, record_type)


def replace_at(write_set: WriteSet, holder: Holder, page_key: int, index: int, value: bytes, record_type: int) -> None:
    """Exchange the value at *index* of the leaf *page_key*."""
    assert len(value) <= VALUE_BYTES_MAX
    leaf = write_set.edit_page(page_key) if page_key else holder.own_root()
    leaf.value_bytes += len(value) - len(leaf.values[index])
    leaf.values[index] = value
    if _is_over(leaf, page_key == 0):
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
    if page_key and _is_small(leaf):
        root = holder.own_root()
        _shrink(write_set, root, _path(write_set, root, key), page_key, leaf)
    return value


def has_room(leaf: Page, page_key: int, value_size: int) -> bool:
    """Whether the leaf *page_key* takes one value of *value_size* bytes more as it is."""
    count = len(leaf.keys) + 1
    size = count * _ENTRY_BYTES + leaf.value_bytes + value_size
    return size <= (LEAF_BYTES if page_key else ROOT_BYTES) or count == 1


def _grow_leaf(write_set: WriteSet, root: Page, leaf: Page, index: int, record_type: int) -> None:
    at_end = index == len(leaf.keys) - 1
    _grow(write_set, root, _path(write_set, root, leaf.keys[index]), leaf, record_type, at_end)


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
        path = _path(write_set, root, start)
        upper = _upper_bound(path)
        last = bisect_left(entries, (upper,), taken)
        new = entries[taken:last]
        first, end = bisect_left(leaf.keys, start), bisect_left(leaf.keys, stop)
        if new or first < end:
            if sharing is not None:
                _own_path(write_set, root, start, sharing)
                page_key, leaf = leaf_of(write_set, root, start)
                path = _path(write_set, root, start)
            if page_key:
                leaf = write_set.edit_page(page_key)
            at_end = end == len(leaf.keys)
            leaf.keys[first:end] = array("Q", [key for key, _ in new])
            leaf.values[first:end] = [value for _, value in new]
            leaf.value_bytes = len(b"".join(leaf.values))
            if _is_over(leaf, page_key == 0):
                _grow(write_set, root, path, leaf, record_type, at_end)
            else:
                _shrink(write_set, root, path, page_key, leaf, sharing)
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
            yield from drop_below(write_set, _child(write_set, page, index), sharing)
            write_set.drop_page(key)
    if page.values:
        yield page.values


# -- shared pages ------------------------------------------------------------------------------------------


def own(write_set: WriteSet, ino: int, start: int, stop: int, sharing: Sharing) -> None:
    """Copy what is shared of the pages on the way to entries from *start* to below *stop*."""
    root = write_set.edit(ino).own_root()
    while start < stop:
        _own_path(write_set, root, start, sharing)
        start = seek(write_set, root, start)[2]


def _own_path(write_set: WriteSet, root: Page, key: int, sharing: Sharing) -> None:
    page_key, page = 0, root
    while page.level:
        index = bisect_right(page.keys, key, 1) - 1
        page = _own_child(write_set, page_key, page, index, sharing)
        page_key, page = page.children[index], _child(write_set, page, index)


def _own_child(write_set: WriteSet, page_key: int, page: Page, index: int, sharing: Sharing) -> Page:
    """Copy that child of the page *page_key* (0: the root, which is being edited) if it is shared; the page then."""
    key = page.children[index]
    if not sharing.is_shared(key):
        return page
    child = _child(write_set, page, index)
    copy = write_set.add_page(child.copy(), sharing.record_type)
    parent = write_set.edit_page(page_key) if page_key else page
    parent.children[index] = copy
    sharing.copied(key, child)
    return parent


def _path(write_set: WriteSet, root: Page, key: int) -> list[_Step]:
    """The inner pages on the way to the leaf where *key* belongs, from the root down."""
    path: list[_Step] = []
    page_key, page = 0, root
    while page.level:
        index = bisect_right(page.keys, key, 1) - 1
        path.append(_Step(page_key, page, index))
        page_key, page = page.children[index], _child(write_set, page, index)
    return path


def _upper_bound(path: list[_Step]) -> int:
    """The first key above those of the leaf at the end of *path*."""
    bounds = (step.page.keys[step.taken + 1] for step in reversed(path) if step.taken + 1 < len(step.page.keys))
    return next(bounds, KEY_END)


# -- keeping the invariants --------------------------------------------------------------------------------


def _size(page: Page) -> int:
    """What the limits bound: bytes of a leaf, children of an inner page."""
    if page.level:
        return len(page.keys)
    return len(page.keys) * _ENTRY_BYTES + page.value_bytes


def _limit(level: int, is_root: bool) -> int:
    if level:
        return ROOT_CHILDREN if is_root else INNER_CHILDREN
    return ROOT_BYTES if is_root else LEAF_BYTES


def _is_over(page: Page, is_root: bool) -> bool:
    count = len(page.keys)
    if page.level:
        return count > (ROOT_CHILDREN if is_root else INNER_CHILDREN)
    return count * _ENTRY_BYTES + page.value_bytes > (ROOT_BYTES if is_root else LEAF_BYTES) and count > 1


def _is_small(page: Page) -> bool:
    return _size(page) * 4 < _limit(page.level, False)


def _grow(write_set: WriteSet, root: Page, path: list[_Step], page: Page, record_type: int, at_end: bool) -> None:
    """Split *page*, at the end of *path*, and what above it gets too large by that. *at_end*: it grew at its end."""
    at_end = at_end and all(step.taken == len(step.page.keys) - 1 for step in path)
    while path and _is_over(page, False):
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
    while page is root and _is_over(root, True):
        if root.level == PAGE_LEVEL_MAX:
            raise CorruptionError(f"a tree of {PAGE_LEVEL_MAX} levels")
        parts = (
            _split(root, at_end) if _is_over(root, False) else [Page(root.level, root.keys, root.values, root.children)]
        )
        below = [write_set.add_page(part, record_type) for part in parts]
        _become(root, Page(root.level + 1, [0, *(part.keys[0] for part in parts[1:])], [], below))


def _split(page: Page, at_end: bool) -> list[Page]:
    """Pages within the limits, of about the same size; *at_end*: full ones but for the last."""
    sizes = [1] * len(page.keys) if page.level else [_ENTRY_BYTES + len(value) for value in page.values]
    cuts = (_cuts_full if at_end else _cuts_even)([0, *accumulate(sizes)], _limit(page.level, False))
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


def _shrink(
    write_set: WriteSet, root: Page, path: list[_Step], page_key: int, page: Page, sharing: Sharing | None = None
) -> None:
    """Take *page*, at the end of *path*, away where it is empty, join it where it is small; then those above it."""
    while path and _is_small(page):
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
            child_key, child = root.children[0], _child(write_set, root, 0)
            if _size(child) * 2 > _limit(child.level, True):
                break
            if sharing is not None:
                _own_child(write_set, 0, root, 0, sharing)
                child_key, child = root.children[0], _child(write_set, root, 0)
            _become(root, child.copy())
            write_set.drop_page(child_key)


def _join(write_set: WriteSet, step: _Step, left: int, sharing: Sharing | None) -> bool:
    """Put the entries of child *left* + 1 into child *left*, if both together are small enough."""
    parent = step.page
    one, other = _child(write_set, parent, left), _child(write_set, parent, left + 1)
    if (_size(one) + _size(other)) * 4 > _limit(one.level, False) * 3:
        return False
    if sharing is not None:
        for index in (left, left + 1):
            parent = _own_child(write_set, step.key, parent, index, sharing)
        other = _child(write_set, parent, left + 1)
    joined = write_set.edit_page(parent.children[left])
    joined.keys += other.keys
    if one.level:  # the first key of an inner page is not looked at in its own place
        joined.keys[-len(other.keys)] = parent.keys[left + 1]
    joined.values += other.values
    joined.value_bytes += other.value_bytes
    joined.children += other.children
    write_set.drop_page(parent.children[left + 1])
    return True


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
    largest = _ENTRY_BYTES + max(map(len, page.values)) if page.values else 0
    if _is_over(page, is_root) and _size(page) - largest > _limit(page.level, is_root):
        yield f"{name}: {_size(page)} is over the limit {_limit(page.level, is_root)}"
    if page.value_bytes != len(b"".join(page.values)):
        yield f"{name}: values of {page.value_bytes} bytes, by its own count"
    if len(page.values if page.level == 0 else page.children) != len(keys):
        yield f"{name}: another number of keys than of what they stand for"
    for index, (key, (first, end)) in enumerate(zip(page.children, pairwise([lower, *keys[1:], upper]), strict=False)):
        if key < FIRST_KEY:
            yield f"{name}: a child under the key {key}"
        else:
            yield from _check(write_set, _child(write_set, page, index), f"page {key}", first, end, False)

"""Pages that several trees share: before one of them is changed it is copied, and the tree that changes has the copy.

The copy is made on the way down from the root, so every page above one that is owned is owned as well.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

from vfsdb.pages import child_of, seek
from vfsdb.records import Page
from vfsdb.writeset import WriteSet


class Sharing(Protocol):
    """Who keeps the counts of pages that trees have in common."""

    record_type: int  # of its pages

    def is_shared(self, key: int) -> bool:
        """Whether the page has more than one parent."""

    def copied(self, key: int, page: Page) -> None:
        """A copy of *page* takes its place in one of its parents."""

    def released(self, key: int) -> None:
        """A shared page has lost one of its parents."""


def own(write_set: WriteSet, ino: int, start: int, stop: int, sharing: Sharing) -> None:
    """Copy what is shared of the pages on the way to entries from *start* to below *stop*."""
    root = write_set.edit(ino).own_root()
    while start < stop:
        own_path(write_set, root, start, sharing)
        start = seek(write_set, root, start)[2]


def own_path(write_set: WriteSet, root: Page, key: int, sharing: Sharing) -> None:
    """Copy what is shared of the pages on the way to the leaf where *key* belongs; *root* is being edited."""
    page_key, page = 0, root
    while page.level:
        index = bisect_right(page.keys, key, 1) - 1
        page = own_child(write_set, page_key, page, index, sharing)
        page_key, page = page.children[index], child_of(write_set, page, index)


def own_child(write_set: WriteSet, page_key: int, page: Page, index: int, sharing: Sharing) -> Page:
    """Copy that child of the page *page_key* (0: the root, which is being edited) if it is shared; the page then."""
    key = page.children[index]
    if not sharing.is_shared(key):
        return page
    child = child_of(write_set, page, index)
    copy = write_set.add_page(child.copy(), sharing.record_type)
    parent = write_set.edit_page(page_key) if page_key else page
    parent.children[index] = copy
    sharing.copied(key, child)
    return parent

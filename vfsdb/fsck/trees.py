"""Walks over a tree of pages, sound or not: leaves in order, and what contradicts the invariants of `vfsdb.pages`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from vfsdb.fsck.fields import could_be_value
from vfsdb.fsck.state import PAGE, Check
from vfsdb.pages import INNER_CHILDREN, KEY_END, LEAF_BYTES, ROOT_BYTES, ROOT_CHILDREN
from vfsdb.records import FIRST_KEY, MAP_PAGE, TYPE_NAMES, Page
from vfsdb.sharing import PAGES

_ENTRY_BYTES: Final = 10


class TreeWalk:
    """One walk over the tree of an inode.

    Parameters
    ----------
    check : Check
    ino : int
    root : Page or int
        The root page, or the metadata key of its record.
    of_type : int
        `DIRECTORY_PAGE`, `MAP_PAGE` or `LINK_PAGE`.
    quiet : bool
        Look again: nothing is noted, no page is claimed.
    may_share : bool
        The inode says that others may have its pages, too.

    Attributes
    ----------
    sound : bool
        Nothing was found so far.
    pages : list[int]
        Metadata keys of the pages that belong to the tree.
    met_before : bool
        The leaf that was given last is in a page that another tree led to before: what it names was seen.
    meets_shared : bool
        The tree led to a page that has a count among the shares.
    """

    def __init__(
        self, check: Check, ino: int, root: Page | int, of_type: int, *, quiet: bool = False, may_share: bool = False
    ) -> None:
        self._check = check
        self._ino = ino
        self._root = root
        self._of_type = of_type
        self._quiet = quiet
        self._may_share = may_share
        self.sound = True
        self.pages: list[int] = []
        self.met_before = self.meets_shared = False
        self._mine: set[int] = set()

    def leaves(self) -> Iterator[Page]:
        """Every leaf that can be reached, in the order of the tree."""
        root, key = self._root, 0
        if isinstance(root, int):
            key = root
            found = self._child(key, None)
            if found is None:
                return
            root = found
        self._judge(root, 0, 0, KEY_END)
        if key:
            self._claim(key, True)
        yield from self._below(root, 0, KEY_END, False)

    def _below(self, page: Page, lower: int, upper: int, met: bool) -> Iterator[Page]:
        if not page.level:
            if page.keys:
                self.met_before = met
                yield page
            return
        bounds = pairwise([lower, *page.keys[1:], upper])
        for number, (key, (first, stop)) in enumerate(zip(page.children, bounds, strict=True)):
            named = self._name(key, met)
            seen = met or (named and self._check.keys.get(key) == PAGE)
            child = self._child(key, page.level, named or met)
            if child is None:
                continue
            fits = self._judge(child, key, 0 if number == 0 else first, stop) and child.level == page.level - 1
            self._claim(key, fits)
            yield from self._below(child, first, stop, seen)

    def _claim(self, key: int, fits: bool) -> None:
        """Note that the page is this tree's. One that does not fit may be another's, which then has it."""
        check = self._check
        self._mine.add(key)
        self.pages.append(key)
        if self._quiet:
            return
        if fits:
            check.keys.set(key, PAGE)
        else:
            check.unclaimed.setdefault(self._ino, set()).add(key)

    def _name(self, key: int, met: bool) -> bool:
        """A page leads to *key*, one that nobody led to before unless *met*; whether *key* has a count."""
        shares = self._check.shares
        if self._of_type != MAP_PAGE:
            return False
        if not shares.has(PAGES + key):
            if not self._may_share or self._check.keys.get(key) != PAGE or key in self._mine:
                return False
            if not self._quiet:
                self._check.uncounted("page", key, self._ino)
            return True
        self.meets_shared = True
        if not self._quiet and not met:
            shares.name(PAGES + key, 1)
        return True

    def _child(self, key: int, level: int | None, shared: bool = False) -> Page | None:
        """The page under *key*, below one of *level*, claimed for this tree; None where it is none of it.

        *shared*: other trees may have it, too.
        """
        check = self._check
        examined = check.look(key) if key >= FIRST_KEY else None
        if examined is None or not isinstance(examined.record, Page):
            if examined is None:
                what = check.records.unreadable.get(key, "there is no record")
            else:
                what = f"there is a {TYPE_NAMES.get(examined.of_type, 'record of no type')}"
            self._note("page.missing", f"where a page belongs, {what}", key, lost=True)
            return None
        if key in self._mine and not shared:
            self._note("page.shared", "the tree leads to it twice", key)
            return None
        page = examined.record
        if not shared and self._is_anothers(key):
            self._note("page.shared", "it is a page of another tree, too", key)
            return None
        if examined.broken:
            self.sound = False
            if not self._quiet:
                for broken in examined.broken:
                    check.find(
                        broken.code, f"{broken.field} {broken.problem}", ino=self._ino, key=key, field=broken.field
                    )
        elif examined.of_type != self._of_type:
            wanted = TYPE_NAMES[self._of_type]
            self._note("page.type", f"it is a {TYPE_NAMES[examined.of_type]}, a {wanted} belongs here", key)
            if not _could_be(page, self._of_type):
                return None
        if level is not None and page.level != level - 1:
            self._note("page.level", f"level {page.level} below a page of level {level}", key)
        return page

    def _is_anothers(self, key: int) -> bool:
        """Whether another tree has the page; with *quiet* by what the check found."""
        check = self._check
        if check.keys.get(key) != PAGE:
            return False
        if not self._quiet:
            check.unclaimed.setdefault(self._ino, set()).add(key)
            return True
        return key in check.unclaimed.get(self._ino, ())

    def _judge(self, page: Page, key: int, lower: int, upper: int) -> bool:
        """Bounds and size of a page, *key* 0: the root; whether it is within the bounds."""
        fits = True
        keys = page.keys
        where = key or self._ino
        if keys and not page.level and (keys[0] < lower or keys[-1] >= upper):
            fits = False
            self._note("page.bounds", f"keys {keys[0]} to {keys[-1]} where {lower} to {upper - 1} belong", where)
        elif page.level and len(keys) > 1 and (keys[1] < lower or keys[-1] >= upper):
            fits = False
            self._note("page.bounds", f"keys {keys[1]} to {keys[-1]} where {lower} to {upper - 1} belong", where)
        if page.level:
            too_large = len(page.children) > (INNER_CHILDREN if key else ROOT_CHILDREN)
        else:
            sizes = [len(value) + _ENTRY_BYTES for value in page.values]
            too_large = len(sizes) > 1 and sum(sizes) - max(sizes) > (LEAF_BYTES if key else ROOT_BYTES)
        if too_large:
            self._note("page.size", f"{len(keys)} entries are more than a page takes", where)
        return fits

    def _note(self, code: str, problem: str, key: int, *, lost: bool = False) -> None:
        self.sound = False
        if not self._quiet:
            self._check.find(code, problem, ino=self._ino, key=key, lost=lost)


def _could_be(page: Page, of_type: int) -> bool:
    """Whether a page whose type byte says otherwise may be of this type, by what it holds."""
    return bool(page.level) or all(could_be_value(value, of_type) for value in page.values)

"""Which names of directories, and whose content, differ between two states. Costs what changed, not what there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from vfsdb import directories, pages
from vfsdb.errors import CorruptionError
from vfsdb.feed.states import After, Records
from vfsdb.records import DIRECTORY_PAGE, FIRST_KEY, MAP_PAGE, ROOT_KEY, Inode, Page

_EACH_MAX: Final = 64  # up to so many changed pages each is looked for in its tree; with more, trees are walked


class Entry(NamedTuple):
    """An entry of a directory."""

    directory: int
    name: bytes
    ino: int
    kind: int  # type bits


class Pages:
    """The changed leaves of one type, by key, in the states before and after."""

    def __init__(self, after: After, record_type: int) -> None:
        self.before: dict[int, Page] = {}
        self.after: dict[int, Page] = {}
        self.is_empty = True  # no page at all, leaf or other
        for key, was, now in after.pages_of(record_type):
            self.is_empty = False
            if was is not None and not was.level:
                self.before[key] = was
            if now is not None and not now.level:
                self.after[key] = now


def hanging(records: Records, root: Page, leaves: dict[int, Page]) -> list[int]:
    """Keys of those of *leaves*, which are of the state that *records* shows, that hang on *root*."""
    if not root.level or not leaves:
        return []
    if len(leaves) <= _EACH_MAX:
        return [key for key, page in leaves.items() if _leads_to(records, root, page.keys[0], key)]
    return [key for key in _leaf_keys(records, root) if key in leaves]


def _leads_to(records: Records, root: Page, entry_key: int, page_key: int) -> bool:
    return pages.leaf_of(records.as_write_set, root, entry_key)[0] == page_key


def _leaf_keys(records: Records, page: Page) -> Iterator[int]:
    if page.level == 1:
        yield from page.children
    else:
        for child in page.children:
            yield from _leaf_keys(records, records.page(child))


def differing_entries(after: After, inodes: Iterable[int]) -> tuple[list[Entry], list[Entry]]:
    """Entries that are there before only, and after only; of the directories among the changed *inodes*.

    CorruptionError where a page of a directory changed, and the directory did not.
    """
    before = after.before
    leaves = Pages(after, DIRECTORY_PAGE)
    gone: list[Entry] = []
    come: list[Entry] = []
    for ino in inodes:
        old, new = _directory(before, ino), _directory(after, ino)
        if old is not None and new is not None and old.root == new.root and not (leaves.before or leaves.after):
            continue
        were = _entries(before, old, leaves.before)
        are = _entries(after, new, leaves.after)
        if ino == ROOT_KEY or ino >= FIRST_KEY:  # the entries of reserved ones are no names
            gone += [_entry(ino, were[key]) for key in were if are.get(key) != were[key]]
            come += [_entry(ino, are[key]) for key in are if were.get(key) != are[key]]
    if leaves.before or leaves.after:
        lost = sorted({*leaves.before, *leaves.after})
        raise CorruptionError(f"directory pages {lost[:5]} changed, and no directory that leads there; run fsck")
    return gone, come


def _directory(records: Records, ino: int) -> Inode | None:
    inode = records.find_inode(ino)
    return inode if inode is not None and inode.kind == 0o040000 else None


def _entries(records: Records, directory: Inode | None, of_state: dict[int, Page]) -> dict[int, bytes]:
    """Key -> value of the entries in pages that changed."""
    if directory is None:
        return {}
    root = directory.root
    found = [of_state.pop(key) for key in hanging(records, root, of_state)] if root.level else [root]
    return {key: value for page in found for key, value in zip(page.keys, page.values, strict=True)}


def _entry(directory: int, value: bytes) -> Entry:
    ino, kind, name = directories.parsed(value, directory)
    return Entry(directory, name, ino, kind)


class Contents:
    """Whose content differs."""

    def __init__(self, after: After) -> None:
        self._after = after
        self._leaves = Pages(after, MAP_PAGE)

    def differs(self, old: Inode, new: Inode) -> bool:
        """Whether the content of a file is stored in another way than before: it changed, or was folded."""
        if old.size != new.size or old.inline != new.inline or old.root != new.root:
            return True
        if not new.root.level or self._leaves.is_empty:
            return False
        after, leaves = self._after, self._leaves
        return bool(hanging(after, new.root, leaves.after) or hanging(after.before, old.root, leaves.before))

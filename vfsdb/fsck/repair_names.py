"""The second and third part of a repair: entries of directories, then names of inodes, lost+found and orphans."""

from __future__ import annotations

import stat as stat_bits
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from vfsdb.directories import name_hash
from vfsdb.fsck.findings import Finding, Stage, of_stage
from vfsdb.fsck.mender import Mender
from vfsdb.fsck.namelists import names_of
from vfsdb.fsck.names import TIES, Entry, entry_at, entry_of, name_problem, value_of
from vfsdb.fsck.trees import TreeWalk
from vfsdb.interface import NAME_BYTES_MAX, ROOT
from vfsdb.links import INSIDE_MAX
from vfsdb.records import DIRECTORY_PAGE, FIRST_KEY, LINK_PAGE, ORPHANS_KEY, SHARES_KEY, Inode, Page

LOST_AND_FOUND: Final = b"lost+found"
_DIRECTORY_KIND: Final = stat_bits.S_IFDIR >> 12
_TAIL_BITS: Final = 31


# -- entries -----------------------------------------------------------------------------------------------------


def mend_entries(mender: Mender, findings: list[Finding]) -> None:
    """Give every directory that has a finding the entries that it should have."""
    chosen: set[int] = set()
    everywhere = False
    for finding in of_stage(findings, Stage.ENTRIES):
        if finding.code == "superblock.salt":
            everywhere = True
        elif finding.code in ("directory.linked", "directory.loop"):
            chosen.update(key for key in [finding.key] if key is not None)
        elif finding.ino is not None:
            chosen.add(finding.ino)
    known = _known_names(mender, findings)
    cut = {finding.ino for finding in of_stage(findings, Stage.ENTRIES) if finding.code == "directory.loop"}
    miscounted = {finding.ino for finding in findings if finding.code == "directory.nlink"}
    for ino in _all_directories(mender) if everywhere else sorted(chosen):
        directory = mender.inode(ino)
        if directory is not None and stat_bits.S_ISDIR(directory.mode) and ino not in (ORPHANS_KEY, SHARES_KEY):
            if ino in miscounted:
                directory.nlink = max(directory.nlink, 2)  # an orphan, which counts nothing, is not among them
            _mend_directory(mender, directory, cut, known)
            mender.may_commit()
    mender.commit()


def _known_names(mender: Mender, findings: list[Finding]) -> dict[tuple[int, int], int]:
    """Names that inodes know which nothing leads to: (directory, key) -> inode."""
    known: dict[tuple[int, int], int] = {}
    for finding in findings:
        if finding.code == "inode.unreachable" and finding.ino is not None:
            inode = mender.inode(finding.ino)
            if inode is not None:
                known |= dict.fromkeys(names_of(mender.check, inode), finding.ino)
    return known


def _led_back(mender: Mender, entry: Entry, ino: int) -> Entry:
    """The entry, leading to the inode that knows it, unless the one that it leads to does, too."""
    inode = mender.inode(entry.ino) if entry.ino >= FIRST_KEY else None
    if inode is not None and any(key == entry.key for _, key in names_of(mender.check, inode)):
        return entry
    return entry._replace(ino=ino)


def _all_directories(mender: Mender) -> Iterator[int]:
    kinds = mender.check.inodes.kinds
    at = kinds.find(_DIRECTORY_KIND)
    far = {place: ino for ino, place in mender.check.inodes.numbers()}
    while at >= 0:
        yield far.get(at, at)
        at = kinds.find(_DIRECTORY_KIND, at + 1)


def _mend_directory(mender: Mender, directory: Inode, cut: set[int | None], known: dict[tuple[int, int], int]) -> None:
    ino = directory.ino
    walk = TreeWalk(mender.check, ino, directory.root, DIRECTORY_PAGE, quiet=True)
    sound: list[Entry] = []
    before = directory.size
    for leaf in walk.leaves():
        for key, value in zip(leaf.keys, leaf.values, strict=True):
            entry = entry_of(key, value)
            if entry is not None and known.get((ino, key), entry.ino) != entry.ino:
                entry = _led_back(mender, entry, known[ino, key])
            kept = _mended(mender, ino, entry) if entry is not None else None
            if kept is None or kept.ino in cut:
                mender.kept.add("entry", key, value, directory=ino)
            else:
                sound.append(kept)
    entries = _placed(mender, ino, sound)
    set_entries(mender, directory, entries, walk.pages)
    mender.put_inode(directory)
    mender.did(f"stored the {len(entries)} entries of directory {ino} again, {before} were counted")


def set_entries(mender: Mender, directory: Inode, entries: Iterable[Entry], pages: Iterable[int]) -> None:
    """Give *directory* these entries, in place of those pages, and count."""
    ordered = sorted(entries)
    directory.size = len(ordered)
    if directory.nlink or directory.ino == ROOT or directory.size:
        directory.nlink = 2 + sum([entry.kind == _DIRECTORY_KIND for entry in ordered])
    mender.set_tree(directory, [(entry.key, value_of(entry)) for entry in ordered], DIRECTORY_PAGE, pages)


def _mended(mender: Mender, directory: int, entry: Entry) -> Entry | None:
    """The entry as it should be, but for its key; None: it is to go."""
    inodes = mender.check.inodes
    at = inodes.at(entry.ino)
    if entry.ino < FIRST_KEY or at < 0:
        return None
    kind = inodes.kinds[at]
    if kind == _DIRECTORY_KIND and inodes.found[at] > 1:
        inode = mender.inode(entry.ino)
        home = inode.parents[0] if inode is not None and inode.parents else (inodes.parents[at], -1)
        if home[0] != directory or (home[1] >= 0 and home[1] != entry.key and _has(mender, *home, entry.ino)):
            return None
    name = entry.name
    if name_problem(name):
        name = name.replace(b"/", b"_").replace(b"\0", b"_")[: NAME_BYTES_MAX - 20]
        name = b"%s.%d" % (name, entry.ino)
    return Entry(entry.key, entry.ino, kind, name)


def _has(mender: Mender, directory: int, key: int, ino: int) -> bool:
    """Whether a directory has an entry under *key* that leads to *ino*."""
    found = mender.check.inode(directory)
    entry = entry_at(mender.check, found, key) if found is not None else None
    return entry is not None and entry.ino == ino


def _placed(mender: Mender, directory: int, entries: list[Entry]) -> list[Entry]:
    """Each entry under a key of its hash, each name once."""
    assert mender.check.superblock is not None
    salt = mender.check.superblock.salt
    taken: set[int] = set()
    names: set[bytes] = set()
    placed: list[Entry] = []
    moving: list[Entry] = []
    for entry in entries:
        lowest = name_hash(entry.name, salt)
        if entry.name in names or entry.key & ~255 != lowest or entry.key in taken:
            moving.append(entry)
        else:
            names.add(entry.name)
            taken.add(entry.key)
            placed.append(entry)
    for entry in moving:
        name = entry.name
        number = 0
        while name in names:
            number += 1
            name = b"%s.%d" % (entry.name[: NAME_BYTES_MAX - 20], entry.ino if number == 1 else number)
        key = _free_key(mender, directory, entry.ino, name_hash(name, salt), taken)
        names.add(name)
        taken.add(key)
        placed.append(Entry(key, entry.ino, entry.kind, name))
    return placed


def _free_key(mender: Mender, directory: int, ino: int, lowest: int, taken: set[int]) -> int:
    """A key for a name: the one that the inode knows, if it is free."""
    inode = mender.inode(ino)
    if inode is not None and not inode.links_key:
        for number, key in inode.parents:
            if number == directory and key & ~255 == lowest and key not in taken:
                return key
    return next(key for key in range(lowest, lowest + TIES) if key not in taken)


# -- names of inodes ---------------------------------------------------------------------------------------------


def mend_links(mender: Mender, findings: list[Finding]) -> None:
    """What inodes know of their names; what nothing leads to; the orphans."""
    wrong: set[int] = set()
    lost: list[int] = []
    listed = False
    for finding in of_stage(findings, Stage.LINKS):
        if finding.code in ("inode.nlink", "inode.parents"):
            wrong.update(ino for ino in [finding.ino] if ino is not None)
        elif finding.code == "inode.unreachable":
            lost += [ino for ino in [finding.ino] if ino is not None]
        else:
            listed = True
    if wrong:
        _set_names(mender, wrong)
    if listed:
        _mend_orphans(mender)
    if lost:
        _attach(mender, lost)
    mender.commit()


def _set_names(mender: Mender, wrong: set[int]) -> None:
    """Let each of these inodes know the entries that lead to it."""
    names: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number in _all_directories(mender):
        directory = mender.inode(number)
        if directory is None or number in (ORPHANS_KEY, SHARES_KEY):
            continue
        for leaf in TreeWalk(mender.check, number, directory.root, DIRECTORY_PAGE, quiet=True).leaves():
            for key, value in zip(leaf.keys, leaf.values, strict=True):
                ino = int.from_bytes(value[:4], "little")
                if ino in wrong:
                    names[ino].append((number, key))
    for ino in sorted(wrong):
        inode = mender.inode(ino)
        if inode is None:
            continue
        known = [] if ino in (ROOT, ORPHANS_KEY, SHARES_KEY) else names[ino]
        set_names(mender, inode, known)
        mender.put_inode(inode)
        mender.did(f"inode {ino} knows its {len(known)} names again")
        mender.may_commit()


def set_names(mender: Mender, inode: Inode, names: list[tuple[int, int]]) -> None:
    """Let *inode* know these names and no others, and count them."""
    if inode.links_key:
        walk = TreeWalk(mender.check, inode.ino, inode.links_key, LINK_PAGE, quiet=True)
        for _ in walk.leaves():
            pass
        for key in walk.pages:
            mender.delete(key)
        inode.links_key = 0
    inode.parents = ()
    if stat_bits.S_ISDIR(inode.mode):
        inode.parents = tuple(names[:1])
        return
    inode.nlink = len(names)
    if len(names) <= INSIDE_MAX:
        inode.parents = tuple(names)
        return
    tails: dict[int, list[int]] = defaultdict(list)
    for directory, key in names:
        tails[directory << 32 | key >> _TAIL_BITS].append(key & ((1 << _TAIL_BITS) - 1))
    items = [
        (prefix, b"".join([tail.to_bytes(4, "little") for tail in sorted(found)]))
        for prefix, found in sorted(tails.items())
    ]
    inode.links_key = mender.link_tree(items)


# -- lost+found --------------------------------------------------------------------------------------------------


def _attach(mender: Mender, lost: list[int]) -> None:
    """Give inodes names: the ones that pages which nothing leads to still have, else a number in lost+found."""
    homes = _names_left(mender, set(lost))
    additions: dict[int, list[Entry]] = defaultdict(list)
    for ino in lost:
        inode = mender.inode(ino)
        if inode is None:
            continue
        found = homes.get(ino)
        if found is None:
            additions[0].append(Entry(0, ino, inode.kind >> 12, b"#%d" % ino))
        else:
            for directory, entry in found:
                additions[directory].append(entry)
    if 0 in additions:
        additions[_lost_and_found(mender)] += additions.pop(0)
    for number, entries in additions.items():
        _add_entries(mender, number, entries)
    mender.commit()


def _add_entries(mender: Mender, number: int, fresh: list[Entry]) -> None:
    """Add entries to a directory; the inodes know of it in the same commit."""
    directory = mender.inode(number)
    assert directory is not None
    walk = TreeWalk(mender.check, number, directory.root, DIRECTORY_PAGE, quiet=True)
    there = [
        entry
        for leaf in walk.leaves()
        for key, value in zip(leaf.keys, leaf.values, strict=True)
        if (entry := entry_of(key, value)) is not None
    ]
    before = {entry.key for entry in there}
    entries = _placed(mender, number, there + fresh)
    set_entries(mender, directory, entries, walk.pages)
    mender.put_inode(directory)
    names: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for entry in entries:
        if entry.key not in before:
            names[entry.ino].append((number, entry.key))
    for ino, found in names.items():
        inode = mender.inode(ino)
        assert inode is not None
        known = [name for name in names_of(mender.check, inode) if name not in found]
        still = [name for name in known if _has(mender, *name, ino)]
        set_names(mender, inode, still + found)
        mender.put_inode(inode)
        mender.did(f"inode {ino} has a name again, in directory {number}")


def _lost_and_found(mender: Mender) -> int:
    """The directory for what has no name; made where there is none."""
    root = mender.inode(ROOT)
    assert root is not None
    names: dict[bytes, Entry] = {}
    for leaf in TreeWalk(mender.check, ROOT, root.root, DIRECTORY_PAGE, quiet=True).leaves():
        for key, value in zip(leaf.keys, leaf.values, strict=True):
            entry = entry_of(key, value)
            if entry is not None and entry.name.startswith(LOST_AND_FOUND):
                names[entry.name] = entry
    name, number = LOST_AND_FOUND, 0
    while name in names:
        if names[name].kind == _DIRECTORY_KIND and mender.inode(names[name].ino) is not None:
            return names[name].ino
        number += 1
        name = b"%s.%d" % (LOST_AND_FOUND, number)
    made = mender.new_inode(stat_bits.S_IFDIR | 0o700)
    made.nlink = 2
    made.uid, made.gid = root.uid, root.gid
    mender.put_inode(made)
    _add_entries(mender, ROOT, [Entry(0, made.ino, _DIRECTORY_KIND, name)])
    mender.commit()
    mender.did(f"made /{name.decode()}")
    return made.ino


def _names_left(mender: Mender, lost: set[int]) -> dict[int, list[tuple[int, Entry]]]:
    """Names that these inodes know and that pages which nothing leads to still have: (directory, entry)."""
    check = mender.check
    found: dict[int, list[tuple[int, Entry]]] = defaultdict(list)
    for key in check.records.keys(FIRST_KEY):
        if check.keys.get(key):
            continue
        examined = check.look(key)
        if examined is None or examined.of_type != DIRECTORY_PAGE or not isinstance(examined.record, Page):
            continue
        for entry_key, value in zip(examined.record.keys, examined.record.values, strict=False):
            entry = entry_of(entry_key, value)
            if entry is None or entry.ino not in lost or name_problem(entry.name):
                continue
            inode = mender.inode(entry.ino)
            for directory, known in names_of(check, inode) if inode is not None else ():
                home = mender.inode(directory)
                if known == entry_key and home is not None and stat_bits.S_ISDIR(home.mode):
                    found[entry.ino].append((directory, entry._replace(kind=inode.kind >> 12 if inode else entry.kind)))
    return found


# -- orphans -----------------------------------------------------------------------------------------------------


def _mend_orphans(mender: Mender) -> None:
    """Make the list again: what was on it and has no name, and what has none and was on no list."""
    inodes = mender.check.inodes
    directory = mender.inode(ORPHANS_KEY)
    assert directory is not None
    walk = TreeWalk(mender.check, ORPHANS_KEY, directory.root, DIRECTORY_PAGE, quiet=True)
    listed = {ino for leaf in walk.leaves() for ino in leaf.keys if FIRST_KEY <= ino < 1 << 32}
    listed = {ino for ino in listed if (at := inodes.at(ino)) >= 0 and not inodes.found[at]}
    for ino in list(listed):
        inode = mender.inode(ino)
        if inode is None or (stat_bits.S_ISDIR(inode.mode) and inode.size):
            listed.discard(ino)
        elif inode.nlink or inode.parents or inode.links_key:
            set_names(mender, inode, [])
            inode.nlink = 0
            mender.put_inode(inode)
    far = {place: ino for ino, place in inodes.numbers()}
    for at, kind in enumerate(inodes.kinds):
        if kind and kind != _DIRECTORY_KIND and not inodes.found[at] and not inodes.nlinks[at] and at >= FIRST_KEY:
            listed.add(far.get(at, at))
    mender.set_tree(directory, [(ino, b"") for ino in sorted(listed)], DIRECTORY_PAGE, walk.pages)
    mender.put_inode(directory)
    mender.did(f"stored the list of {len(listed)} orphans again")
    mender.commit()

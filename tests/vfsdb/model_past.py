"""Rules of the filesystem's machine about earlier states: snapshots, reading at a moment, restoring, retention.

``named`` has the tree of each snapshot, ``versions`` that after each commit of this life. Whatever is freed, used again
and compacted: what is kept is as it was, what is not kept is refused.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from vfsdb.core import InodeFileSystem
from vfsdb.database import Historic, Retention
from vfsdb.errors import HistoryLostError
from vfsdb.posix import VFS

RULES = (Retention(), Retention(versions=8), Retention(all=True), Retention(seconds=3600))
NAMES = ("one", "two", "three", "ünï code")
Tree = dict[bytes, Any]


def _settled(machine: Any) -> bool:
    return not machine.levels and isinstance(machine.fs.committed.stores.metadata, Historic)


class PastRules(RuleBasedStateMachine):
    """Needs of the machine: ``fs``, ``past``, ``levels``, ``views``, ``slots``, ``readers``; see its own docstring."""

    fs: InodeFileSystem
    past: list[Tree]
    levels: list[Any]
    views: list[tuple[InodeFileSystem, Tree]]
    readers: list[InodeFileSystem]
    slots: dict[int, Any]
    durable: int
    committed: int

    def __init__(self) -> None:
        super().__init__()
        self.named: dict[str, Tree] = {}
        self.versions: dict[int, Tree] = {}
        self.kept: set[int] = set()  # of these versions, those that the rule has kept from their begin

    def tree_of(self, fs: Any) -> Tree:
        raise NotImplementedError

    def restore(self, tree: Tree) -> None:
        raise NotImplementedError

    def changed(self, commits: bool) -> None:
        raise NotImplementedError

    def note_commit(self) -> None:
        """A commit was made that has all of ``past[-1]``."""
        self.versions[self.fs.version] = self.past[-1]
        if isinstance(self.fs.committed.stores.metadata, Historic) and self.fs.retention in RULES[2:]:
            self.kept.add(self.fs.version)

    def forget_versions(self) -> None:
        """After a power cut: which of them survived is not known here."""
        self.versions.clear()
        self.kept.clear()

    @precondition(_settled)
    @rule(name=st.sampled_from(NAMES))
    def take_snapshot(self, name: str) -> None:
        if name in self.named:
            with pytest.raises(FileExistsError):
                self.fs.snapshot(name)
            return
        self.fs.snapshot(name)
        self.durable = self.committed = len(self.past) - 1
        self.named[name] = self.past[-1]

    @precondition(lambda self: _settled(self) and self.named)
    @rule(data=st.data())
    def delete_snapshot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.named)))
        self.fs.delete_snapshot(name)
        self.committed = len(self.past) - 1
        del self.named[name]
        with pytest.raises(FileNotFoundError):
            self.fs.at(name)

    @precondition(lambda self: _settled(self) and self.named)
    @rule(data=st.data(), keeps=st.booleans())
    def read_snapshot(self, data: st.DataObject, keeps: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.named)))
        assert [one.name for one in sorted(self.fs.snapshots())] == sorted(self.named)
        then = self.fs.at(name)
        assert isinstance(then, InodeFileSystem)
        assert self.tree_of(then) == self.named[name]
        if keeps and len(self.views) < 3:
            self.views.append((then, self.named[name]))
        else:
            then.close()

    @precondition(_settled)
    @rule(retention=st.sampled_from(RULES))
    def set_retention(self, retention: Retention) -> None:
        self.fs.retention = retention
        self.committed = len(self.past) - 1
        assert self.fs.retention == retention
        if retention not in RULES[2:]:
            self.kept.clear()

    @precondition(lambda self: _settled(self) and self.versions)
    @rule(data=st.data(), keeps=st.booleans())
    def read_version(self, data: st.DataObject, keeps: bool) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        try:
            then = self.fs.at(version)
        except HistoryLostError:
            assert version not in self.kept
            assert version != self.fs.version
            return
        assert isinstance(then, InodeFileSystem)
        assert then.version == version
        assert self.tree_of(then) == self.versions[version]
        if keeps and len(self.views) < 3:
            self.views.append((then, self.versions[version]))
        else:
            then.close()

    @precondition(lambda self: _settled(self) and self.named)
    @rule(data=st.data(), checks=st.booleans())
    def restore_snapshot(self, data: st.DataObject, checks: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.named)))
        for slot in self.slots.values():
            os.close(slot.host)
            self.fs.release(slot.handle)
        self.slots.clear()
        before = self.past[-1]
        self.differences_agree(name)
        VFS(self.fs).restore("/", from_=name)
        if checks:
            self.differences_agree(name)
        self.restore(self.named[name])
        if before != self.named[name]:
            self.changed(commits=True)

    def differences_agree(self, name: str) -> None:
        """Paths of which one state knows nothing are told, or lie below what was renamed; the others are not."""
        before, after = set(self.named[name]), set(self.tree_of(self.fs))
        found = self.fs.diff(name)
        moved = {(one.source[1:], one.path[1:]) for one in found if one.kind == "R"}
        for path in after - before:
            told = any(one.kind == "+" and one.path[1:] == path for one in found)
            assert told or any(_is_below(path, target) for _, target in moved), path
        for path in before - after:
            told = any(one.kind == "-" and one.path[1:] == path for one in found)
            assert told or any(_is_below(path, source) for source, _ in moved), path
        assert {one.path[1:] for one in found if one.kind != "-"} <= after
        assert {one.path[1:] for one in found if one.kind == "-"} <= before

    @precondition(lambda self: _settled(self) and self.named and self.readers)
    @rule(data=st.data())
    def read_snapshot_elsewhere(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.named)))
        reader = self.readers[-1]
        reader.committed.refresh()
        then = reader.at(name)
        assert self.tree_of(then) == self.named[name]
        then.close()

    @precondition(_settled)
    @rule(data=st.data())
    def read_log(self, data: st.DataObject) -> None:
        files = [path for path, node in self.past[-1].items() if stat.S_ISREG(node.mode)]
        if not files:
            return
        path = b"/" + data.draw(st.sampled_from(sorted(files)))
        found = list(VFS(self.fs).log(path, follow_symlinks=False))
        assert found[0].size == len(self.past[-1][path[1:]].content)
        assert [one.version for one in found] == sorted({one.version for one in found}, reverse=True)


def _is_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")

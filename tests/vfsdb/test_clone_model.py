"""Clones and copied ranges on both stores: after every step each file is its own, and every count is exact.

Between the steps come syncs, collections, compaction, reopenings and power cuts; records are checked after each.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ourdb.testing import PowerCut
from tests.crash import vfs_story as story
from tests.vfsdb import invariants
from tests.vfsdb.test_two_stores import Disk
from vfsdb import pages, treeclone
from vfsdb.compacting import compact
from vfsdb.posix import VFS

KINDS = sorted(story.WEIGHTS["clones"])
SMALL = {
    (pages, "LEAF_BYTES"): 150,
    (pages, "ROOT_BYTES"): 100,
    (pages, "ROOT_CHILDREN"): 3,
    (treeclone, "INODES"): 3,
    (treeclone, "ENTRIES"): 2,
}


class CloneMachine(RuleBasedStateMachine):
    """``past[i]`` is the tree after step i; ``durable``: the last that no power cut takes."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = [(module, name, getattr(module, name)) for module, name in SMALL]
        for (module, name), value in SMALL.items():
            setattr(module, name, value)
        self.tree = story.Tree()
        self.number = 0
        self.disks: Any = (Disk(path="/metadata"), Disk(path="/data"))
        self.open()
        self.past = [self.tree.contents()]
        self.durable = 0

    def open(self) -> None:
        self.session = story.Session(story.open_filesystem(None, storages=self.disks))

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        for kind in ("write_file", "write_file", "clone", "open", "open"):
            self.step(kind, seed)

    @rule(kind=st.sampled_from(KINDS), seed=st.integers(0, 999))
    def step(self, kind: str, seed: int) -> None:
        """One operation on both sides, the tree's and the filesystem's."""
        self.number += 1
        operation = story.drawn_of(self.tree, kind, self.number, random.Random(seed))
        if operation is None or len(self.tree.paths("file")) > 20:
            return
        self.tree.apply(operation)
        self.session.perform(operation)
        self.past.append(self.tree.contents())
        self.agree()

    def agree(self) -> None:
        fs = self.session.fs
        assert story.read_tree(fs) == self.past[-1]
        fs.commits.flush()
        assert story.read_tree(fs) == self.past[-1]
        invariants.check(fs.committed)

    @rule(action=st.sampled_from(("sync", "collect", "checkpoint", "compact")))
    def act(self, action: str) -> None:
        self.session.act(action)
        if action == "sync":
            self.durable = len(self.past) - 1
        self.agree()

    @rule()
    def compact_all(self) -> None:
        compact(VFS(self.session.fs))
        self.durable = len(self.past) - 1
        self.agree()

    @rule()
    def reopen(self) -> None:
        self.session.fs.close()
        self.tree.slots.clear()
        self.open()
        self.durable = len(self.past) - 1
        self.agree()

    @precondition(lambda self: self.past)
    @rule(keep=st.sampled_from(("none", "all", "torn", "random")), seed=st.integers(0, 99))
    def cut_power(self, keep: Any, seed: int) -> None:
        for disk in self.disks:
            disk.cut()
        left = [disk.after_power_cut(seed, keep) for disk in self.disks]
        with contextlib.suppress(PowerCut, OSError):
            self.session.fs.close()
        self.disks = tuple(left)
        self.open()
        found = story.read_tree(self.session.fs)
        assert found in self.past[self.durable :], "a tree of no step that is allowed"
        at = len(self.past) - 1 - self.past[::-1].index(found)
        del self.past[at + 1 :]
        self.durable = at
        self.tree = story.tree_of(found)
        self.agree()

    def teardown(self) -> None:
        try:
            self.session.fs.close()
        finally:
            for module, name, value in self.limits:
                setattr(module, name, value)


TestClones = CloneMachine.TestCase
TestClones.settings = settings(
    max_examples=max(settings().max_examples // 4, 12), stateful_step_count=25, deadline=None
)

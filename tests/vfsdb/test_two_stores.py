"""One order for two logs: a power cut at any step leaves the state after some commit, with all its blocks."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from ourdb.testing import CrashStorage, PowerCut
from vfsdb.collecting import collect
from vfsdb.committed import Committed
from vfsdb.mkfs import make_filesystem
from vfsdb.records import Inode
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.transaction import Transaction
from vfsdb.writeset import BlockRun

FILES = 5
STEP_STRIDE = 1 if os.environ.get("OURDB_TORTURE") else 11
KEEPS: list[Any] = ["none", "torn", "all", *["random"] * 5]
Contents = dict[int, list[bytes]]


class Power:
    """Goes at one step of both disks together."""

    def __init__(self, steps_max: int | None = None) -> None:
        self.steps = 0
        self.steps_max = steps_max
        self.disks: list[Disk] = []

    def step(self) -> None:
        if self.steps == self.steps_max:
            for disk in self.disks:
                disk.cut()
        self.steps += 1


class Disk(CrashStorage):
    """A disk on a power supply that it shares."""

    power: Power | None = None

    def _before(self, kind: str, inode: Any, *details: Any) -> None:
        if self.power is not None:
            self.power.step()
        super()._before(kind, inode, *details)


def disks(power: Power, maps_writes: bool) -> tuple[Disk, Disk]:
    pair = Disk(path="/metadata", maps_writes=maps_writes), Disk(path="/data", maps_writes=maps_writes)
    for disk in pair:
        disk.power = power
        power.disks.append(disk)
    return pair


def opened(storages: Any, mode: Any = "c") -> Committed:
    small = {} if mode == "r" else {"metadata_segment_bytes": 16384, "data_segment_bytes": 16384, "auto_compact": False}
    return Committed(open_stores(storages=storages, mode=mode, **small))


def runs_of(inode: Inode) -> list[tuple[BlockRun, int]]:
    """What a test's file is made of: runs, and the bytes in each."""
    words = [list(map(int, run.split())) for run in inode.xattrs.get(b"user.runs", b"").split(b";") if run]
    return [(BlockRun(*word[:3]), word[3]) for word in words]


def write_file(transaction: Transaction, ino: int, content: list[bytes]) -> None:
    inode = transaction.edit(ino)
    for run, byte_count in runs_of(inode):
        transaction.free_blocks(run, byte_count)
    done, words = 0, []
    for run in transaction.put_blocks(content):
        byte_count = sum(map(len, content[done : done + run.length]))
        words.append(b"%d %d %d %d" % (*run, byte_count))
        done += run.length
    inode.xattrs[b"user.runs"] = b";".join(words)


def contents_of(committed: Committed) -> Contents:
    """Every file's blocks, read through what names them."""
    reader = committed.reader()
    found = {}
    for ino in range(16, 200):
        if reader.exists(ino):
            found[ino] = [block for run, _ in runs_of(reader.inode(ino)) for block in reader.read_run(run)]
    return found


class Story:
    """A life of a filesystem, with what it must be after each commit.

    Attributes
    ----------
    states : list[Contents]
        After each commit that was asked for.
    made : bool
        The filesystem was made, durably.
    done, durable : int
        The newest of them that returned, and the newest that a returned sync covers.
    """

    def __init__(self, storages: Any, steps: int = 45) -> None:
        self.storages = storages
        self.steps = steps
        self.states: list[Contents] = [{}]
        self.done = self.durable = 0
        self.made = False

    def run(self) -> None:
        chance = random.Random(5)
        stores = open_stores(
            storages=self.storages, metadata_segment_bytes=16384, data_segment_bytes=16384, auto_compact=False
        )
        make_filesystem(stores)
        self.made = True
        committed = Committed(stores)
        inos: list[int] = []
        for step in range(self.steps):
            self._commit(committed, inos, chance)
            self._care(committed, step)
        committed.close()
        self.durable = self.done

    def _commit(self, committed: Committed, inos: list[int], chance: random.Random) -> None:
        transaction = Transaction(committed)
        after = dict(self.states[-1])
        if len(inos) < FILES:
            inode = Inode(transaction.new_key(), 0o100644, inline=b"")
            transaction.add_inode(inode)
            inos.append(inode.ino)
            after[inode.ino] = []
        for ino in chance.sample(inos, min(2, len(inos))):
            after[ino] = [chance.randbytes(chance.choice((30, 700, 3000))) for _ in range(chance.randrange(1, 4))]
            write_file(transaction, ino, after[ino])
        self.states.append(after)
        transaction.commit()
        self.done = len(self.states) - 1

    def _care(self, committed: Committed, step: int) -> None:
        metadata, data = committed.stores.metadata._db, committed.stores.blocks._db  # type: ignore[attr-defined]
        if step % 11 == 3:
            committed.sync()
            self.durable = self.done
        if step % 4 == 1:
            collect(committed)
        if step % 13 == 6:
            metadata.checkpoint()  # durable, too
            self.durable = self.done
        if step % 17 == 9:
            metadata.compact()
        if step % 9 == 5:
            data.compact()
        if step % 19 == 12:
            data.checkpoint()


def whole_story(maps_writes: bool) -> tuple[int, Story]:
    power = Power()
    story = Story(disks(power, maps_writes))
    story.run()
    return power.steps, story


@pytest.mark.parametrize("maps_writes", [False, True])
def test_a_power_cut_at_any_step_leaves_the_state_after_some_commit(maps_writes: bool) -> None:
    steps, _ = whole_story(maps_writes)
    assert steps > 200
    for cut in range(maps_writes, steps, STEP_STRIDE):
        power = Power(cut)
        story = Story(disks(power, maps_writes))
        with pytest.raises(PowerCut):
            story.run()
        for seed, keep in enumerate(KEEPS):
            after = tuple(disk.after_power_cut(seed=cut + 1000 * seed, keep=keep) for disk in power.disks)
            check_after(after, story, keep, f"{keep} {seed}, cut at step {cut}")


def check_after(after: Any, story: Story, keep: str, what: str) -> None:
    """A reader, the writer that recovers, and the next reader say the same, and it is a state that may be."""
    if not story.made:
        return  # the power went before there was a filesystem
    reader = opened(after, "r")
    seen = contents_of(reader)
    reader.close()
    oldest = story.done if keep == "all" else story.durable
    assert seen in story.states[oldest:], what
    writer = opened(after, "w")
    assert contents_of(writer) == seen
    for number in range(4):
        transaction = Transaction(writer)
        ino = min(seen, default=0)
        if not ino:
            inode = Inode(transaction.new_key(), 0o100644, inline=b"")
            transaction.add_inode(inode)
            ino = inode.ino
        seen[ino] = [b"after %d" % number] * 3
        write_file(transaction, ino, seen[ino])
        transaction.commit()
        writer.sync()
        collect(writer)
        assert contents_of(writer) == seen, what
    writer.close()
    again = opened(after, "r")
    assert contents_of(again) == seen
    again.close()

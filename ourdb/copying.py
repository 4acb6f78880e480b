"""What a step of a compaction asks of whoever copies for it, and what it gets back.

Two can copy: this process (`ourdb.moving`), or a process beside it (`ourdb.copier_process`).

Invariants
----------
* Who copies takes nothing away and switches nothing: it reads the victims, and writes into files that no manifest
  names and whose number is never given out again. So it may end at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ourdb.format import SegmentHeader
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.relocation import Moved
from ourdb.state import State
from ourdb.storage import File, Storage

WRITE_BYTES = 1 << 20  # what copying holds in memory at once


class NewSegment(NamedTuple):
    """The segment that a compaction writes: its header is in the file, durably."""

    header: SegmentHeader
    file: File


class Task(NamedTuple):
    """What is to be copied: what is needed of the *victims*, as of the frozen *state* with the newest *sequence*.

    *generation* is the open file of the state's index generation, where somebody else is to read it.
    *make_output* makes the segment to write, and *drop_output* gives it up for another one. *check* raises where the
    store was closed meanwhile.
    """

    storage: Storage
    manifest: Manifest
    state: State
    sequence: int
    victims: tuple[SegmentEntry, ...]
    generation: File | None
    make_output: Callable[[], NewSegment]
    drop_output: Callable[[], None]
    check: Callable[[], None]


@dataclass
class Copied:
    """What was copied; all of it is durable. ``end`` of the output is 0 where nothing was needed.

    ``keys``, ``olds`` and ``news`` are of the newest versions: key, old slot, new slot (0: dropped).
    """

    keys: Sequence[int] = field(default_factory=list)
    olds: Sequence[int] = field(default_factory=list)
    news: Sequence[int] = field(default_factory=list)
    superseded: list[Moved] = field(default_factory=list)
    generations: dict[str, str] = field(default_factory=dict)  # of snapshots that show what moved: old name -> new one
    bytes: int = 0  # of the records, without padding
    end: int = 0  # length of the output, and the bounds of its sequences
    first: int = 0
    last: int = 0
    pruned: int = 0  # newest commit among the victims
    horizon: int = 0  # states before this sequence lack a version that is not wanted
    forgot: bool = False  # a superseded version stays behind, and nobody asked whether it is needed
    followed: tuple[str, int, int] = ("0" * 32, 0, 0)  # newest leader's position among their commits


class CopyRun(Protocol):
    """Who copies for one compaction, step by step.

    Attributes
    ----------
    is_beside : bool
        Whether another process copies, and a slice is only to be waited for.
    """

    @property
    def is_beside(self) -> bool: ...

    def hold(self, storage: Storage, state: State) -> File | None:
        """The open file of the state's index generation, where `copy` wants it. The writer's lock is held."""

    def copy(self, task: Task) -> Generator[int, None, Copied]:
        """Do *task*; yields the bytes copied so far after each bounded slice."""

    def is_ready(self) -> bool:
        """Whether what comes next was done already by another process."""

    def close(self) -> None:
        """The compaction is over."""


class Copying(Protocol):
    """How a store copies.

    Attributes
    ----------
    problem : str
        Why it does so in another way than it was asked to, "" where it does not.
    """

    problem: str

    def run(self) -> CopyRun: ...
    def close(self) -> None:
        """End what is at work at once: the store is closed."""

    def forget(self) -> None:
        """In a forked child: what is at work is the parent's."""

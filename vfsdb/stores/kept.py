"""Which states a retention rule keeps, told commit by commit: what the engines pin for it.

Invariant: the version that `KeptStates.oldest` gives is at or before the oldest state that the rule keeps.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from vfsdb.database import Retention

_SAMPLES: Final = 256  # within the length of the rule


class KeptStates:
    """The states that *rule* keeps.

    Parameters
    ----------
    rule : Retention
    find : Callable[[Retention], int]
        The oldest version that the rule keeps now; asked once, when it is first needed.
    """

    def __init__(self, rule: Retention, find: Callable[[Retention], int]) -> None:
        self.rule = rule
        self._find = find
        self._oldest: int | None = None
        self._every = max(1, rule.versions // _SAMPLES)
        self._every_ns = int(rule.seconds * 1e9) // _SAMPLES
        self._commits = self._next_commit = self._next_ns = 0
        self._samples: deque[tuple[int, int, int]] = deque()  # commits so far, time, version

    def committed(self, version: int) -> None:
        """A commit was made."""
        self._commits += 1
        if self._commits < self._next_commit and not self.rule.seconds:
            return
        now_ns = time.time_ns()
        if self._commits >= self._next_commit or now_ns >= self._next_ns:
            self._samples.append((self._commits, now_ns, version))
            self._next_commit = self._commits + self._every if self.rule.versions else self._commits + (1 << 62)
            self._next_ns = now_ns + self._every_ns

    def oldest(self) -> int:
        """A version at or before the oldest state that is kept now. O(1) but for the first call."""
        if self.rule.all:
            return 0
        if self._oldest is None:
            self._oldest = self._find(self.rule)
        before_ns = time.time_ns() - int(self.rule.seconds * 1e9)
        samples = self._samples
        while samples and self._commits - samples[0][0] >= self.rule.versions and samples[0][1] < before_ns:
            self._oldest = max(self._oldest, samples.popleft()[2])
        return self._oldest

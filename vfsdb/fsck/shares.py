"""What files share, as stored, against what is met: how often each map page and block is named that has a count.

Memory: 16 bytes for each time that a run of keys with a count is met, beside the runs themselves.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from vfsdb.sharing import PAGES, SHARE_BYTES, Share


class Shares:
    """The runs of the shares, and how often each of their keys was met."""

    def __init__(self) -> None:
        self.runs: list[Share] = []
        self._firsts: list[int] = []
        self._starts, self._stops = array("Q"), array("Q")  # of the runs that were met, each by itself

    def take(self, first: int, value: bytes) -> str:
        """Add the next entry; what is wrong with it, "" for nothing."""
        if len(value) != SHARE_BYTES.size:
            return f"has {len(value)} bytes"
        share = Share(first, *SHARE_BYTES.unpack(value))
        if share.times < 2 or not share.length:
            return f"says {share.length} keys, named {share.times} times"
        before = self.runs[-1] if self.runs else Share(0, 0, 0)
        end = before.first + before.length
        if first < end:
            return "is inside the run before it"
        self.runs.append(share)
        self._firsts.append(first)
        goes_on = end == first and before.times == share.times
        return "goes on where the run before it ends, which is named as often" if goes_on else ""

    def has(self, key: int) -> bool:
        """Whether *key* has a count."""
        at = bisect_right(self._firsts, key) - 1
        return at >= 0 and key < self.runs[at].first + self.runs[at].length

    def name(self, first: int, length: int) -> bool:
        """Keys are named once more; whether one of them has a count."""
        found = False
        stop = first + length
        at = max(bisect_right(self._firsts, first) - 1, 0)
        while at < len(self.runs) and self.runs[at].first < stop:
            share = self.runs[at]
            low, high = max(first, share.first), min(stop, share.first + share.length)
            if low < high:
                found = True
                self._starts.append(low)
                self._stops.append(high)
            at += 1
        return found

    def problems(self) -> Iterator[tuple[int, str]]:
        """Counts that are not what was met: the first key, and what is wrong in words."""
        starts, stops = sorted(self._starts), sorted(self._stops)
        cuts = iter(sorted({*starts, *stops}))
        cut = next(cuts, None)
        for share in self.runs:
            here, end = share.first, share.first + share.length
            while here < end:
                while cut is not None and cut <= here:
                    cut = next(cuts, None)
                stop = end if cut is None else min(cut, end)
                times = bisect_right(starts, here) - bisect_right(stops, here)
                if times != share.times:
                    yield here, f"{_name(here, stop)} are named {times} times each, the shares say {share.times}"
                here = stop


def _name(first: int, stop: int) -> str:
    if first >= PAGES:
        return f"map pages {first - PAGES} to {stop - 1 - PAGES}"
    return f"blocks {first} to {stop - 1}"

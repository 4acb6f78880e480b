"""Doubles of the disk for your own tests: power cuts, failing calls, full disks, all in memory.

Pass one as *storage*: ``OurDB("anything", storage=CrashStorage())``. Your program's code is the same; a
power cut at any step, or an error of any call, is then a plain test that takes milliseconds.

`MemoryStorage`
    A directory in memory, if you like one of a bounded size.
`CrashStorage`
    The same, but the power may go at any step; `CrashStorage.after_power_cut` is what is left then.
`FaultyStorage`
    Any storage, but a call that you choose fails.

The disk is assumed to keep what `ourdb.storage` says, and not one thing more.
"""

from __future__ import annotations

from ourdb.faults import FaultyStorage
from ourdb.memory import MemoryStorage
from ourdb.power_cut import CrashStorage, PowerCut

__all__ = ["CrashStorage", "FaultyStorage", "MemoryStorage", "PowerCut"]

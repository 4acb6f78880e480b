"""What the parts of a repair share: where, how, what was done so far, and the originals kept aside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ourdb.aside import Aside
from ourdb.progress import Progress
from ourdb.storage import Storage


@dataclass
class RepairJob:
    """One repair.

    Attributes
    ----------
    dry_run : bool
        Nothing may be written.
    partial_batches : bool
        Save what is left of a batch that lost a record.
    aside : Aside
        Originals of all that is changed go here first.
    actions, lost : list[str]
        What was done (in a dry run: would be), and what could not be saved.
    saved : int
        Records saved from damaged segments.
    """

    storage: Storage
    progress: Progress | None
    dry_run: bool
    partial_batches: bool
    aside: Aside
    actions: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    saved: int = 0

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, with copies aside; those that are not there are passed over. Durable on return."""
        there = set(self.storage.names())
        for name in names:
            if name in there:
                self.aside.keep(name)
                self.storage.remove(name)
        self.storage.sync_directory()

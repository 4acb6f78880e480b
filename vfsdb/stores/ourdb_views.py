"""A state of the metadata store over ourdb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ourdb
from vfsdb.stores.ourdb_versions import position_of, translated


class OurdbView:
    """`vfsdb.database.MetadataView` over an ourdb view."""

    def __init__(self, view: ourdb.View, version: int, needs: int, path: str) -> None:
        self.view = view
        self.version = version
        self.needs = needs
        self.closed = False
        self._path = path

    def get(self, key: int) -> bytes | None:
        """Value of *key* in this state."""
        try:
            return self.view.get(key)  # type: ignore[no-any-return]
        except ourdb.OurDBError as error:
            raise translated(error, self._path) from error

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """`get` for each key."""
        try:
            return self.view.get_many(keys)
        except ourdb.OurDBError as error:
            raise translated(error, self._path) from error

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a record, ascending."""
        try:
            yield from self.view.iterate_keys(start)
        except ourdb.OurDBError as error:
            raise translated(error, self._path) from error

    def close(self) -> None:
        """Give up what it pins."""
        self.closed = True
        self.view.close()


class OurdbRecall:
    """`vfsdb.database.Recall` over an ourdb view of now, which it closes."""

    def __init__(self, view: ourdb.View, path: str) -> None:
        self._view = view
        self._path = path

    def get_at(self, key: int, version: int) -> bytes | None:
        """What *key* held. O(its versions since then)."""
        try:
            return self._view.get_at(key, position_of(version))
        except ourdb.OurDBError as error:
            raise translated(error, self._path) from error

    def close(self) -> None:
        """Give the view back."""
        self._view.close()

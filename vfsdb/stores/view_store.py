"""A state that does not change as a metadata store: what a consistent read view of a filesystem is opened on."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence

from vfsdb.database import MetadataStore, MetadataView, Pin
from vfsdb.errors import os_error


class ViewStore:
    """`vfsdb.database.MetadataStore` over a view of *store*; it never changes."""

    concurrent = False
    read_only = True
    has_reserve = False

    def __init__(self, store: MetadataStore, view: MetadataView) -> None:
        self.origin = store
        self._view = view
        self.uuid = store.uuid
        self.key_max = store.key_max
        self.value_bytes_max = store.value_bytes_max
        self.version = view.version
        self.durable_version = view.version
        self.get = view.get

    def get_many(self, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Key -> (version of the view, value)."""
        found = zip(keys, self._view.get_many(keys), strict=True)
        return {key: (self.version, value) for key, value in found if value is not None}

    def commit(
        self,
        puts: Mapping[int, bytes],
        deletes: Iterable[int] = (),
        *,
        needs: int = 0,
        expect: Mapping[int, int] | None = None,
        token: bytes = b"",
        freeing: bool = False,
    ) -> int:
        """EROFS."""
        raise os_error(errno.EROFS)

    def settle(self, token: bytes) -> int | None:
        """Nothing was committed here."""
        return None

    def sync(self) -> None:
        """EROFS."""
        raise os_error(errno.EROFS)

    def holds(self, version: int) -> bool:
        """Whether *version* is not after the view's."""
        return version <= self.version

    def view(self) -> MetadataView:
        """The same view; closed with this store."""
        return self._view

    def pins(self) -> list[Pin]:
        """The store that the view is of knows them."""
        return []

    def refresh(self) -> bool:
        """It stays what it is."""
        return False

    def close(self) -> None:
        """Close the view."""
        self._view.close()

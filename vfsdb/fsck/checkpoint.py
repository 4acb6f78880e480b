"""Where a stopped check goes on: a small file of the host, which the caller names.

What takes long is reading every byte of the stores. Which of them were read, and how far the next one was, is kept;
what is quick (records, names, links) is looked at anew, so that it is of one moment.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Final

from vfsdb.errors import FormatError

_FORMAT: Final = "vfsdb fsck checkpoint 1"


class Checkpoint:
    """The state of a check that was stopped, if *path* exists. FormatError where that is something else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stores: dict[str, dict[str, Any]] = {}
        try:
            with open(path, encoding="utf-8") as file:
                read = json.load(file)
        except FileNotFoundError:
            return
        except ValueError as error:
            raise FormatError(f"this is no checkpoint of a check: {error}", path) from None
        if not isinstance(read, dict) or read.get("format") != _FORMAT or not isinstance(read.get("stores"), dict):
            raise FormatError("this is no checkpoint of a check; name a new file", path)
        self._stores = read["stores"]

    def is_done(self, store: str, deep: bool) -> bool:
        """Whether the store was verified as a whole, at least so deeply."""
        found = self._stores.get(store, {})
        return bool(found.get("done")) and (bool(found.get("deep")) or not deep)

    def token(self, store: str, deep: bool) -> str:
        """Where its verification goes on, "" for at its beginning."""
        found = self._stores.get(store, {})
        return str(found.get("token", "")) if bool(found.get("deep")) == deep else ""

    def done(self, store: str, deep: bool) -> None:
        """The store was verified, and is sound."""
        self._stores[store] = {"done": True, "deep": deep}
        self._save()

    def stop(self, store: str, deep: bool, token: str) -> None:
        """Its verification was stopped."""
        self._stores[store] = {"token": token, "deep": deep}
        self._save()

    def _save(self) -> None:
        new = self._path + ".new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "stores": self._stores}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)

    def remove(self) -> None:
        """The check ended."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)

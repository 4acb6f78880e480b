"""Writing to a store: one key, many keys, batches, and streams of both kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from operator import itemgetter
from typing import Any, BinaryIO

from ourdb import feed, stream
from ourdb.batch import Batch, checked_expect, checked_tag
from ourdb.codecs import codec_named
from ourdb.errors import InvalidArgumentError, ModeError
from ourdb.format import TAG_BYTES_MAX
from ourdb.position import Commit, Position
from ourdb.progress import Progress
from ourdb.reading import Reading
from ourdb.writer import Writer

_KEY = itemgetter(0)


class Writing(Reading, MutableMapping[int, bytes]):
    """The writing face of `OurDB`; every call raises ModeError on a reader's handle."""

    def set(self, key: int | None, value: bytes, *, codec: str | None = None) -> int:
        """Set *key* (None: the next id of an incremental store) to *value*; the key.

        A commit of its own: it survives a killed process on return, and a power cut after `sync`
        (``durability="commit"``: on return). O(value bytes).

        Raises
        ------
        InvalidArgumentError, RecordNotFoundError (unknown id), ModeError, LimitError, StoreFailedError, OSError
            Nothing was changed.
        """
        return self._writer.set(key, value, codec=codec)

    def __setitem__(self, key: int, value: bytes) -> None:
        self._writer.set(key, value)

    def delete(self, key: int) -> None:
        """Delete *key*. RecordNotFoundError where it holds no value. A commit of its own, as `set`."""
        self._writer.delete(key)

    def __delitem__(self, key: int) -> None:
        self._writer.delete(key)

    def set_many(
        self, items: Mapping[int, bytes] | Iterable[tuple[int | None, bytes]], *, codec: str | None = None
    ) -> list[int]:
        """Set many keys in one commit, all or nothing; the keys in order (a key's last value wins)."""
        writer = self._writer
        chosen = codec_named(writer.manifest.settings.codec if codec is None else codec)
        if type(items) is dict:
            pairs: Any = items.items()
            keys: list[Any] = list(items)
        else:
            pairs = _pairs(items)
            keys = list(map(_KEY, pairs))
        plain = dict(pairs)
        fits = not writer.manifest.settings.incremental and set(map(type, keys)) <= {int}
        if not fits or (keys and not 0 <= min(keys) <= max(keys) <= writer.manifest.settings.key_max):
            with self.batch() as batch:
                return [batch.set(key, value, codec=codec) for key, value in pairs]
        if set(map(type, plain.values())) - {bytes} or (
            plain and max(map(len, plain.values())) > writer.manifest.settings.value_bytes_max
        ):
            plain = {key: writer.checked_value(value, key) for key, value in plain.items()}
        writer.set_many(plain, chosen)
        return keys

    def delete_many(self, keys: Iterable[int], missing_ok: bool = False) -> int:
        """Delete many keys in one commit; how many held a value. RecordNotFoundError changes nothing."""
        with self.batch() as batch:
            return batch.delete_many(keys, missing_ok)

    def commit(
        self,
        puts: Mapping[int, bytes],
        deletes: Iterable[int] = (),
        *,
        expect: Mapping[int, int] | None = None,
        tag: bytes = b"",
        freeing: bool = False,
    ) -> Position:
        """Set *puts* and delete *deletes* in one commit; its position. As `batch` does, at a fraction of the cost.

        The sequences of the puts are consecutive, in the order of *puts*, behind those of the deletes; the last of
        them comes right before the commit's. Keys to delete that hold no value are passed over; one that is
        also put is put. About 1.5 us and 1 us a record of 200 bytes.

        Parameters
        ----------
        puts : Mapping[int, bytes]
            A large value may be a read-only memoryview, which is written from where it is: nobody may change what is
            behind it before the call returns.
        deletes : Iterable[int]
        expect, tag, freeing
            As of `batch`.
        """
        if type(puts) is not dict:
            puts = dict(_pairs(puts))
        if type(deletes) is not tuple:
            deletes = tuple(deletes)
        if type(tag) is not bytes or len(tag) > TAG_BYTES_MAX:
            tag = checked_tag(tag)
        core = self._core
        writer = core if type(core) is Writer else self._writer
        return writer.put_all(puts, deletes, checked_expect(expect) if expect else None, tag, freeing)

    def batch(self, *, expect: Mapping[int, int] | None = None, tag: bytes = b"", freeing: bool = False) -> Batch:
        """A batch: ``with db.batch() as b: b.set(...); b.delete(...)`` is one commit, or nothing.

        Parameters
        ----------
        expect : Mapping[int, int], optional
            key -> sequence (see `get_record`) that it must still have at the commit, 0 for absent;
            ConflictError otherwise.
        tag : bytes
            At most 255 bytes stored with the commit; see *accept_commit* and `changes`.
        freeing : bool
            It makes space free in the end, though it also puts: on a full disk it may use the space that is kept
            for this, as deletes may anyway.
        """
        writer = self._writer
        return Batch(writer, self.get, expect, tag, codec_named(writer.manifest.settings.codec), freeing)

    def clear(self) -> None:
        """Delete every key, in one commit."""
        self.delete_many(list(self))

    def apply_changes(self, commits: Iterable[Commit], leader: str = "") -> int:
        """Apply a leader's commits, each as one commit of this store; how many. See `followed`.

        Commits at or before `followed` are left out, so a feed may be applied again. *leader* is the
        leader's `uuid` (hex), kept with the position.
        """
        return feed.apply(self._writer, commits, leader)

    def load(self, file: BinaryIO, progress: Progress | None = None) -> int:
        """Set every key of a stream that `dump` wrote; how many records. Batches of bounded size."""
        return stream.load(self._writer, file, progress)

    @property
    def next_key(self) -> int:
        """The id that ``set(None, value)`` gives out next. ModeError in a key-value store."""
        if not self._core.manifest.settings.incremental:
            raise ModeError(f"{self.path}: a key-value store gives out no ids; make it with incremental=True")
        return self._core.next_key  # type: ignore[no-any-return]

    def get_next_id(self) -> int:
        """`next_key` under the name of the original OurDB."""
        return self.next_key


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    """(key, value) pairs of a mapping or an iterable. InvalidArgumentError for anything else."""
    try:
        pairs = list(items.items() if isinstance(items, Mapping) else items)
    except TypeError:
        raise InvalidArgumentError(f"{type(items).__name__} is neither a mapping nor an iterable of pairs") from None
    if set(map(type, pairs)) <= {tuple} and set(map(len, pairs)) <= {2} and set(map(type, map(_KEY, pairs))) <= {int}:
        return pairs  # the usual ones, seen without a step of ours for each
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], int | None):
            raise InvalidArgumentError(f"{pair!r:.80} is no pair of an int key and a value")
    return pairs

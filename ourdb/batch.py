"""A batch: puts and deletes that become one commit, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ourdb.codecs import NONE, Codec, codec_named, codec_numbered
from ourdb.errors import InvalidArgumentError, OurDBError, RecordNotFoundError
from ourdb.format import TAG_BYTES_MAX
from ourdb.position import Position
from ourdb.state import checked_key

if TYPE_CHECKING:
    from ourdb.writer import Writer

_MISSING: Any = object()


class Batch:
    """Collects changes in memory; they are checked at once and written when the ``with`` block ends.

    An exception inside the block throws the changes away. Reads through the batch see its own
    changes; other threads and processes see nothing of it before the commit, and all of it after.

    Attributes
    ----------
    position : Position | None
        Where the commit is, after the block.
    """

    def __init__(
        self,
        writer: Writer,
        read: Callable[[int], bytes | None],
        expect: Mapping[int, int] | None,
        tag: bytes,
        codec: Codec,
        freeing: bool = False,
    ) -> None:
        self._writer = writer
        self._read = read
        self._expect = checked_expect(expect)
        self._tag = checked_tag(tag)
        self._codec = codec
        self._freeing = freeing
        self._changes: dict[int, tuple[Codec, bytes] | None] = {}
        self._open = False
        self.position: Position | None = None

    def __enter__(self) -> Batch:
        if self._open or self.position is not None:
            raise OurDBError("this batch was used already; make a new one with batch()")
        self._writer.check_usable()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if kind is None:
            self.position = self._writer.commit(self._changes, self._expect, self._tag, freeing=self._freeing)
        else:
            self._changes.clear()

    def _check_open(self) -> None:
        if not self._open:
            raise OurDBError("the batch is not open: use it inside its with block")

    def set(self, key: int | None, value: bytes, *, codec: str | None = None) -> int:
        """Set *key* (None: the next id of an incremental store) when the batch commits; the key."""
        self._check_open()
        data = self._writer.checked_value(value, key)
        chosen = self._codec if codec is None else codec_named(codec)
        if key is None:
            number = self._writer.reserve_key()
        else:
            number = checked_key(key)
            if number not in self._changes:
                with self._writer.lock:
                    self._writer.checked_target(number)
        self._changes[number] = (chosen, chosen.encode(data) if chosen.id else data)
        return number

    def set_many(self, items: Mapping[int, bytes] | Iterable[tuple[int | None, bytes]]) -> list[int]:
        """`set` for each pair; the keys in order."""
        pairs = items.items() if isinstance(items, Mapping) else items
        return [self.set(key, value) for key, value in pairs]

    def get(self, key: int, default: Any = None) -> Any:
        """The value that *key* will have after the commit, *default* where it will have none."""
        self._check_open()
        number = checked_key(key)
        change = self._changes.get(number, _MISSING)
        if change is _MISSING:
            value = self._read(number)
            return default if value is None else value
        if change is None:
            return default
        codec = codec_numbered(change[0].id) or NONE
        return codec.decode(change[1], 1 << 30) if codec.id else change[1]

    def contains(self, key: int) -> bool:
        """Whether *key* will hold a value after the commit."""
        return self.get(key, _MISSING) is not _MISSING

    __contains__ = contains

    def delete(self, key: int) -> None:
        """Delete *key* when the batch commits. RecordNotFoundError where it holds no value."""
        if not self.contains(key):
            raise RecordNotFoundError(f"key {key} holds no value")
        self._changes[checked_key(key)] = None

    def delete_many(self, keys: Iterable[int], missing_ok: bool = False) -> int:
        """`delete` for each key; how many held a value."""
        count = 0
        for key in keys:
            if missing_ok and not self.contains(key):
                continue
            self.delete(key)
            count += 1
        return count


def checked_tag(tag: object) -> bytes:
    """*tag* where it can be one. InvalidArgumentError otherwise."""
    if not isinstance(tag, bytes) or len(tag) > TAG_BYTES_MAX:
        raise InvalidArgumentError(f"a tag is bytes, at most {TAG_BYTES_MAX}; got {tag!r:.60}")
    return tag


def checked_expect(expect: Mapping[int, int] | None) -> dict[int, int]:
    """Keys and sequences as plain ints. InvalidArgumentError otherwise."""
    checked = {}
    for key, sequence in (expect or {}).items():
        wanted = 0 if sequence is None else sequence
        if type(wanted) is not int or wanted < 0:
            raise InvalidArgumentError(f"expect[{key!r}] is {sequence!r}; give a record's sequence, or 0 for absent")
        checked[checked_key(key)] = wanted
    return checked

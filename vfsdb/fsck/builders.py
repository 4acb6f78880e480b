"""One builder for each type of record: fields taken one after the other, each checked, each with a default.

What a field should not be is noted as `Broken`; what is built is sound by itself, whatever the fields were.
"""

from __future__ import annotations

import stat as stat_bits
import struct
from array import array
from collections.abc import Callable
from itertools import pairwise, starmap
from operator import lt
from typing import Any, Final, NamedTuple

from vfsdb import codecs
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX
from vfsdb.records import (
    COUNTERS,
    DIRECTORY,
    DIRECTORY_PAGE,
    FILE,
    FIRST_KEY,
    FREE_PAGE,
    KEY_MAX,
    LINK_PAGE,
    MAP_PAGE,
    NODE,
    PAGE_LEVEL_MAX,
    SIZE_MAX,
    SUPERBLOCK,
    SYMLINK,
    XATTRS,
    Counters,
    FreePage,
    FreeRun,
    Inode,
    Page,
    Superblock,
)

TYPE_BITS: Final = {FILE: stat_bits.S_IFREG, DIRECTORY: stat_bits.S_IFDIR, SYMLINK: stat_bits.S_IFLNK}
NODE_KINDS: Final = (stat_bits.S_IFCHR, stat_bits.S_IFBLK, stat_bits.S_IFIFO, stat_bits.S_IFSOCK)
_PARENT: Final = struct.Struct("<IQ")


class Broken(NamedTuple):
    """A field that is not as it should be. *code*: of the finding, where it is another than that of the record."""

    field: str
    problem: str
    code: str = ""


class _Fields:
    """Fields taken one after the other, each checked."""

    def __init__(self, values: list[Any], found: list[Broken], code: str) -> None:
        self.values = values
        self.at = 0
        self._found = found
        self._code = code

    def take(self, name: str, fits: Callable[[Any], bool], default: Any) -> Any:
        """The next field, or *default* and a note."""
        at = self.at
        self.at += 1
        if at >= len(self.values):
            self._found.append(Broken(name, "is missing", self._code))
            return default
        value = self.values[at]
        if fits(value):
            return value
        self._found.append(Broken(name, f"is {_short(value)}", self._code))
        return default


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({type(value).__name__})"


def _number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


_u32, _size, _count = _number(0, KEY_MAX), _number(0, SIZE_MAX), _number(0, (1 << 64) - 1)
_time = _number(-(1 << 63), (1 << 64) - 1)


def _text(value: Any) -> bool:
    """What can be stored again: no surrogates."""
    return (type(value) is str and value.isascii()) or (
        type(value) is str and not any(0xD800 <= ord(c) < 0xE000 for c in value)
    )


def _inode(values: list[Any], key: int, of_type: int, found: list[Broken]) -> Inode:
    fields = _Fields(values, found, "inode.field")
    kinds = NODE_KINDS if of_type == NODE else (TYPE_BITS[of_type],)
    mode = fields.take(
        "mode",
        lambda value: type(value) is int and 0 <= value <= 0o177777 and value & 0o170000 in kinds,
        None,
    )
    if mode is None:
        stored = values[0] if values and type(values[0]) is int else 0o600
        mode = kinds[0] | stored & 0o7777
    inode = Inode(key, mode)
    for name in ("uid", "gid", "nlink"):
        setattr(inode, name, fields.take(name, _u32, 0))
    inode.size = fields.take("size", _size, 0)
    for name in ("atime_ns", "mtime_ns", "ctime_ns", "btime_ns"):
        setattr(inode, name, fields.take(name, _time, 0))
    inode.generation = fields.take("generation", _count, 0)
    inode.flags = fields.take("flags", _u32, 0)
    inode.owner = fields.take("owner", _text, "")
    inode.group = fields.take("group", _text, "")
    packed = fields.take("parents", lambda value: type(value) is bytes and len(value) % 12 == 0, b"")
    inode.parents = tuple(_PARENT.iter_unpack(packed))
    inode.links_key = fields.take("links_key", _u32, 0)
    if inode.parents and inode.links_key:
        found.append(Broken("parents", "stand in the inode and in a tree", "inode.field"))
        inode.parents = ()
    inode.xattrs = _attributes(fields.take("xattrs", _xattrs_fit, []))
    inode.xattrs_key = fields.take("xattrs_key", _u32, 0)
    if of_type == FILE:
        _file(inode, fields, found)
    elif of_type == DIRECTORY:
        inode.root = _root(fields, key, found)
    elif of_type == SYMLINK:
        _symlink(inode, fields, found)
    else:
        inode.rdev = fields.take("rdev", _size, 0)
    return inode


def _file(inode: Inode, fields: _Fields, found: list[Broken]) -> None:
    inode.block_size = fields.take("block_size", _number(0, codecs.BLOCK_SIZE_MAX), 0)
    inline = fields.take("inline", lambda value: value is None or type(value) is bytes, b"")
    for name in ("blocks", "block_bytes", "reserved_bytes"):
        setattr(inode, name, fields.take(name, _size, 0))
    inode.shared = fields.take("shared", _number(0, 1), 1)
    inode.inline = inline
    if inline is None:
        inode.root = _root(fields, inode.ino, found)
        return
    fields.take("root", lambda value: value is None, None)
    if len(inline) != inode.size:
        if not any(name == "size" for name, *_ in found):
            found.append(Broken("inline", f"{len(inline)} bytes of a file of {inode.size}", "file.inline"))
        inode.size = len(inline)


def _symlink(inode: Inode, fields: _Fields, found: list[Broken]) -> None:
    inode.target = fields.take("target", lambda value: type(value) is bytes and len(value) > 0, b"")
    if inode.target and len(inode.target) != inode.size:
        found.append(Broken("size", f"is {inode.size}, the target has {len(inode.target)} bytes", "inode.field"))
    inode.size = len(inode.target)
    if not inode.target:
        found.append(Broken("target", "is lost", "symlink.target"))


def _root(fields: _Fields, key: int, found: list[Broken]) -> Page:
    values = fields.take("root", lambda value: type(value) is list, None)
    return Page() if values is None else _page(values, key, 0, found, "root.")


def _page(values: list[Any], key: int, of_type: int, found: list[Broken], prefix: str = "") -> Page:
    """A page with the entries that are whole; those that do not ascend are left to who reads it."""
    fields = _Fields(values, found, "page.field")
    level = fields.take(f"{prefix}level", _number(0, PAGE_LEVEL_MAX), None)
    packed = fields.take(f"{prefix}keys", lambda value: type(value) is bytes and len(value) % 8 == 0, None)
    held = fields.take(f"{prefix}held", lambda value: type(value) in (bytes, list), None)
    if len(values) > 3:
        found.append(Broken(f"{prefix}held", f"{len(values) - 3} fields more than a page has", "page.field"))
    keys = array("Q")
    if packed is not None:
        keys.frombytes(packed)
    if type(held) is list:
        return _leaf(keys, held, level, of_type, found, prefix)
    count = len(held or b"") // 4
    children = list(struct.unpack_from(f"<{count}I", held or b""))
    if level == 0 and held is not None:
        found.append(Broken(f"{prefix}level", "is 0, it holds children", "page.field"))
    if packed is not None and held is not None and (count != len(keys) or len(held) % 4):
        found.append(Broken(f"{prefix}held", f"{len(held)} bytes for {len(keys)} keys", "page.field"))
    sound = [child for child in children if child >= FIRST_KEY]
    if len(sound) < len(children):
        found.append(Broken(f"{prefix}held", "a child under a key that is no page's", "page.field"))
    if not sound:
        return Page(0, (), record_type=of_type)
    ascending = _ascend(keys)
    if not ascending:
        found.append(Broken(f"{prefix}keys", "do not ascend", "page.field"))
    usable = ascending and len(sound) == len(children) == len(keys)
    return Page(level or 1, keys if usable else range(len(sound)), [], sound, of_type)


def _leaf(keys: array[int], held: list[Any], level: Any, of_type: int, found: list[Broken], prefix: str) -> Page:
    if level:
        found.append(Broken(f"{prefix}level", f"is {level}, it holds values", "page.field"))
    if len(held) != len(keys) and not any(name == f"{prefix}keys" for name, *_ in found):
        found.append(Broken(f"{prefix}held", f"{len(held)} values for {len(keys)} keys", "page.field"))
    pairs = [(key, value) for key, value in zip(keys, held, strict=False) if type(value) is bytes]
    if len(pairs) < min(len(keys), len(held)):
        found.append(Broken(f"{prefix}held", "a value that is no bytes", "page.field"))
    if len(held) > len(keys):  # values without a key: who knows names finds their keys again
        pairs += [(_KEYLESS + at, value) for at, value in enumerate(held[len(keys) :]) if type(value) is bytes]
    if not _ascend(keys):
        found.append(Broken(f"{prefix}keys", "do not ascend", "page.field"))
    if not prefix and not pairs:
        found.append(Broken("keys", "a page without entries", "page.field"))
    return Page(0, [key for key, _ in pairs], [value for _, value in pairs], [], of_type)


_KEYLESS: Final = (1 << 64) - 4096  # above every key that an entry may have


def _ascend(keys: array[int]) -> bool:
    return all(starmap(lt, pairwise(keys)))


def _tree_page(values: list[Any], key: int, of_type: int, found: list[Broken]) -> Page:
    return _page(values, key, of_type, found)


def _xattrs_fit(value: Any) -> bool:
    try:
        codecs.attributes_of(value)
    except (ValueError, TypeError, OverflowError, struct.error):
        return False
    return type(value) is list


def _attributes(value: Any) -> dict[bytes, bytes]:
    return codecs.attributes_of(value) if value else {}


def _xattrs(values: list[Any], key: int, of_type: int, found: list[Broken]) -> dict[bytes, bytes]:
    if _xattrs_fit(values):
        return codecs.attributes_of(values)
    names = ("names", "lengths", "values")
    wrong = next((name for name, value in zip(names, values, strict=False) if type(value) is not bytes), "names")
    found.append(Broken(wrong, "names, lengths and values do not fit together", "xattrs.field"))
    return {}


def _superblock(values: list[Any], key: int, of_type: int, found: list[Broken]) -> Superblock:
    fields = _Fields(values, found, "superblock.field")
    fields.take("magic", lambda value: value == codecs.MAGIC, codecs.MAGIC)
    uuid, metadata_uuid, blocks_uuid = (
        fields.take(name, lambda value: type(value) is bytes and len(value) == 16, bytes(16))
        for name in ("uuid", "metadata_uuid", "blocks_uuid")
    )
    created = fields.take("created_ns", _time, 0)
    low, high = codecs.BLOCK_SIZE_MIN, codecs.BLOCK_SIZE_MAX
    size = fields.take("block_size", lambda v: _number(low, high)(v) and v & (v - 1) == 0, BLOCK_SIZE)
    inline = fields.take("inline_max", _number(0, high), min(INLINE_MAX, size))
    salt = fields.take("salt", lambda value: type(value) is bytes and len(value) == 8, bytes(8))
    features = fields.take("features", _count, 0)
    label = fields.take("label", _text, "")
    return Superblock(uuid, metadata_uuid, blocks_uuid, created, size, inline, salt, features, label)


def _counters(values: list[Any], key: int, of_type: int, found: list[Broken]) -> Counters:
    fields = _Fields(values, found, "counters.field")
    counters = Counters()
    for name in Counters.__slots__:
        default = getattr(counters, name)
        low = FIRST_KEY if name == "next_key" else 0
        setattr(counters, name, fields.take(name, _number(low, (1 << 64) - 1), default))
    if len(values) > len(Counters.__slots__):
        found.append(Broken("needs", "fields follow it", "counters.field"))
    if (counters.pending_head == 0) != (counters.pending_tail == 0):
        name = "pending_tail" if counters.pending_head else "pending_head"
        if not any(broken.field in ("pending_head", "pending_tail") for broken in found):
            found.append(Broken(name, "is 0, the other end of the list is not", "counters.field"))
    return counters


def _free_page(values: list[Any], key: int, of_type: int, found: list[Broken]) -> FreePage:
    fields = _Fields(values, found, "free-page.field")
    page = FreePage(fields.take("next", _u32, 0))
    end = 0
    while fields.at + 4 <= len(values):
        run = FreeRun(
            fields.take("first", _u32, -1),
            fields.take("length", _number(1, 1 << 32), 0),
            fields.take("birth", _count, 0),
            fields.take("death", _count, 0),
        )
        if run.first < 0 or not run.length:
            continue
        if run.first < end:
            found.append(Broken("first", "runs share a key, or do not ascend", "free-page.field"))
            continue
        end = run.first + run.length
        page.runs.append(run)
    if fields.at != len(values):
        found.append(Broken("death", "a run of less than four fields", "free-page.field"))
    return page


BUILDERS: Final[dict[int, Callable[[list[Any], int, int, list[Broken]], Any]]] = {
    FILE: _inode,
    DIRECTORY: _inode,
    SYMLINK: _inode,
    NODE: _inode,
    DIRECTORY_PAGE: _tree_page,
    MAP_PAGE: _tree_page,
    LINK_PAGE: _tree_page,
    XATTRS: _xattrs,
    SUPERBLOCK: _superblock,
    COUNTERS: _counters,
    FREE_PAGE: _free_page,
}

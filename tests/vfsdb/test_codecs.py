"""Record codecs: what goes in comes out; damage is an error of ours, never another exception or much memory."""

import stat
import tracemalloc
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfsdb import codecs
from vfsdb.errors import CorruptionError, FormatError, VFSError
from vfsdb.records import (
    COUNTERS,
    DIRECTORY_PAGE,
    FILE,
    FIRST_KEY,
    KEY_MAX,
    LINK_PAGE,
    MAP_PAGE,
    PAGE_BYTES_MAX,
    SIZE_MAX,
    TIME_NS_MAX,
    TIME_NS_MIN,
    XATTRS,
    Counters,
    FreePage,
    FreeRun,
    Inode,
    Page,
    Superblock,
)

KEY = 77
U32, U64 = st.integers(0, KEY_MAX), st.integers(0, 2**64 - 1)
SIZES = st.integers(0, SIZE_MAX)
TIMES = st.integers(TIME_NS_MIN, TIME_NS_MAX)
COUNTS = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ATTRIBUTE_NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)
ATTRIBUTES = st.dictionaries(ATTRIBUTE_NAMES, st.binary(max_size=200), max_size=4)


@st.composite
def pages(draw: st.DrawFn, empty: bool = False) -> Page:
    keys = sorted(draw(st.sets(U64, min_size=0 if empty else 1, max_size=20)))
    level = draw(st.integers(0, 15)) if keys else 0
    width = {"min_size": len(keys), "max_size": len(keys)}
    if level:
        return Page(level, keys, [], draw(st.lists(st.integers(FIRST_KEY, KEY_MAX), **width)))
    return Page(0, keys, draw(st.lists(st.binary(max_size=150), **width)))


@st.composite
def inodes(draw: st.DrawFn) -> Inode:
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
    kind = draw(st.sampled_from(kinds))
    inode = Inode(
        KEY,
        kind | draw(st.integers(0, 0o7777)),
        draw(U32),
        draw(U32),
        draw(U32),
        draw(SIZES),
        *(draw(TIMES) for _ in range(4)),
        draw(U64),
        draw(U32),
        draw(NAMES),
        draw(NAMES),
        tuple(draw(st.lists(st.tuples(U32, U64), max_size=3))),
        0,
        draw(ATTRIBUTES),
        draw(U32),
    )
    if not inode.parents:
        inode.links_key = draw(U32)
    if kind == stat.S_IFREG:
        inode.block_size = draw(st.sampled_from([0, 4096, 1 << 22]))
        inode.blocks, inode.block_bytes, inode.reserved_bytes = draw(st.tuples(SIZES, SIZES, SIZES))
        inode.shared = draw(st.integers(0, 1))
        inode.inline = draw(st.none() | st.binary(max_size=100))
        if inode.inline is None:
            inode.root = draw(pages(empty=True))
        else:
            inode.size = len(inode.inline)
    elif kind == stat.S_IFDIR:
        inode.root = draw(pages(empty=True))
    elif kind == stat.S_IFLNK:
        inode.target = draw(st.binary(min_size=1, max_size=100))
        inode.size = len(inode.target)
    else:
        inode.rdev = draw(U32)
    return inode


SUPERBLOCKS = st.builds(
    Superblock,
    *[st.binary(min_size=16, max_size=16)] * 3,
    TIMES,
    st.sampled_from([1 << bits for bits in range(12, 23)]),
    st.integers(0, 65536),
    st.binary(min_size=8, max_size=8),
    st.just(0),
    NAMES,
)
COUNTERS_OF = st.builds(Counters, st.integers(FIRST_KEY, KEY_MAX), U64, U32, U32, st.just(0), st.just(0), *[COUNTS] * 7)


@st.composite
def free_pages(draw: st.DrawFn) -> FreePage:
    edges = sorted(draw(st.sets(U32, max_size=20)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    runs = [FreeRun(first, end - first, draw(U64), draw(U64)) for first, end in pairs]
    return FreePage(draw(U32), runs)


class Codec(NamedTuple):
    sample: Any
    values: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def codec_of_pages(of_type: int) -> Codec:
    return Codec(
        Page(0, [1], [b"x"]),
        pages(),
        lambda page: codecs.encode_page(page, of_type),
        lambda data: codecs.decode_page(data, KEY, of_type),
    )


CODECS = {
    "inode": Codec(Inode(KEY, 0o100644), inodes(), codecs.encode_inode, lambda data: codecs.decode_inode(data, KEY)),
    "directory page": codec_of_pages(DIRECTORY_PAGE),
    "map page": codec_of_pages(MAP_PAGE),
    "link page": codec_of_pages(LINK_PAGE),
    "xattrs": Codec({b"user.x": b"1"}, ATTRIBUTES, codecs.encode_xattrs, lambda data: codecs.decode_xattrs(data, KEY)),
    "superblock": Codec(
        Superblock(bytes(16), bytes(16), bytes(16), 0, 65536, 4096, bytes(8)),
        SUPERBLOCKS,
        codecs.encode_superblock,
        codecs.decode_superblock,
    ),
    "counters": Codec(Counters(), COUNTERS_OF, codecs.encode_counters, codecs.decode_counters),
    "free page": Codec(
        FreePage(), free_pages(), codecs.encode_free_page, lambda data: codecs.decode_free_page(data, KEY)
    ),
}
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@each_codec
@given(data=st.data())
def test_record_comes_back_as_it_was(codec: Codec, data: st.DataObject) -> None:
    value = data.draw(codec.values)
    record = codec.encode(value)
    assert codec.decode(record) == value
    assert codecs.record_type(record, KEY) == record[1]


def decoded_or_refused(codec: Codec, record: bytes) -> None:
    """What a damaged record decodes to is a value that could have been written; most often it is an error of ours."""
    try:
        value = codec.decode(record)
    except VFSError:
        return
    assert codec.decode(codec.encode(value)) == value


@each_codec
@given(data=st.data())
def test_flipped_byte_is_an_error_or_another_valid_value(codec: Codec, data: st.DataObject) -> None:
    record = codec.encode(data.draw(codec.values))
    mask = data.draw(st.integers(1, 255))
    for place in range(len(record)):
        damaged = bytearray(record)
        damaged[place] ^= mask
        decoded_or_refused(codec, bytes(damaged))


@each_codec
@given(data=st.data())
def test_cut_or_lengthened_record_is_an_error(codec: Codec, data: st.DataObject) -> None:
    record = codec.encode(data.draw(codec.values))
    for length in range(len(record)):
        with pytest.raises(VFSError):
            codec.decode(record[:length])
    with pytest.raises(CorruptionError):
        codec.decode(record + b"\0")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@each_codec
@given(data=st.data(), junk=JUNK, noise=st.binary(max_size=60))
def test_fields_of_other_types_are_refused(codec: Codec, data: st.DataObject, junk: object, noise: bytes) -> None:
    header = codec.encode(data.draw(codec.values))[:2]
    fields = msgpack.unpackb(codec.encode(data.draw(codec.values))[2:])
    decoded_or_refused(codec, header + msgpack.packb(junk))
    decoded_or_refused(codec, header + noise)
    for place in range(len(fields)):
        changed = [*fields[:place], junk, *fields[place + 1 :]]
        decoded_or_refused(codec, header + msgpack.packb(changed))


@each_codec
@pytest.mark.parametrize(
    "head",
    [b"\x01", b"\xdc\x02\x00", b"\x91", b"\xdd\x00\x0f\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff"],
)
def test_hostile_lengths_allocate_little(codec: Codec, head: bytes) -> None:
    record = codec.encode(codec.sample)[:2] + head * (200_000 // len(head))
    tracemalloc.start()
    try:
        with pytest.raises(VFSError):
            codec.decode(record)
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


@each_codec
def test_record_of_a_newer_version_or_unknown_type_is_refused(codec: Codec) -> None:
    record = codec.encode(codec.sample)
    with pytest.raises(FormatError, match="newer"):
        codec.decode(b"\x02" + record[1:])
    with pytest.raises(FormatError, match="unknown type 200"):
        codec.decode(record[:1] + b"\xc8" + record[2:])


def test_record_of_another_type_is_damage() -> None:
    counters = codecs.encode_counters(Counters())
    for name, codec in CODECS.items():
        if name != "counters":
            with pytest.raises(CorruptionError, match="is a counters, expected"):
                codec.decode(counters)


def test_superblock_of_something_else_or_with_unknown_features_is_a_format_error() -> None:
    superblock = copy(CODECS["superblock"].sample)
    record = codecs.encode_superblock(superblock)
    with pytest.raises(FormatError, match="no superblock"):
        codecs.decode_superblock(record.replace(b"vfsdb", b"other"))
    superblock.features = 1
    with pytest.raises(FormatError, match="newer"):
        codecs.decode_superblock(codecs.encode_superblock(superblock))


@pytest.mark.parametrize("change", ["order", "twice", "empty", "level", "child 0"])
def test_page_that_breaks_an_invariant_is_damage(change: str) -> None:
    page = Page(1, [0, 7], [], [20, 21])
    if change == "order":
        page = Page(1, [7, 0], [], [20, 21])
    elif change == "twice":
        page = Page(1, [7, 7], [], [20, 21])
    elif change == "empty":
        page = Page()
    elif change == "level":
        page.level = 16
    else:
        page.children[1] = 0
    with pytest.raises(CorruptionError):
        codecs.decode_page(codecs.encode_page(page, MAP_PAGE), KEY, MAP_PAGE)


def test_page_larger_than_a_page_is_damage() -> None:
    record = bytes((1, MAP_PAGE)) + msgpack.packb([0, bytes(8), [bytes(PAGE_BYTES_MAX)]])
    with pytest.raises(CorruptionError, match="more bytes"):
        codecs.decode_page(record, KEY, MAP_PAGE)


@pytest.mark.parametrize("values", [["text", b"x"], [None, b"x"], [b"x"], [b"x", 5], "xy"])
def test_page_with_values_of_another_type_or_number_is_damage(values: object) -> None:
    record = bytes((1, MAP_PAGE)) + msgpack.packb([0, bytes(8) + bytes([1] * 8), values])
    with pytest.raises(CorruptionError):
        codecs.decode_page(record, KEY, MAP_PAGE)


@pytest.mark.parametrize(
    "fields",
    [
        [b"b\0a", bytes(8), b""],  # descending
        [b"a\0a", bytes(8), b""],  # twice
        [b"a\0", bytes(8), b""],  # an empty name
        [b"a", b"\2\0\0\0", b"x"],  # a value that is cut
        [b"a", b"\1\0\0\0", b"xx"],  # more than the values
        [b"a" * 256, bytes(4), b""],
        ["a", bytes(4), b""],
    ],
)
def test_attributes_that_contradict_themselves_are_damage(fields: list[object]) -> None:
    with pytest.raises(CorruptionError):
        codecs.decode_xattrs(bytes((1, XATTRS)) + msgpack.packb(fields), KEY)


def test_free_runs_that_overlap_are_damage() -> None:
    record = codecs.encode_free_page(FreePage(0, [FreeRun(5, 3), FreeRun(7, 1)]))
    with pytest.raises(CorruptionError, match="share"):
        codecs.decode_free_page(record, KEY)


def test_inode_that_contradicts_itself_is_damage() -> None:
    inode = Inode(KEY, 0o100644, size=3, inline=b"abc")
    record = bytearray(codecs.encode_inode(inode))
    with pytest.raises(CorruptionError, match="range"):
        codecs.decode_inode(record.replace(b"\xc4\x03abc", b"\xc4\x02ab"), KEY)
    with pytest.raises(CorruptionError, match="another type"):
        codecs.decode_inode(record.replace(b"\xcd\x81\xa4", b"\xcd\x11\xa4"), KEY)
    named_twice = Inode(KEY, 0o100644, links_key=99)
    fields = msgpack.unpackb(codecs.encode_inode(named_twice)[2:])
    fields[13] = bytes(12)
    with pytest.raises(CorruptionError, match="range"):
        codecs.decode_inode(bytes((1, FILE)) + msgpack.packb(fields), KEY)
    assert record[1] == FILE and codecs.encode_counters(Counters())[1] == COUNTERS


@pytest.mark.parametrize(
    "field", ["uid", "gid", "nlink", "size", "flags", "links_key", "xattrs_key", "blocks", "block_size", "rdev"]
)
@pytest.mark.parametrize("number", [-1, 1 << 63])
def test_number_out_of_its_range_is_neither_written_nor_read(field: str, number: int) -> None:
    inode = Inode(KEY, 0o020644 if field == "rdev" else 0o100644)
    setattr(inode, field, number)
    with pytest.raises(AssertionError):
        codecs.encode_inode(inode)
    names = [*Inode.__dataclass_fields__][1:18] + (["rdev"] if field == "rdev" else ["block_size", "inline", "blocks"])
    setattr(inode, field, 0)
    fields = msgpack.unpackb(codecs.encode_inode(inode)[2:])
    fields[names.index(field)] = number
    with pytest.raises(CorruptionError, match="range"):
        codecs.decode_inode(codecs.encode_inode(inode)[:2] + msgpack.packb(fields), KEY)

"""The format page of vfsdb against the code: each table against the records, the examples against the encoders."""

import re
from dataclasses import fields
from pathlib import Path

import msgpack
import pytest

from vfsdb import codecs, directories, extents, sharing
from vfsdb.records import (
    DIRECTORY_PAGE,
    FREE_PAGE,
    LINK_PAGE,
    SHARES_KEY,
    TYPE_NAMES,
    VERSION,
    Counters,
    FreePage,
    FreeRun,
    Inode,
    Page,
    Superblock,
)

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "vfsdb-format.md").read_text()
TIME_NS = 1_700_000_000_000_000_000
SALT = bytes(range(1, 9))
TYPES = {int: "int", str: "str", bytes: "bin", list: "array", type(None): "nil"}
INODE_FIELDS = [field.name for field in fields(Inode) if field.compare][1:]
COMMON = INODE_FIELDS[: INODE_FIELDS.index("block_size")]


def times() -> dict[str, int]:
    return dict.fromkeys(("atime_ns", "mtime_ns", "ctime_ns", "btime_ns"), TIME_NS)


def root() -> Inode:
    key = directories.name_hash(b"a", SALT)
    leaf = Page(0, [key], [b"\x10\x00\x00\x00\x08a"])
    return Inode(1, 0o040755, 1000, 1000, 2, 1, **times(), generation=1, root=leaf)


def file() -> Inode:
    made = Inode(16, 0o100644, 1000, 1000, 1, 5, **times(), generation=2, owner="ann", group="staff")
    made.parents = ((1, directories.name_hash(b"a", SALT)),)
    made.xattrs, made.block_size, made.inline = {b"user.x": b"1"}, 65536, b"hello"
    return made


def symlink() -> Inode:
    parents = ((1, directories.name_hash(b"b", SALT)),)
    return Inode(17, 0o120777, 1000, 1000, 1, 2, **times(), generation=3, parents=parents, target=b"/a")


def fifo() -> Inode:
    parents = ((1, directories.name_hash(b"c", SALT)),)
    return Inode(18, 0o010600, 1000, 1000, 1, 0, **times(), generation=4, parents=parents)


LEAF = Page(0, [256, 512], [b"\x10\x00\x00\x00\x08a", b"\x11\x00\x00\x00\x04bb"])
LINKS = Page(0, [1 << 32, (1 << 32) + 1, 16 << 32], [b"\0\1\0\0", b"\0\2\0\0", b"\0\1\0\0"])
INNER = Page(1, [0, 512], [], [20, 21])
# In the order of the page.
EXAMPLES = {
    "superblock": codecs.encode_superblock(
        Superblock(b"\1" * 16, b"\2" * 16, b"\3" * 16, TIME_NS, 65536, 2048, SALT, 0, "home")
    ),
    "counters": codecs.encode_counters(Counters(22, 9, 0, 0, 21, 21, 5, 6, 390_000, 3, 0, 0, 9)),
    "root directory": codecs.encode_inode(root()),
    "file": codecs.encode_inode(file()),
    "symlink": codecs.encode_inode(symlink()),
    "fifo": codecs.encode_inode(fifo()),
    "leaf": codecs.encode_page(LEAF, DIRECTORY_PAGE),
    "inner page": codecs.encode_page(INNER, DIRECTORY_PAGE),
    "free page": codecs.encode_free_page(FreePage(0, [FreeRun(5, 1, 12, 40), FreeRun(7, 2, 20, 41)])),
    "link page": codecs.encode_page(LINKS, LINK_PAGE),
    "xattrs": codecs.encode_xattrs({b"user.a": b"1", b"user.b": b"two"}),
}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def tables(title: str) -> list[list[tuple[str, list[str]]]]:
    """(field, its types) of each row of each table of fields in a section."""
    parts = section(title).split("| field | type | meaning |\n")[1:]
    rows = [re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", part.split("\n\n")[0], re.MULTILINE) for part in parts]
    return [[(name, types.split(" or ")) for name, types in table] for table in rows]


def names(table: list[tuple[str, list[str]]]) -> list[str]:
    return [name for name, _ in table]


def matches(table: list[tuple[str, list[str]]], values: list[object]) -> bool:
    return len(table) == len(values) and all(
        TYPES[type(value)] in types for (_, types), value in zip(table, values, strict=True)
    )


def unpacked(record: bytes) -> list[object]:
    return list(msgpack.unpackb(record[2:]))


def test_types_and_version_are_those_of_the_code() -> None:
    assert dict(re.findall(r"^\| (\d+) \| (\w[\w ]*) \|$", section("Bytes"), re.MULTILINE)) == {
        str(number): name for number, name in TYPE_NAMES.items()
    }
    assert f"version byte ({VERSION})" in section("Bytes")


def test_superblock_and_counters_are_the_records_in_order() -> None:
    [table] = tables("Superblock")
    assert names(table) == ["magic", *(field.name for field in fields(Superblock))]
    assert matches(table, unpacked(EXAMPLES["superblock"]))
    [table] = tables("Counters")
    assert names(table) == [field.name for field in fields(Counters)]
    assert matches(table, unpacked(EXAMPLES["counters"]))


@pytest.mark.parametrize(
    ("example", "place", "rest"),
    [
        ("file", 1, ["block_size", "inline", "blocks", "block_bytes", "reserved_bytes", "shared", "root"]),
        ("root directory", 2, ["root"]),
        ("symlink", 3, ["target"]),
        ("fifo", 4, ["rdev"]),
    ],
)
def test_fields_of_inodes_are_those_of_the_record_in_order(example: str, place: int, rest: list[str]) -> None:
    found = tables("Inodes")
    assert len(found) == 5
    assert names(found[0]) == COMMON and names(found[place]) == rest
    assert {name for table in found for name in names(table)} == set(INODE_FIELDS)
    assert matches(found[0] + found[place], unpacked(EXAMPLES[example]))
    assert EXAMPLES[example][1] == place


def test_fields_of_pages_attributes_and_free_pages_are_those_of_the_code() -> None:
    page = tables("Pages")[0]
    assert names(page) == ["level", "keys", "held"]
    assert matches(page, unpacked(EXAMPLES["leaf"])) and matches(page, unpacked(EXAMPLES["inner page"]))
    assert matches(page, list(unpacked(EXAMPLES["root directory"])[-1]))
    [attributes] = tables("Attributes")
    assert matches(attributes, unpacked(EXAMPLES["xattrs"]))
    head, run = tables("Free pages")
    assert names(head) == [field.name for field in fields(FreePage)][:1] and names(run) == list(FreeRun._fields)
    assert matches(head + run * 2, unpacked(EXAMPLES["free page"])) and EXAMPLES["free page"][1] == FREE_PAGE


def test_entries_of_a_block_map_are_those_of_the_code() -> None:
    text = section("Pages")
    kinds = re.findall(r"^\| (\d) \| ([\w ]+) \| (?:for each layer )?([\w, ]+):", text, re.MULTILINE)
    widths = {name: code[1:3] for name, code in re.findall(r"^\| `(\w+)` \| (u\d\d)", text, re.MULTILINE)}
    codes = {"32": "I", "64": "Q"}
    layouts = [(kind, "".join(codes[widths[name]] for name in names.split(", "))) for kind, _, names in kinds]
    assert layouts[:3] == [
        (str(extents.RUN), extents.RUN_BYTES.format[2:]),
        (str(extents.SHORT_RUN), extents.SHORT_RUN_BYTES.format[2:]),
        (str(extents.PATCHED), extents.LAYER_BYTES.format[1:]),
    ]
    assert kinds[3][0] == str(extents.RESERVED) and extents.RESERVED_BYTES.format == "<BQ"


def test_entries_of_the_shares_are_those_of_the_code() -> None:
    [table] = tables("Shares")
    assert table == [("length", ["u64"]), ("count", ["u64"])] and sharing.SHARE_BYTES.format == "<QQ"
    assert f"| {SHARES_KEY} | the shares" in PAGE and sharing.PAGES == 1 << 63


def dump(record: bytes) -> str:
    return "".join(f"{start:04x}  {record[start : start + 16].hex(' ')}\n" for start in range(0, len(record), 16))


def test_worked_examples_are_what_the_code_writes() -> None:
    shown = re.findall(r"```text\n(.*?)```", section("Worked examples"), re.DOTALL)
    assert shown == [dump(record) for record in EXAMPLES.values()]


def test_examples_decode_to_what_they_were_made_of() -> None:
    for inode, example in ((root(), "root directory"), (file(), "file"), (symlink(), "symlink"), (fifo(), "fifo")):
        assert codecs.decode_inode(EXAMPLES[example], inode.ino) == inode
    assert codecs.decode_page(EXAMPLES["leaf"], 20, DIRECTORY_PAGE) == LEAF
    assert codecs.decode_page(EXAMPLES["inner page"], 20, DIRECTORY_PAGE) == INNER

"""The format page against the code: every byte table against its struct, the worked example against the encoders."""

import re
import struct
from pathlib import Path
from zlib import crc32

import pytest

from ourdb import format as formats
from ourdb import index, manifest
from ourdb.format import (
    CLOSE,
    COMMIT,
    DELETE,
    META_PUT,
    PUT,
    CommitBody,
    SegmentHeader,
    encode_commit,
    encode_record,
    encode_segment_header,
    pack_location,
    segment_seed,
)

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "ourdb-format.md").read_text()
HEADING = "| offset | size | field | type | meaning |"
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q"}
TIME_NS = 1_700_000_000_000_000_000

# In the order of the page.
STRUCTS = {
    "segment header": formats.SEGMENT_HEADER,
    "record": formats.RECORD,
    "commit": formats.COMMIT_BODY,
    "origin": formats.ORIGIN,
    "hint": formats.HINT_BODY,
    "index header": index.HEADER,
    "statistics": index.STATISTIC,
    "state": formats.STATE,
    "delta and relocation map": formats.DELTA,
}


def byte_tables() -> list[list[tuple[int, int, str, str]]]:
    """(offset, size, field, type) of each row of each byte table of the page."""
    tables = []
    for part in PAGE.split(HEADING)[1:]:
        rows = []
        for line in part.strip().splitlines()[1:]:
            if not line.startswith("|"):
                break
            offset, size, field, kind, _ = (cell.strip() for cell in line.strip("|").split("|", 4))
            rows.append((int(offset), int(size), field, kind))
        tables.append(rows)
    return tables


def layout(code: str) -> list[tuple[int, int, str]]:
    """(offset, size, code) of each field of a struct; padding is a field."""
    found = []
    offset = 0
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", code):
        times, each = (1, f"{count}{letter}") if letter in "sx" else (int(count or 1), letter)
        for _ in range(times):
            size = struct.calcsize(f"<{each}")
            found.append((offset, size, letter))
            offset += size
    return found


def test_page_has_a_table_for_each_struct() -> None:
    assert len(byte_tables()) == len(STRUCTS)


@pytest.mark.parametrize(("place", "name"), list(enumerate(STRUCTS)), ids=list(STRUCTS))
def test_table_is_the_struct(place: int, name: str) -> None:
    table = byte_tables()[place]
    expected = layout(STRUCTS[name].format)
    assert [(offset, size) for offset, size, _, _ in table] == [(offset, size) for offset, size, _ in expected]
    for (_, _, field, kind), (_, _, letter) in zip(table, expected, strict=True):
        assert CODES.get(kind, "s") == ("s" if letter == "x" else letter), field


def test_kinds_flags_and_limits_are_those_of_the_code() -> None:
    kinds = dict(re.findall(r"^\| (\d) \| (\w+) \| [^|]+ \| [^|]+ \|$", section("Record"), re.MULTILINE))
    assert kinds == {str(kind): name for kind, name in formats.KIND_NAMES.items()}
    flags = dict(re.findall(r"^\| (\d) \| (\w+) \| [^|]+ \|$", section("Record"), re.MULTILINE))
    named = {"commit": formats.FLAG_COMMIT, "moved": formats.FLAG_MOVED, "origin": formats.FLAG_ORIGIN}
    assert {name: int(flag) << 16 for flag, name in flags.items() if name in named} == named
    assert formats.SEGMENT_NUMBER_MAX == 2**36 - 1 and formats.TABLE_INDEX_MAX == 65535
    assert (formats.SLOT_LONG, formats.SLOT_TOMBSTONE) == (0xFFFFE, 0xFFFFF)


@pytest.mark.parametrize(
    "magic",
    [
        formats.SEGMENT_MAGIC,
        formats.STATE_MAGIC,
        formats.DELTA_MAGIC,
        formats.RELOCATION_MAGIC,
        index.MAGIC,
        manifest._MAGIC,
    ],
)
def test_magic_is_on_the_page(magic: bytes) -> None:
    assert magic.decode() in PAGE


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("record", "kind"),
    [(manifest.Manifest, "fields"), (manifest.SegmentEntry, "fields"), (manifest.SnapshotEntry, "text")],
)
def test_manifest_fields_are_on_the_page_in_order(record: type, kind: str) -> None:
    names = list(record.__dataclass_fields__)
    text = section("Manifest")
    if kind == "fields":
        found = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
        assert ",".join(names) in ",".join(found)
    else:
        sentence = text.partition("A snapshot:")[2]
        assert re.findall(r"`(\w+)`", sentence)[: len(names)] == names


def test_settings_are_on_the_page() -> None:
    text = section("Manifest").partition("Settings:")[2].partition("A segment:")[0]
    fields = set(manifest.Settings.__dataclass_fields__) | set(manifest.Retention.__dataclass_fields__)
    assert set(re.findall(r"`(\w+)`", text)) == fields


def example() -> bytes:
    """The segment of the worked example, by the encoders."""
    header = encode_segment_header(SegmentHeader(0, 1, 1, bytes(range(16)), 1, 1, 1, TIME_NS))
    seed = segment_seed(header)
    put = encode_record(META_PUT, 1, 1, 0, TIME_NS + 1, b"hello", seed)
    empty = encode_record(PUT, 2, 2, 0, TIME_NS + 2, b"", seed)
    gone = encode_record(DELETE, 1, 3, pack_location(1, 80), TIME_NS + 2, b"", seed)
    body = encode_commit(CommitBody(2, crc32(empty[:4] + gone[:4]), 80, b"t", None))
    commit = encode_record(COMMIT, 0, 4, 0, TIME_NS + 2, body, seed)
    return b"".join((header, put, empty, gone, commit, encode_record(CLOSE, 0, 5, 0, TIME_NS + 3, b"", seed)))


def test_worked_example_is_what_the_code_writes() -> None:
    lines = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)$", section("Worked example"), re.MULTILINE)
    assert [int(offset, 16) for offset, _ in lines] == list(range(0, len(example()), 16))
    assert b"".join(bytes.fromhex(text) for _, text in lines) == example()

"""Dump and load: what was dumped comes back, and no damaged stream is taken for a whole one."""

import io
import re
import struct
import tracemalloc
from pathlib import Path
from zlib import crc32

import pytest

import ourdb
from ourdb import CorruptionError, FormatVersionError, InvalidArgumentError, OurDB, stream

ROOT = Path(__file__).parent.parent.parent


def dumped(db: OurDB) -> bytes:
    file = io.BytesIO()
    assert db.dump(file) == len(db)
    return file.getvalue()


def small_dump(path: Path) -> bytes:
    with ourdb.open(path) as db:
        db.set_many({1: b"one", 2: b"", 70_000: bytes(range(60))})
        return dumped(db)


def sealed_header(header: bytes) -> bytes:
    return header[:-4] + crc32(header[:-4]).to_bytes(4, "little")


ITEMS: list[dict[int, bytes]] = [
    {},
    {0: b""},
    {2**32 - 1: b"x"},
    {key: b"%d" % key * (key % 9) for key in range(0, 3000, 3)},
    {1: bytes(300_000), 2: b"after", 3: b"v" * (3 << 20), 4: b""},
    {key: bytes(70_000) for key in range(12)},
]


@pytest.mark.parametrize("items", ITEMS, ids=range(len(ITEMS)))
def test_loaded_store_has_the_dumped_items(tmp_path: Path, items: dict[int, bytes]) -> None:
    with ourdb.open(tmp_path / "a") as a, ourdb.open(tmp_path / "b", codec="zlib") as b:
        a[5] = b"gone before the dump"
        del a[5]
        a.set_many(items)
        data = dumped(a)
        assert b.load(io.BytesIO(data)) == len(items)
        assert dict(b.items()) == dict(a.items()) == items
        header = stream.read_header(io.BytesIO(data))
        assert (header.position, header.key_count, header.uuid.hex()) == (a.position, len(items), a.uuid)


def test_load_keeps_other_keys_and_stops_at_the_streams_end(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a") as a, ourdb.open(tmp_path / "b") as b:
        a[1] = b"one"
        first = dumped(a)
        a[2] = b"two"
        file = io.BytesIO(first + dumped(a) + b"what follows")
        b.set_many({1: b"old", 9: b"kept"})
        assert (b.load(file), dict(b.items())) == (1, {1: b"one", 9: b"kept"})
        assert (b.load(file), dict(b.items())) == (2, {1: b"one", 2: b"two", 9: b"kept"})
        assert file.read() == b"what follows"


def test_changes_since_a_dump_can_be_applied_to_what_was_loaded(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a", auto_compact=False) as a, ourdb.open(tmp_path / "b") as b:
        a.set_many({1: b"one", 2: b"two"})
        a.compact()
        b.load(io.BytesIO(dumped(a)))
        del a[1]
        a.sync()
        assert b.apply_changes(a.changes(b.followed), a.uuid) == 1
        assert dict(b.items()) == dict(a.items()) == {2: b"two"}


def test_load_into_a_store_with_data_follows_nothing(tmp_path: Path) -> None:
    data = small_dump(tmp_path / "a")
    with ourdb.open(tmp_path / "b") as b:
        b[9] = b"own"
        b.load(io.BytesIO(data))
        assert b.followed is None


def test_ids_of_an_incremental_store_are_not_given_out_again(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a", incremental=True) as a:
        for _ in range(4):
            a.set(None, b"value")
        a.delete(4)
        data = dumped(a)
    with ourdb.open(tmp_path / "b", incremental=True) as b:
        b.load(io.BytesIO(data))
        assert (list(b), b.next_key) == ([1, 2, 3], 5)
    with ourdb.open(tmp_path / "b") as b:
        assert b.set(None, b"new") == 5


@pytest.mark.parametrize("incremental", [False, True])
def test_stream_of_the_other_kind_of_store_is_refused(tmp_path: Path, incremental: bool) -> None:
    with ourdb.open(tmp_path / "a", incremental=incremental) as a:
        a.set(None if incremental else 1, b"value")
        data = dumped(a)
    with ourdb.open(tmp_path / "b", incremental=not incremental) as b:
        with pytest.raises(InvalidArgumentError, match=f"incremental={incremental}"):
            b.load(io.BytesIO(data))
        assert b.position.sequence == 0


@pytest.mark.parametrize("limit", [{"key_max": 100}, {"value_bytes_max": 59}])
def test_records_that_do_not_fit_are_refused(tmp_path: Path, limit: dict[str, int]) -> None:
    data = small_dump(tmp_path / "a")
    with ourdb.open(tmp_path / "b", **limit) as b:
        with pytest.raises(InvalidArgumentError):
            b.load(io.BytesIO(data))
        assert (len(b), b.position.sequence) == (0, 0)


def test_stream_damaged_at_any_byte_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    data = small_dump(tmp_path / "a")
    with ourdb.open(tmp_path / "b") as b:
        for offset in range(len(data)):
            damaged = bytearray(data)
            damaged[offset] ^= 1 << offset % 8
            with pytest.raises(CorruptionError) as caught:
                b.load(io.BytesIO(damaged))
            assert caught.value.file == "<stream>"
            assert caught.value.offset <= offset
            end_record = len(data) - stream.END.size
            assert len(b) == (3 if offset >= end_record else 0)
            b.clear()


def test_stream_cut_at_any_length_is_refused(tmp_path: Path) -> None:
    data = small_dump(tmp_path / "a")
    with ourdb.open(tmp_path / "b") as b:
        for length in range(len(data)):
            with pytest.raises(CorruptionError, match="ends inside") as caught:
                b.load(io.BytesIO(data[:length]))
            assert caught.value.offset == length
            assert b.followed is None


def test_blocks_lost_repeated_or_swapped_are_noticed(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a") as a:
        a.set_many({key: b"%d" % key + bytes(280_000) for key in range(4)})
        data = dumped(a)
    size = stream.BLOCK.size + stream.RECORD.size + 280_001
    head, end = data[: stream.HEADER.size], data[-stream.END.size :]
    blocks = [data[len(head) + at * size : len(head) + (at + 1) * size] for at in range(4)]
    assert b"".join((head, *blocks, end)) == data
    with ourdb.open(tmp_path / "b") as b:
        for order in ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0)):
            with pytest.raises(CorruptionError):
                b.load(io.BytesIO(b"".join((head, *(blocks[at] for at in order), end))))
            assert set(b) <= {0, 1, 2}


def test_block_that_claims_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    head = small_dump(tmp_path / "a")[: stream.HEADER.size]
    block = stream.BLOCK.pack(stream.BLOCK_MAGIC, 1, 1 << 30, 0, 0)[:-4]
    block += crc32(block, int.from_bytes(head[-4:], "little")).to_bytes(4, "little")
    with ourdb.open(tmp_path / "b") as b:
        tracemalloc.start()
        try:
            with pytest.raises(CorruptionError):
                b.load(io.BytesIO(head + block + bytes(1000)))
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_stream_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    data = bytearray(small_dump(tmp_path / "a"))
    data[8] = stream.DUMP_VERSION + 1
    data[: stream.HEADER.size] = sealed_header(bytes(data[: stream.HEADER.size]))
    with ourdb.open(tmp_path / "b") as b, pytest.raises(FormatVersionError):
        b.load(io.BytesIO(data))


def test_what_is_no_dump_is_refused(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "b") as b, pytest.raises(CorruptionError, match="no ourdb dump"):
        b.load(io.BytesIO(b"OURDBSEG" + bytes(1000)))


def test_text_files_are_refused(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "b") as b:
        with pytest.raises(InvalidArgumentError):
            b.dump(io.StringIO())  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError):
            b.load(io.StringIO())  # type: ignore[arg-type]


class Narrow(io.RawIOBase):
    """A file that takes and gives few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.at = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        part = bytes(data[:1000])
        self.data += part
        return len(part)

    def read(self, size: int = -1) -> bytes:
        part = bytes(self.data[self.at : self.at + min(size, 700)])
        self.at += len(part)
        return part


def test_narrow_files_are_written_and_read_whole(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a") as a, ourdb.open(tmp_path / "b") as b:
        a.set_many({key: b"%d" % key * 500 for key in range(300)})
        file = Narrow()
        a.dump(file)  # type: ignore[arg-type]
        assert len(file.data) == len(dumped(a))
        b.load(file)  # type: ignore[arg-type]
        assert dict(b.items()) == dict(a.items())


def test_progress_stops_dump_and_load_between_blocks(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int, str]] = []

    def stop(*call: object) -> bool:
        calls.append(call)  # type: ignore[arg-type]
        return False

    with ourdb.open(tmp_path / "a") as a, ourdb.open(tmp_path / "b") as b:
        a.set_many({key: bytes(100_000) for key in range(9)})
        cut = io.BytesIO()
        assert a.dump(cut, stop) == 3
        with pytest.raises(CorruptionError):
            b.load(io.BytesIO(cut.getvalue()))
        assert b.load(io.BytesIO(dumped(a)), stop) == 3
        assert (list(b), b.followed) == ([0, 1, 2], None)
    assert calls == [("dump", 3, 9, "keys"), ("load", 3, 9, "keys")]


# ---- the format page ------------------------------------------------------------------------

PAGE = (ROOT / "docs/reference/dump-format.md").read_text()
STRUCTS = {"Header": stream.HEADER, "Block": stream.BLOCK, "Record": stream.RECORD, "End record": stream.END}
TYPES = {"u16": "H", "u32": "I", "u64": "Q", "i64": "q"}


def table_of(title: str) -> list[tuple[int, int, str]]:
    """(offset, size, type) of the rows under the heading *title*, up to the part of variable length."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| [^|]+ \| ([^|]+?) \|", section, re.MULTILINE)
    return [(int(offset), int(size), kind) for offset, size, kind in rows]


@pytest.mark.parametrize("title", STRUCTS)
def test_tables_of_the_format_page_agree_with_the_code(title: str) -> None:
    rows = table_of(title)
    code, end = "<", 0
    for offset, size, kind in rows:
        assert offset == end
        end += size
        code += TYPES.get(kind.partition(" ")[0], f"{size}s")
    assert code == STRUCTS[title].format
    assert end == STRUCTS[title].size == struct.calcsize(code)


def test_worked_example_of_the_format_page_loads(tmp_path: Path) -> None:
    block = re.search(r"```text\n((?:[0-9a-f]{4}  .*\n)+)```", PAGE)
    assert block is not None
    data = b"".join(bytes.fromhex(line[6:53]) for line in block[1].splitlines())
    with ourdb.open(tmp_path / "store") as db:
        assert db.load(io.BytesIO(data)) == 2
        assert (dict(db.items()), db.followed) == ({1: b"hello", 7: b""}, ourdb.Position(1, 2))

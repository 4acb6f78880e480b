"""The lookup index: which keys get a dense window, pages that are damaged, generations that are stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourdb.errors import CorruptionError
from ourdb.index import (
    HEADER_BYTES,
    PAGE_BYTES,
    PAGE_SLOTS,
    Generation,
    IndexHeader,
    empty_generation,
    generation_names,
    next_name,
    open_generation,
)
from ourdb.index_writer import fold, plan_window, write_generation
from ourdb.store import OurDB
from ourdb.testing import MemoryStorage

KEYS = st.integers(0, 2**32 - 1) | st.integers(0, 3000) | st.integers(2**31, 2**31 + 3000)
SLOTS = st.integers(1, 2**64 - 1)
UUID = bytes(range(16))


def slots_of(generation: Generation, start: int = 0, stop: int = 1 << 32) -> dict[int, int]:
    return {
        key: slot
        for keys, slots in generation.spans(start, stop)
        for key, slot in zip(keys, slots, strict=True)
        if slot
    }


# ---- the window ----


@given(st.lists(st.tuples(st.sets(KEYS, max_size=300)), min_size=1, max_size=5))
def test_window_only_grows_in_whole_pages(rounds: list[tuple[set[int]]]) -> None:
    first = count = 0
    for (keys,) in rounds:
        outside = [key for key in sorted(keys) if not first <= key < first + count]
        new_first, new_count = plan_window(first, count, outside)
        assert new_first % PAGE_SLOTS == new_count % PAGE_SLOTS == 0
        if count:
            assert new_first <= first
            assert new_first + new_count >= first + count
        assert new_first >= 0
        assert new_first + new_count <= 1 << 32
        first, count = new_first, new_count


def test_ids_that_follow_on_are_dense() -> None:
    assert plan_window(0, 0, list(range(1, 1000))) == (0, 1024)
    assert plan_window(0, 1024, list(range(1024, 1500))) == (0, 1536)


@pytest.mark.parametrize("start", [0, 5000, 2**31, 2**32 - 1000])
def test_dense_keys_anywhere_get_a_window(start: int) -> None:
    keys = list(range(start, start + 1000))
    first, count = plan_window(0, 0, keys)
    assert count <= 3 * PAGE_SLOTS
    inside = [key for key in keys if first <= key < first + count]
    assert len(inside) > 800  # a page with few of them at either end does not pay


def test_keys_that_are_far_apart_get_no_window() -> None:
    keys = [n * 2**20 for n in range(1000)]
    assert plan_window(0, 0, keys)[1] <= PAGE_SLOTS
    generation = fold(empty_generation(UUID), dict.fromkeys(keys, 7))
    assert generation.bytes < 40 * len(keys)


def test_one_far_key_does_not_stretch_the_window() -> None:
    keys = [*range(2000), 2**32 - 1]
    assert plan_window(0, 0, keys) == (0, 2048)
    generation = fold(empty_generation(UUID), dict.fromkeys(keys, 7))
    assert generation.bytes < 64 << 10
    assert slots_of(generation) == dict.fromkeys(keys, 7)


def test_densest_of_several_runs_gets_the_window() -> None:
    few, many = range(0, 3000, 30), range(10**9, 10**9 + 5000)
    first, count = plan_window(0, 0, [*few, *many])
    assert first > 3000
    assert first <= many[0]
    assert many[-1] < first + count


# ---- generations ----


@given(st.lists(st.dictionaries(KEYS, SLOTS, max_size=200), min_size=1, max_size=4), st.data())
def test_folded_generations_hold_what_a_dict_holds(overlays: list[dict[int, int]], data: st.DataObject) -> None:
    generation, model = empty_generation(UUID), dict[int, int]()
    for overlay in overlays:
        generation = fold(generation, overlay)
        model.update(overlay)
    assert slots_of(generation) == model
    for key in [*model, 0, 1, 2**32 - 1]:
        assert generation.lookup(key) == model.get(key, 0)
    start, stop = data.draw(KEYS), data.draw(KEYS)
    assert slots_of(generation, start, stop) == {key: slot for key, slot in model.items() if start <= key < stop}
    order = [key for keys, _ in generation.spans(0, 1 << 32) for key in keys]
    assert order == sorted(set(order))


def written(storage: MemoryStorage, overlay: dict[int, int]) -> Generation:
    """A generation of *overlay* in a file."""
    name = next_name(storage)

    def complete(header: IndexHeader) -> IndexHeader:
        return header._replace(uuid=UUID)

    write_generation(storage, name, empty_generation(UUID), overlay, complete, {})
    return open_generation(storage, name)


def test_generation_names_count_up() -> None:
    storage = MemoryStorage()
    for number in range(1, 4):
        written(storage, {number: 5})
        assert generation_names(storage)[0] == f"index-{number:016x}.idx"
    storage.write_new("index-junk.idx", b"")
    assert next_name(storage) == f"index-{4:016x}.idx"


def test_generation_of_a_new_overlay_carries_the_unchanged_pages_over() -> None:
    storage = MemoryStorage()
    old = written(storage, {key: key + 1 for key in range(5000)})
    name = next_name(storage)
    write_generation(storage, name, old, {4000: 9, 2**31: 8}, lambda header: header, {})
    new = open_generation(storage, name)
    assert slots_of(new) == {**{key: key + 1 for key in range(5000)}, 4000: 9, 2**31: 8}
    assert len(old.page_ok) == len(new.page_ok)
    assert sum(old.page_ok) == 1  # only the changed page was read as slots


@pytest.mark.parametrize("page", [0, 1, 3])
def test_damaged_page_is_an_error_and_never_carried_over(page: int) -> None:
    storage = MemoryStorage()
    written(storage, {key: key + 1 for key in range(4 * PAGE_SLOTS)})
    name = generation_names(storage)[0]
    file = storage.open(name, write=True)
    file.write(b"\xff", HEADER_BYTES + page * PAGE_BYTES + 77)
    damaged = open_generation(storage, name)
    for other in range(4):
        key = other * PAGE_SLOTS + 5
        if other != page:
            assert damaged.lookup(key) == key + 1
            continue
        with pytest.raises(CorruptionError, match=name) as caught:
            damaged.lookup(key)
        assert caught.value.offset == HEADER_BYTES + page * PAGE_BYTES
    with pytest.raises(CorruptionError, match=name):
        slots_of(damaged)
    with pytest.raises(CorruptionError, match=name):
        damaged.check_all()
    # a new generation that touches the page must not put a good checksum over it
    with pytest.raises(CorruptionError, match=name):
        fold(damaged, {page * PAGE_SLOTS + 1: 3})
    elsewhere = fold(damaged, {((page + 1) % 4) * PAGE_SLOTS: 3})
    with pytest.raises(CorruptionError):
        elsewhere.lookup(page * PAGE_SLOTS + 5)


@pytest.mark.parametrize("where", ["header", "crcs", "length", "empty", "sparse"])
def test_damaged_generation_is_not_believed(where: str) -> None:
    storage = MemoryStorage()
    written(storage, {**{key: 5 for key in range(600)}, 2**31: 6})  # noqa: C420
    name = generation_names(storage)[0]
    size = len(storage.read_file(name))
    file = storage.open(name, write=True)
    at = {"header": 60, "crcs": size - 3, "sparse": HEADER_BYTES + 2 * PAGE_BYTES}.get(where)
    if at is not None:
        file.write(b"\xfe", at)
    else:
        file.truncate(0 if where == "empty" else size - 1)
    with pytest.raises((CorruptionError, ValueError)) as caught:
        generation = open_generation(storage, name)
        generation.lookup(2**31)
    assert isinstance(caught.value, CorruptionError) or where == "empty"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "junk", "other store"])
@pytest.mark.parametrize("mode", ["r", "w"])
def test_store_opens_without_a_good_index_and_says_so(tmp_path: Path, damage: str, mode: Any) -> None:
    items = {key: b"%d" % key for key in range(3000)}
    with OurDB(tmp_path / "s") as db:
        db.set_many(items)
        db.checkpoint()
    with OurDB(tmp_path / "other") as db:
        db[1] = b"other"
        db.checkpoint()
    (index,) = (tmp_path / "s").glob("index-*.idx")
    data = bytearray(index.read_bytes())
    data[100] ^= 1
    contents = {
        "flip": bytes(data),
        "cut": bytes(data[:-5]),
        "empty": b"",
        "junk": b"junk" * 3000,
        "other store": next((tmp_path / "other").glob("index-*.idx")).read_bytes(),
    }
    index.write_bytes(contents[damage])
    with OurDB(tmp_path / "s", mode) as db:
        assert dict(db.items()) == items
        assert len(db) == len(items)
        assert damage == "other store" or index.name in " ".join(db.warnings)


def test_damaged_index_page_is_an_error_until_rebuilt(tmp_path: Path) -> None:
    items = {key: b"%d" % key for key in range(3000)}
    with OurDB(tmp_path / "s") as db:
        db.set_many(items)
        db.checkpoint()
    (index,) = (tmp_path / "s").glob("index-*.idx")
    data = bytearray(index.read_bytes())
    data[HEADER_BYTES + PAGE_BYTES + 9] ^= 0x10
    index.write_bytes(data)
    with OurDB(tmp_path / "s", "r") as db:
        assert db[5] == b"5"
        with pytest.raises(CorruptionError, match=index.name):
            db[600]
        with pytest.raises(CorruptionError, match=index.name):
            dict(db.items())
        assert db.get_many([5, 1500]) == [b"5", b"1500"]
    index.unlink()
    with OurDB(tmp_path / "s", "r") as db:
        assert dict(db.items()) == items


def test_older_generation_does_where_the_newest_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with OurDB(path) as db:
        db.set_many({key: b"old" for key in range(100)})  # noqa: C420
        db.checkpoint()
        (first,) = path.glob("index-*.idx")
        kept = first.read_bytes()
        db.set_many({key: b"new" for key in range(50)})  # noqa: C420
        db.checkpoint()
    (second,) = path.glob("index-*.idx")
    second.write_bytes(b"junk")
    first.write_bytes(kept)
    with OurDB(path, "r") as db:
        assert db.get_many([0, 60]) == [b"new", b"old"]

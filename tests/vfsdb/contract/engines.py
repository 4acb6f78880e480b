"""What every engine must do. A test module subclasses these suites and gives the ``stores`` fixture."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import closing

import pytest

from vfsdb.codecs import encode_counters
from vfsdb.database import Compactable, Conflict, Historic, LimitExceeded, Pin, Retention, StaleBlockError, Stores
from vfsdb.errors import HistoryLostError
from vfsdb.mkfs import make_filesystem
from vfsdb.records import COUNTERS_KEY, Counters


class MetadataContract:
    """Of `vfsdb.database.MetadataStore`."""

    def test_a_commit_is_read_back_and_versions_rise(self, stores: Stores) -> None:
        store = stores.metadata
        before = store.version
        first = store.commit({5: b"five", 6: b"", 70_000: b"x" * 5000})
        second = store.commit({5: b"again"})
        assert before < first < second == store.version
        assert [store.get(key) for key in (5, 6, 70_000, 7)] == [b"again", b"", b"x" * 5000, None]

    def test_deletes_go_with_the_puts_and_absent_keys_are_passed_over(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({1: b"one", 2: b"two"})
        store.commit({3: b"three"}, [1, 9])
        assert [store.get(key) for key in (1, 2, 3, 9)] == [None, b"two", b"three", None]

    def test_get_many_gives_versions_of_what_exists(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({1: b"one"})
        before = store.version
        store.commit({2: b"two", 3: b"three"}, [1])
        found = store.get_many([1, 2, 3, 4])
        assert {key: value for key, (_, value) in found.items()} == {2: b"two", 3: b"three"}
        assert all(before < version <= store.version for version, _ in found.values())

    def test_expected_versions_let_a_commit_pass(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({1: b"one"})
        version = store.get_many([1])[1][0]
        store.commit({1: b"two", 2: b"new"}, expect={1: version, 2: 0})
        assert store.get(1) == b"two"

    @pytest.mark.parametrize("wrong", ["moved", "gone", "there"])
    def test_an_expected_version_that_moved_is_a_conflict_and_nothing_changes(self, stores: Stores, wrong: str) -> None:
        store = stores.metadata
        store.commit({1: b"one", 2: b"two"})
        version = store.get_many([1])[1][0]
        expect = {1: version}
        if wrong == "moved":
            store.commit({1: b"other"})
        elif wrong == "gone":
            store.commit({}, [1])
        else:
            expect = {2: 0}
        before, value = store.version, store.get(1)
        with pytest.raises(Conflict):
            store.commit({1: b"mine", 3: b"mine"}, [2], expect=expect)
        assert (store.version, store.get(1), store.get(2), store.get(3)) == (before, value, b"two", None)

    def test_a_token_settles_what_happened(self, stores: Stores) -> None:
        store = stores.metadata
        version = store.commit({1: b"one"}, token=b"t" * 32)
        assert store.settle(b"t" * 32) == version
        assert store.settle(b"never") is None

    def test_sync_makes_the_newest_commit_durable(self, stores: Stores) -> None:
        store = stores.metadata
        for number in range(5):
            store.commit({1: b"%d" % number})
            assert store.durable_version <= store.version
        store.sync()
        assert store.durable_version == store.version
        store.commit({1: b"after"})
        assert store.durable_version <= store.version

    def test_a_durable_version_is_that_of_a_commit(self, stores: Stores) -> None:
        store = stores.metadata
        versions = {store.durable_version}
        for number in range(40):
            versions.add(store.commit({number: b"x" * 3000}))
            if number % 7 == 0:
                store.sync()
            assert store.durable_version in versions

    def test_holds_what_was_committed_and_nothing_beyond(self, stores: Stores) -> None:
        store = stores.metadata
        version = store.commit({1: b"one"})
        assert store.holds(version)
        assert not store.holds(version + 1000)

    @pytest.mark.parametrize("key", [-1, "above"])
    def test_a_key_out_of_range_is_refused_and_nothing_changes(self, stores: Stores, key: int | str) -> None:
        store = stores.metadata
        bad = store.key_max + 1 if isinstance(key, str) else key
        before = store.version
        with pytest.raises(LimitExceeded):
            store.commit({1: b"one", bad: b"bad"})
        assert (store.version, store.get(1)) == (before, None)

    def test_a_view_stays_what_it_was(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({1: b"one", 2: b"two"})
        view = store.view()
        store.commit({1: b"new", 3: b"three"}, [2])
        store.commit({2: b"back"}, [1])
        assert view.get_many([1, 2, 3]) == [b"one", b"two", None]
        second = store.view()
        assert second.get_many([1, 2, 3]) == [None, b"back", b"three"]
        view.close()
        store.commit({}, [2, 3])
        assert second.get_many([1, 2, 3]) == [None, b"back", b"three"]
        second.close()
        assert [store.get(key) for key in (1, 2, 3)] == [None, None, None]

    def test_the_keys_of_a_view_are_those_of_its_moment(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({5: b"five", 6: b"six", 70_000: b"far"})
        view = store.view()
        store.commit({4: b"new"}, [6])
        assert list(view.keys()) == [5, 6, 70_000]
        assert list(view.keys(6)) == [6, 70_000]
        view.close()
        newer = store.view()
        assert list(newer.keys()) == [4, 5, 70_000]
        newer.close()

    def test_pins_are_the_open_views_with_what_they_need(self, stores: Stores) -> None:
        store, blocks = stores.metadata, stores.blocks
        birth = blocks.put_many(0, [b"block"])
        store.commit({1: b"one"}, needs=blocks.version)
        before = store.version
        view = store.view()
        later = blocks.put_many(1, [b"later"])
        store.commit({1: b"two"}, needs=blocks.version)
        (pin,) = store.pins()
        assert pin.version == before == view.version
        assert birth <= pin.blocks < later
        view.close()
        assert store.pins() == []

    def test_readers_never_see_half_a_commit(self, stores: Stores) -> None:
        store = stores.metadata
        store.commit({1: b"0", 2: b"0"})
        wrong: list[object] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                found = store.get_many([1, 2])
                if found[1][1] != found[2][1]:
                    wrong.append(found)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(300):
            store.commit({1: b"%d" % number, 2: b"%d" % number})
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_close_is_idempotent(self, stores: Stores) -> None:
        stores.metadata.commit({1: b"one"})
        stores.metadata.close()
        stores.metadata.close()
        stores.blocks.close()
        stores.blocks.close()


class HistoricContract:
    """Of `vfsdb.database.Historic`, for stores that hold a filesystem (their commits write the counters last)."""

    @pytest.fixture
    def store(self, stores: Stores) -> Historic:
        """The metadata store, with a rule that keeps everything."""
        make_filesystem(stores)
        assert isinstance(stores.metadata, Historic)
        stores.metadata.set_retention(Retention(all=True))
        return stores.metadata

    @staticmethod
    def commit(stores: Stores, puts: dict[int, bytes], deletes: Iterable[int] = (), needs: int = 0) -> int:
        counters = {COUNTERS_KEY: encode_counters(Counters(inodes=1, needs=needs))}
        return stores.metadata.commit(puts | counters, deletes, needs=needs)

    def test_every_version_can_be_viewed_where_the_rule_keeps_all(self, stores: Stores, store: Historic) -> None:
        states, now = {}, dict[int, bytes]()
        for number in range(30):
            now = {key: value for key, value in now.items() if key != 20 + number % 7} | {
                20 + number % 5: b"%d" % number
            }
            version = self.commit(
                stores, {20 + number % 5: b"%d" % number}, [20 + number % 7] if number % 7 > 4 else []
            )
            states[version] = {key: stores.metadata.get(key) for key in range(20, 30)}
        for version, state in states.items():
            view = store.view_at(version)
            assert {key: view.get(key) for key in range(20, 30)} == state
            assert view.version == version
            view.close()

    def test_a_version_between_two_commits_shows_the_earlier_one(self, stores: Stores, store: Historic) -> None:
        first = self.commit(stores, {20: b"one"})
        second = self.commit(stores, {20: b"two", 21: b"two", 22: b"two"}, [23])
        for version in range(first, second - 1):
            view = store.view_at(version)
            assert (view.version, view.get_many([20, 21, 22])) == (first, [b"one", None, None])
            view.close()

    def test_a_view_of_a_version_is_a_pin_until_it_is_closed(self, stores: Stores, store: Historic) -> None:
        store.set_retention(Retention())
        birth = stores.blocks.put_many(0, [b"block"])
        version = self.commit(stores, {20: b"one"}, needs=birth)
        with closing(store.view_at(version)):
            later = self.commit(stores, {20: b"two"}, needs=stores.blocks.put_many(1, [b"x"]))
            assert stores.metadata.pins() == [Pin(version, birth)]
            assert later > version
        assert stores.metadata.pins() == []

    def test_what_no_rule_keeps_is_refused(self, stores: Stores, store: Historic) -> None:
        version = self.commit(stores, {20: b"one"})
        store.set_retention(Retention())
        for number in range(200):
            self.commit(stores, {20: b"%d" % number * 100})
        if isinstance(stores.metadata, Compactable):
            stores.metadata.compact()
        with pytest.raises(HistoryLostError):
            store.view_at(version)
        with pytest.raises(HistoryLostError):
            store.view_at(stores.metadata.version + 1000)

    def test_snapshots_have_names_and_stay(self, stores: Stores, store: Historic) -> None:
        store.set_retention(Retention())
        version = self.commit(stores, {20: b"one" * 100})
        store.snapshot("first")
        assert stores.metadata.durable_version == version
        for number in range(200):
            self.commit(stores, {20: b"%d" % number * 100})
        store.snapshot("second")
        if isinstance(stores.metadata, Compactable):
            stores.metadata.compact()
        first, second = store.snapshots()
        assert store.snapshot_times() == {one.name: one.time_ns for one in (first, second)}
        assert (first.name, first.version, second.name) == ("first", version, "second")
        assert first.pinned_bytes >= 300
        assert first.time_ns <= second.time_ns
        with closing(store.open_snapshot("first")) as view:
            assert (view.get(20), view.version) == (b"one" * 100, version)
            store.delete_snapshot("first")
            assert Pin(version, 0) in [pin._replace(blocks=0) for pin in stores.metadata.pins()]
        with pytest.raises(FileExistsError, match="second"):
            store.snapshot("second")
        for missing in (store.open_snapshot, store.delete_snapshot):
            with pytest.raises(FileNotFoundError, match="first"):
                missing("first")

    def test_a_time_means_the_newest_commit_before_it(self, stores: Stores, store: Historic) -> None:
        before = time.time_ns()
        version = self.commit(stores, {20: b"one"})
        between = time.time_ns()
        self.commit(stores, {20: b"two"})
        with closing(store.view_at(store.version_at(between))) as view:
            assert (view.version, view.get(20)) == (version, b"one")
        with closing(store.view_at(store.version_at(time.time_ns()))) as view:
            assert view.get(20) == b"two"
        assert store.version_at(before) < version
        with pytest.raises(HistoryLostError):
            store.version_at(10**9)

    def test_history_has_the_versions_of_a_record_by_commit(self, stores: Stores, store: Historic) -> None:
        one = self.commit(stores, {20: b"one", 21: b"x"})
        self.commit(stores, {21: b"y"})
        gone = self.commit(stores, {}, [20])
        again = self.commit(stores, {19: b"x", 20: b"again", 21: b"z"})
        found = list(store.history(20))
        assert [(one.version, one.value) for one in found] == [(again, b"again"), (gone, None), (one, b"one")]
        assert found[0].time_ns >= found[1].time_ns >= found[2].time_ns > 0
        assert list(store.history(9999)) == []

    def test_changed_keys_are_all_that_differ(self, stores: Stores, store: Historic) -> None:
        first = self.commit(stores, {key: b"%d" % key for key in range(20, 40)})
        second = self.commit(stores, {25: b"new", 50: b"new"}, [30])
        with closing(store.view_at(first)) as one, closing(store.view_at(second)) as other:
            assert set(store.changed_keys(one, other)) >= {25, 30, 50}
            assert set(store.changed_keys(one, other)) <= {25, 30, 50, COUNTERS_KEY}

    def test_a_rule_of_versions_keeps_the_states_after_so_many_commits(self, stores: Stores, store: Historic) -> None:
        store.set_retention(Retention(versions=10))
        assert store.retention == Retention(versions=10)
        versions = [self.commit(stores, {20: b"%d" % number * 50}) for number in range(300)]
        if isinstance(stores.metadata, Compactable):
            stores.metadata.compact()
        (pin,) = stores.metadata.pins()
        assert versions[-30] <= pin.version <= versions[-11]
        for at in range(-11, 0):
            with closing(store.view_at(versions[at])) as view:
                assert view.get(20) == b"%d" % (300 + at) * 50
        with pytest.raises(HistoryLostError):
            store.view_at(versions[5])


class BlockContract:
    """Of `vfsdb.database.BlockStore`."""

    def test_blocks_of_one_put_are_born_one_after_another(self, stores: Stores) -> None:
        store = stores.blocks
        data = [b"a" * 5000, b"", bytearray(b"c" * 70_000), memoryview(b"dd")]
        birth = store.put_many(10, data)
        assert [store.get(10 + at, birth + at) for at in range(4)] == [bytes(block) for block in data]
        assert store.get_many(10, 4, birth) == [bytes(block) for block in data]
        assert store.get_many(11, 2, birth + 1) == [b"", b"c" * 70_000]
        assert store.version >= birth + 3

    def test_births_rise_and_a_lone_block_has_one(self, stores: Stores) -> None:
        store = stores.blocks
        births = [store.put_many(key, [b"x"]) for key in range(5)]
        assert births == sorted(set(births))
        assert all(store.get(key, birth) == b"x" for key, birth in enumerate(births))
        assert store.version >= births[-1]

    def test_part_of_a_block(self, stores: Stores) -> None:
        store = stores.blocks
        birth = store.put_many(0, [b"0123456789"])
        parts = [store.get_range(0, birth, start, stop) for start, stop in ((0, 4), (3, 7), (8, 99), (5, 5))]
        assert parts == [b"0123", b"3456", b"89", b""]

    def test_another_block_under_the_key_is_stale(self, stores: Stores) -> None:
        store = stores.blocks
        old = store.put_many(3, [b"old", b"next"])
        new = store.put_many(3, [b"new"])
        assert store.get(3, new) == b"new"
        for read in (
            lambda: store.get(3, old),
            lambda: store.get_range(3, old, 0, 1),
            lambda: store.get_many(3, 2, old),
        ):
            with pytest.raises(StaleBlockError):
                read()

    def test_a_key_without_a_block_is_stale(self, stores: Stores) -> None:
        store = stores.blocks
        birth = store.put_many(0, [b"a", b"b", b"c"])
        store.delete_many([1, 77])
        for read in (lambda: store.get(1, birth + 1), lambda: store.get_many(0, 3, birth), lambda: store.get(9, birth)):
            with pytest.raises(StaleBlockError):
                read()
        assert store.get(2, birth + 2) == b"c"

    def test_births_and_sizes_are_told_without_the_blocks(self, stores: Stores) -> None:
        store = stores.blocks
        birth = store.put_many(7, [b"a" * 9000, b"b" * 20])
        store.put_many(20, [b"gone"])
        store.delete_many([20])
        assert store.stats([8, 7, 20, 21]) == [(birth + 1, 20), (birth, 9000), None, None]

    def test_keys_are_those_of_blocks_alone_in_order(self, stores: Stores) -> None:
        store = stores.blocks
        store.put_many(5, [b"a", b"b"])
        store.put_many(0, [b"c"])
        store.delete_many([6], needs=stores.metadata.version)
        assert list(store.keys()) == [0, 5]
        assert list(store.keys(1)) == [5]

    def test_deletes_say_what_they_rest_on(self, stores: Stores) -> None:
        version = stores.metadata.commit({1: b"one"})
        assert stores.blocks.needs == 0
        stores.blocks.delete_many([4], needs=version)
        stores.blocks.delete_many([5])
        assert stores.blocks.needs == version

    def test_deletes_say_which_states_may_miss_them(self, stores: Stores) -> None:
        assert stores.blocks.forgotten == 0
        stores.blocks.delete_many([4], forgotten=7)
        stores.blocks.delete_many([5], forgotten=3)
        assert stores.blocks.forgotten == 7

    def test_it_knows_its_partner(self, stores: Stores) -> None:
        assert stores.blocks.partner == stores.metadata.uuid
        assert stores.blocks.uuid != stores.metadata.uuid
        assert len(stores.blocks.uuid) == len(stores.metadata.uuid) == 16

    def test_holds_what_was_put_and_nothing_beyond(self, stores: Stores) -> None:
        store = stores.blocks
        store.put_many(0, [b"x", b"y"])
        assert store.holds(store.version)
        assert not store.holds(store.version + 1000)

    def test_keys_out_of_range_are_refused_and_nothing_changes(self, stores: Stores) -> None:
        store = stores.blocks
        for first in (-1, store.key_max):
            with pytest.raises(LimitExceeded):
                store.put_many(first, [b"a", b"b"])
        assert list(store.keys()) == []
        birth = store.put_many(store.key_max, [b"last"])
        assert store.get(store.key_max, birth) == b"last"

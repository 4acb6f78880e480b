"""Does this copy of ourdb work on this Python and this disk? ``python -m ourdb.selftest [directory]``.

Needs the standard library alone: a model, a power cut at every step, damaged files, followers. About
ten seconds; works in a new directory below *directory* (default: the temporary one) and removes it.
"""
# ruff: noqa: PT009, PT027 - pytest is not there

from __future__ import annotations

import io
import os
import random
import shutil
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from typing import Any

from ourdb.errors import CorruptionError, InvalidArgumentError, RecordNotFoundError, StoreFailedError, StoreLockedError
from ourdb.faults import FaultyStorage
from ourdb.memory import MemoryStorage
from ourdb.power_cut import CrashStorage, PowerCut
from ourdb.store import OurDB

SMALL: dict[str, Any] = {"segment_bytes": 4096}
_places = [""]


class StoreTest(unittest.TestCase):
    """A test with a directory of its own."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="ourdb-selftest-", dir=_places[-1] or None)
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "store")


class ModelTest(StoreTest):
    """A store against a dict."""

    def test_store_agrees_with_a_dict(self) -> None:
        for seed, write_mode in enumerate(("auto", "pwrite", "auto")):
            with self.subTest(seed=seed, write_mode=write_mode):
                self.agree(random.Random(seed), os.path.join(self.directory, str(seed)), write_mode)

    def agree(self, chance: random.Random, path: str, write_mode: Any) -> None:
        model: dict[int, bytes] = {}
        snapshots: dict[str, dict[int, bytes]] = {}
        db = OurDB(path, write_mode=write_mode, **SMALL)
        for step in range(600):
            self.change(db, model, chance)
            if step % 90 == 89:
                db.compact()
            if step % 110 == 50:
                db.snapshot(f"at {step}")
                snapshots[f"at {step}"] = dict(model)
            if step % 70 == 69:
                db.close()
                db = OurDB(path, write_mode=write_mode, **SMALL)
            if step % 10 == 0:
                self.assertEqual(dict(db.items()), model)
                self.assertEqual(len(db), len(model))
        for name, expected in snapshots.items():
            with db.open_snapshot(name) as snapshot:
                self.assertEqual(dict(snapshot.items()), expected)
        db.close()

    def change(self, db: OurDB, model: dict[int, bytes], chance: random.Random) -> None:
        key = chance.choice((*range(8), 511, 512, 70_000, 2**31, 2**32 - 1))
        how = chance.random()
        if how < 0.2 and key in model:
            db.delete(key)
            del model[key]
        elif how < 0.4:
            pairs = {chance.randrange(20): chance.randbytes(chance.randrange(90)) for _ in range(5)}
            db.set_many(pairs)
            model.update(pairs)
        else:
            model[key] = chance.randbytes(chance.choice((0, 1, 8, 100, 3000)))
            db[key] = model[key]


class PowerCutTest(unittest.TestCase):
    """The power goes at each step."""

    COUNT = 24

    def values(self) -> list[dict[int, bytes]]:
        """What the store holds after each commit."""
        found: list[dict[int, bytes]] = [{}]
        for number in range(self.COUNT):
            found.append({**found[-1], number % 5: b"%d." % number * 60, 100: b"%d" % number})
        return found

    def work(self, storage: CrashStorage, durable: list[int]) -> None:
        db = OurDB("store", storage=storage, auto_compact=False, **SMALL)
        for number, items in enumerate(self.values()[1:], 1):
            db.set_many({key: items[key] for key in ((number - 1) % 5, 100)})
            if number % 4 == 0:
                db.sync()
                durable.append(number)
            if number % 9 == 0:
                db.compact()
        db.close()

    def test_what_is_left_is_a_state_at_or_past_the_last_sync(self) -> None:
        values = self.values()
        trial = CrashStorage()
        self.work(trial, [])
        for step in range(trial.steps + 1):
            durable = [0]
            storage = CrashStorage(steps_max=step)
            try:
                self.work(storage, durable)
            except PowerCut:
                pass
            for keep in ("none", "all", "torn", "random"):
                with self.subTest(step=step, keep=keep):
                    with OurDB("store", storage=storage.after_power_cut(step, keep)) as db:
                        self.assertIn(dict(db.items()), values[durable[-1] :])
                        db[7] = b"goes on"
                        self.assertEqual(db[7], b"goes on")


class DamageTest(StoreTest):
    """Flipped bits, cut files, foreign files."""

    def files(self) -> Iterator[str]:
        with OurDB(self.path, **SMALL) as db:
            for number in range(60):
                db[number % 20] = b"%d." % number * 40
            db.checkpoint()
            self.expected = dict(db.items())
        yield from sorted(os.listdir(self.path))

    def test_damaged_byte_gives_the_right_value_or_an_error(self) -> None:
        chance = random.Random(7)
        for name in list(self.files()):
            path = os.path.join(self.path, name)
            with open(path, "rb") as file:
                good = file.read()
            for place in [chance.randrange(len(good)) for _ in range(40)] if good else []:
                with self.subTest(name=name, place=place):
                    damaged = bytearray(good)
                    damaged[place] ^= 1 << chance.randrange(8)
                    self.put(path, bytes(damaged))
                    self.read()
            for length in (0, len(good) // 2, max(len(good) - 1, 0)):
                with self.subTest(name=name, length=length):
                    self.put(path, good[:length])
                    self.read()
            self.put(path, good)
        with OurDB(self.path) as db:
            self.assertEqual(dict(db.items()), self.expected)

    def put(self, path: str, data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)

    def read(self) -> None:
        try:
            with OurDB(self.path, "r") as db:
                for key, value in self.expected.items():
                    try:
                        self.assertEqual(db.get(key), value)
                    except CorruptionError:
                        pass
        except CorruptionError as error:
            self.assertIn(self.path, str(error))


class UseTest(StoreTest):
    """A call of each kind."""

    def test_second_writer_is_refused_and_reader_follows(self) -> None:
        with OurDB(self.path) as db, OurDB(self.path, "r") as reader:
            self.assertRaises(StoreLockedError, OurDB, self.path)
            db[1] = b"one"
            self.assertTrue(reader.refresh())
            self.assertEqual(dict(reader), {1: b"one"})

    def test_wrong_input_is_refused(self) -> None:
        with OurDB(self.path) as db:
            for key in (-1, 2**32, "1", True):
                self.assertRaises(InvalidArgumentError, db.set, key, b"x")
            self.assertRaises(InvalidArgumentError, db.set, 1, "text")
            self.assertRaises(RecordNotFoundError, db.delete, 1)
            self.assertEqual(len(db), 0)

    def test_batch_that_raises_changes_nothing(self) -> None:
        with OurDB(self.path) as db:
            with self.assertRaises(ZeroDivisionError), db.batch() as batch:
                batch.set(1, b"one")
                1 // 0  # noqa: B018
            self.assertEqual(dict(db), {})

    def test_history_and_feed_tell_what_was(self) -> None:
        with OurDB(self.path) as db:
            db[1] = b"a"
            db[1] = b"b"
            db.delete(1)
            db.sync()
            self.assertEqual([version.value for version in db.history(1)], [None, b"b", b"a"])
            self.assertEqual([commit.changes[0] for commit in db.changes()], [(1, b"a"), (1, b"b"), (1, None)])
            self.assertEqual(db.undelete(1), b"b")

    def test_threads_see_batches_whole(self) -> None:
        with OurDB(self.path, **SMALL) as db:
            db.set_many(dict.fromkeys(range(10), b"0"))
            seen: set[int] = set()
            done = threading.Event()

            def read() -> None:
                while not done.is_set():
                    seen.add(len(set(db.get_many(range(10)))))

            thread = threading.Thread(target=read)
            thread.start()
            for number in range(300):
                db.set_many(dict.fromkeys(range(10), b"%d" % number))
            done.set()
            thread.join()
            self.assertLessEqual(seen, {1})

    def test_failed_sync_ends_writing(self) -> None:
        storage = FaultyStorage(MemoryStorage())
        db = OurDB("store", storage=storage)
        db[1] = b"one"
        storage.kind, storage.number = "sync", storage.calls["sync"] + 1
        self.assertRaises(OSError, db.sync)
        self.assertRaises(StoreFailedError, db.set, 2, b"two")
        self.assertEqual(db[1], b"one")
        db.close()

    def test_dump_loads_into_another_store(self) -> None:
        with OurDB(self.path) as db, OurDB(self.path + "2") as other:
            db.set_many({key: b"%d" % key for key in range(100)})
            stream = io.BytesIO()
            self.assertEqual(db.dump(stream), 100)
            stream.seek(0)
            self.assertEqual(other.load(stream), 100)
            self.assertEqual(dict(other.items()), dict(db.items()))

    def test_verify_finds_nothing_wrong(self) -> None:
        with OurDB(self.path, **SMALL) as db:
            db.set_many({key: b"%d" % key * 30 for key in range(100)})
            self.assertTrue(db.verify(deep=True).ok)


def main(arguments: list[str]) -> int:
    """Run all of it; 0 where everything works."""
    if arguments:
        _places.append(os.path.abspath(arguments[0]))
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    return 0 if unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

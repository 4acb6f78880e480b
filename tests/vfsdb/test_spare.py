"""Memory that is used again: only when nobody looks at it, and never more than a bound."""

from __future__ import annotations

import random
import threading

from vfsdb.api import memory
from vfsdb.buffers import Buffer
from vfsdb.spare import SpareBlocks

BLOCK = 4096


def test_a_block_comes_back_and_is_lent_again() -> None:
    spare = SpareBlocks(8 * BLOCK)
    block = spare.take(BLOCK)
    assert block is not None
    assert len(block) == BLOCK
    spare.give(block)
    assert spare.take(BLOCK) is block
    assert spare.take(2 * BLOCK) is not block


def test_a_block_that_somebody_looks_at_is_not_lent_again() -> None:
    spare = SpareBlocks(8 * BLOCK)
    block = spare.take(BLOCK)
    assert block is not None
    with memoryview(block):
        spare.give(block)
        assert spare.take(BLOCK) is not block


def test_no_more_is_lent_than_the_bound_until_something_comes_back() -> None:
    spare = SpareBlocks(2 * BLOCK)
    lent = [spare.take(BLOCK), spare.take(BLOCK)]
    assert not spare.is_spent
    assert spare.take(BLOCK) is None
    assert spare.is_spent
    assert lent[0] is not None
    spare.give(lent[0])
    assert not spare.is_spent
    assert spare.take(BLOCK) is lent[0]


def test_what_was_lost_is_lent_again_when_nothing_is_lent() -> None:
    spare = SpareBlocks(BLOCK)
    spare.take(BLOCK)
    spare.settle()
    assert spare.take(BLOCK) is not None


def test_a_buffer_keeps_what_it_was_given_when_the_giver_changes_it() -> None:
    spare = SpareBlocks()
    buffer = Buffer(0, BLOCK, spare)
    data = bytearray(b"a" * (3 * BLOCK))
    buffer.write(data, 0)
    data[:] = b"b" * len(data)
    assert buffer.get(0, BLOCK) == b"a" * BLOCK
    buffer.write(memoryview(b"c" * 10), BLOCK + 5)
    assert buffer.get(BLOCK, 2 * BLOCK) == b"a" * 5 + b"c" * 10 + b"a" * (BLOCK - 15)


def test_a_copy_outlives_the_buffer_that_gives_its_memory_back() -> None:
    spare = SpareBlocks(BLOCK)
    buffer = Buffer(0, BLOCK, spare)
    buffer.write(bytearray(b"a" * BLOCK), 0)
    copy = buffer.copy()
    buffer.give_back()
    spare.settle()
    other = Buffer(0, BLOCK, spare)
    other.write(bytearray(b"b" * BLOCK), 0)
    assert copy.get(0, BLOCK) == b"a" * BLOCK


def test_streams_of_several_threads_keep_their_content_apart() -> None:
    chance = random.Random(5)
    contents = [chance.randbytes(7_000_001) for _ in range(4)]
    with memory(block_size=65536) as fs:

        def stream(number: int) -> None:
            content = memoryview(bytearray(contents[number]))
            with fs.open(f"/{number}", "wb", buffering=0) as file:
                for at in range(0, len(content), 200_000):
                    piece = bytearray(content[at : at + 200_000])
                    file.write(piece)
                    piece[:] = bytes(len(piece))

        threads = [threading.Thread(target=stream, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, content in enumerate(contents):
            assert fs.read_bytes(f"/{number}") == content

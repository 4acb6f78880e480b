"""The engine contract on every engine: in memory, over ourdb, and behind the double that makes commits fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vfsdb.contract.engines import BlockContract, HistoricContract, MetadataContract
from vfsdb.database import CommitUnknown, Conflict, Stores, Unavailable
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.testing import FaultyMetadataStore, faulty_stores


def close(stores: Stores) -> None:
    stores.metadata.close()
    stores.blocks.close()


class TestMemory(MetadataContract, HistoricContract, BlockContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return open_memory_stores()


class TestOurdb(MetadataContract, HistoricContract, BlockContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Stores]:
        stores = open_stores(tmp_path / "fs")
        yield stores
        close(stores)


class TestOurdbWithSmallSegments(MetadataContract, HistoricContract, BlockContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Stores]:
        stores = open_stores(tmp_path / "fs", metadata_segment_bytes=8192, data_segment_bytes=8192)
        yield stores
        close(stores)


class TestFaultyWithoutFaults(MetadataContract, BlockContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return faulty_stores(open_memory_stores(), {})


def test_faults_come_at_the_commit_they_were_asked_for() -> None:
    inner = open_memory_stores()
    store = FaultyMetadataStore(
        inner.metadata, {1: "conflict", 2: "unavailable", 3: "unknown-lost", 4: "unknown-happened"}
    )
    for error in (Conflict, Unavailable, CommitUnknown):
        with pytest.raises(error):
            store.commit({1: b"one"}, token=b"lost")
    assert (store.get(1), store.settle(b"lost")) == (None, None)
    with pytest.raises(CommitUnknown):
        store.commit({1: b"one"}, token=b"happened")
    assert (store.get(1), store.settle(b"happened")) == (b"one", store.version)
    assert store.commit({1: b"two"}, expect={1: store.version}) == store.version
    assert store.expected[-1] == {1: 1}


def test_a_lagging_store_is_durable_by_sync_alone() -> None:
    store = FaultyMetadataStore(open_memory_stores().metadata, {})
    version = store.commit({1: b"one"})
    assert store.durable_version < version
    store.sync()
    assert store.durable_version == version

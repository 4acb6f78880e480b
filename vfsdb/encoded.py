"""What a commit changed, as its store takes it: the bytes of each record, and the keys that have none left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfsdb import codecs
from vfsdb.records import COUNTERS_KEY, Counters, FreePage, Inode, Page
from vfsdb.state import ABSENT


def encoded(
    records: Mapping[int, Any], originals: Mapping[int, Any], counters: Counters
) -> tuple[dict[int, bytes], list[int]]:
    """Puts and deletes. What was not there by *originals* needs no delete."""
    puts: dict[int, bytes] = {}
    deletes: list[int] = []
    for key, record in records.items():
        kind = type(record)
        if kind is Inode:
            puts[key] = codecs.encode_inode(record)
        elif kind is Page:
            puts[key] = codecs.encode_page(record, record.record_type)
        elif kind is FreePage:
            puts[key] = codecs.encode_free_page(record)
        elif kind is dict:
            puts[key] = codecs.encode_xattrs(record)
        elif record is ABSENT and originals.get(key) is not ABSENT:
            deletes.append(key)
    puts[COUNTERS_KEY] = codecs.encode_counters(counters)
    return puts, deletes

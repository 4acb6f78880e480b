"""Commands on the store itself: mkfs, stats, compact, info, dump-record."""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections.abc import Iterator
from typing import Any

from vfsdb import api
from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_output import ExitCode, jsonable
from vfsdb.cli_text import escaped, iso_time, parse_size, short_size
from vfsdb.compacting import compact
from vfsdb.core import InodeFileSystem
from vfsdb.database import Compactable
from vfsdb.describe import describe
from vfsdb.errors import os_error
from vfsdb.remote import RemoteFileSystem


def run_mkfs(context: Context, arguments: argparse.Namespace) -> int:
    """Make an empty filesystem in a new directory."""
    try:
        block_size, inline_max = parse_size(arguments.block_size), parse_size(arguments.inline_max)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if os.path.lexists(context.store) and not os.path.isdir(context.store):
        raise os_error(errno.EEXIST, context.store, reason="this is a file; name a directory that is new")
    if os.path.isdir(context.store) and os.listdir(context.store):
        raise os_error(errno.EEXIST, context.store, reason="the directory is not empty; name a new one")
    with api.open(context.store, "c", block_size=block_size, inline_max=inline_max, label=arguments.label) as made:
        assert isinstance(made.filesystem, InodeFileSystem)
        superblock = made.filesystem.superblock
    record = {"path": context.store, "uuid": superblock.uuid.hex(), "block_size": block_size, "label": superblock.label}
    context.output.result(record, (f"made {escaped(context.store)}: block size {short_size(block_size)}",))
    return ExitCode.OK


_WORDS = {
    "live": "named now",
    "pinned": "kept for snapshots, readers and the retention rule",
    "dead": "seen by nobody",
    "reclaimable": "of the dead: what compact gives back at least",
}


def run_stats(context: Context, arguments: argparse.Namespace) -> int:
    """Show what takes the space of both stores: live, pinned, dead, reclaimable."""
    found = context.vfs.space()
    stores = {"metadata": found.metadata, "blocks": found.blocks, "total": found.total}
    fields: dict[str, Any] = {
        name: {f"{kind}_bytes": size for kind, size in store._asdict().items()} for name, store in stores.items()
    }
    counts = {"inodes": found.inodes, "blocks": found.block_count, "pending_blocks": found.pending_blocks}
    fields["counts"] = counts

    def lines() -> Iterator[str]:
        yield f"{'':<12}" + "".join(f"{name:>16}" for name in stores)
        for kind in found.total._fields:
            sizes = [getattr(store, kind) for store in stores.values()]
            shown = [short_size(size) if arguments.human else f"{-(-size // 1024):,} KiB" for size in sizes]
            yield f"{kind:<12}" + "".join(f"{size:>16}" for size in shown) + f"  {_WORDS.get(kind, 'on disk')}"
        for name, count in counts.items():
            yield f"{name.replace('_', ' '):<28}{count:>16,}"

    context.output.result(fields, lines())
    return ExitCode.OK


def run_compact(context: Context, arguments: argparse.Namespace) -> int:
    """Give the space of what was removed and overwritten back; ctrl-C stops it, and nothing is lost."""
    with context.output.stoppable() as bar:
        done = compact(context.vfs, bar, fold=not arguments.no_fold)
    words = f"{short_size(done.bytes_before)} -> {short_size(done.bytes_after)}"
    freed = short_size(max(0, done.bytes_before - done.bytes_after))
    rest = "" if done.finished else "; not finished, run it again to go on"
    context.output.result(done._asdict(), (f"{words}, {freed} came back{rest}",))
    return ExitCode.CANCELLED if context.output.bar.stopping else ExitCode.OK


def _read(context: Context) -> tuple[Any, InodeFileSystem]:
    """The store read by itself, beside whoever writes: its path API and its filesystem."""
    vfs = api.open(context.store, "r", follow=False)
    assert isinstance(vfs.filesystem, InodeFileSystem)
    return vfs, vfs.filesystem


def run_info(context: Context, arguments: argparse.Namespace) -> int:
    """Show the superblock, the counters, what the stores take on disk, and who writes."""
    vfs, filesystem = _read(context)
    with vfs:
        committed = filesystem.committed
        counters = {name: getattr(committed.counters, name) for name in committed.counters.__slots__}
        superblock = {name: getattr(committed.superblock, name) for name in committed.superblock.__slots__}
        superblock |= {name: value.hex() for name, value in superblock.items() if isinstance(value, bytes)}
        stores: dict[str, Any] = {}
        for name, store in (("metadata", committed.stores.metadata), ("blocks", committed.stores.blocks)):
            stores[name] = {"version": store.version, "key_max": store.key_max}
            if isinstance(store, Compactable):
                stores[name] |= store.usage()._asdict()
        found = {
            "path": context.store,
            "superblock": superblock,
            "counters": counters,
            "durable_version": committed.stores.metadata.durable_version,
            "stores": stores,
            "writer": _writer(context.store),
        }
    context.output.result(found, _info_lines(found))
    return ExitCode.OK


def _writer(store: str) -> dict[str, Any] | None:
    """The process that has it open for writing, where it answers."""
    try:
        remote = RemoteFileSystem(store)
    except OSError:  # nobody listens
        return None
    remote.close()
    return {"pid": remote.pid, "description": remote.description}


def _info_lines(found: dict[str, Any]) -> Iterator[str]:
    superblock, stores = found["superblock"], found["stores"]
    yield f"label               {escaped(superblock['label']) or '-'}"
    yield f"uuid                {superblock['uuid']}"
    yield f"made                {iso_time(superblock['created_ns'])}"
    yield f"block size          {superblock['block_size']}"
    yield f"inline up to        {superblock['inline_max']}"
    for name, value in found["counters"].items():
        yield f"{name.replace('_', ' '):<19} {value:,}"
    yield f"durable version     {found['durable_version']}"
    for name, store in stores.items():
        yield f"{name:<19} " + ", ".join(f"{field.replace('_', ' ')} {value:,}" for field, value in store.items())
    writer = found["writer"]
    yield "writer              " + (f"process {writer['pid']} ({escaped(writer['description'])})" if writer else "none")


def run_dump_record(context: Context, arguments: argparse.Namespace) -> int:
    """Show a metadata record, by its key or by a path, with the names of its fields."""
    vfs, filesystem = _read(context)
    with vfs:
        if arguments.record.isascii() and arguments.record.isdigit():
            key = int(arguments.record)
        else:
            key = vfs.lstat(context.path(arguments.record)).st_ino
        if key > filesystem.committed.stores.metadata.key_max:
            raise UsageError(f"{key} is no key: the largest is {filesystem.committed.stores.metadata.key_max}")
        data = filesystem.committed.stores.metadata.get(key)
        if data is None:
            raise os_error(errno.ENOENT, str(key), reason="there is no metadata record of this key")
        if arguments.raw:
            context.output.data(data)
            return ExitCode.OK
        found = describe(data, key, filesystem.committed.reader())
    context.output.result(found, _record_lines(found))
    return ExitCode.OK


def _record_lines(found: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _record_lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{name}:"
            for item in value:
                yield f"{indent}  " + ", ".join(f"{key} {_plain(part)}" for key, part in item.items())
        else:
            moment = f"  ({iso_time(value)})" if name.endswith("_ns") else ""
            yield f"{indent}{name:<14} {_plain(value)}{moment}"


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{value[:200]!r}" + (" …" if len(value) > 200 else "")
    return escaped(str(value)) if isinstance(value, str) else json.dumps(jsonable(value))

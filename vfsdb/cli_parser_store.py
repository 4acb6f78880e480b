"""Arguments of the commands for stores as a whole, and for mounts."""

from __future__ import annotations

import argparse

from vfsdb import cli_commands_fsck, cli_commands_mount, cli_commands_store
from vfsdb.cli_verbs import WAIT_SECONDS, Verbs, add_flags, count, seconds
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX


def add_store(verbs: Verbs, in_shell: bool) -> None:
    """``mkfs``, ``fsck``, ``stats``, ``compact``, ``info``, ``dump-record``."""
    module = cli_commands_store
    if not in_shell:
        mkfs = verbs.add("mkfs", module.run_mkfs, "store")
        size = "of files: a power of two from 4K to 4M"
        mkfs.add_argument("--block-size", metavar="SIZE", default=str(BLOCK_SIZE), help=size)
        inline = "files of at most so many bytes lie in their inode record"
        mkfs.add_argument("--inline-max", metavar="SIZE", default=str(INLINE_MAX), help=inline)
        mkfs.add_argument("--label", metavar="TEXT", default="", help="a name for people")
        _add_fsck(verbs.add("fsck", cli_commands_fsck.run_fsck, "store"))
    stats = verbs.add("stats", module.run_stats, "reading")
    add_flags(stats, ("-h --human-readable", "human", "sizes as 1.5K, 12M"))
    compact = verbs.add("compact", module.run_compact, "serving")
    add_flags(compact, ("--no-fold", "no_fold", "do not look for blocks that are partly dead: faster"))
    verbs.add("info", module.run_info, "store")
    dump = verbs.add("dump-record", module.run_dump_record, "store")
    dump.add_argument("record", metavar="RECORD", help="key of a metadata record, or a path")
    add_flags(dump, ("--raw", "raw", "its bytes as they are stored"))


def _add_fsck(fsck: argparse.ArgumentParser) -> None:
    add_flags(
        fsck,
        ("--repair", "repair", "mend what is wrong; what is dropped is kept in a file beside the stores"),
        ("--deep", "deep", "compare every checksum, not the structure alone"),
    )
    below = "look at what is below this path alone; may be given again"
    fsck.add_argument("--below", metavar="PATH", action="append", default=[], help=below)
    inode = "look at this inode alone; may be given again"
    fsck.add_argument("--inode", metavar="NUMBER", type=count, action="append", default=[], help=inode)
    resume = "keep what a stopped check had verified in this file of the host, and go on from there"
    fsck.add_argument("--resume", metavar="FILE", help=resume)
    give_up = "with --repair: this store is gone for good; go on without it"
    fsck.add_argument("--give-up", choices=("metadata", "data"), help=give_up)
    wait = "with --repair: wait so long for another writer (default: 5)"
    fsck.add_argument("--wait", type=seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)


def add_mounting(verbs: Verbs) -> None:
    """``mount``, ``umount``."""
    module = cli_commands_mount
    mount = verbs.add("mount", module.run_mount, "store")
    mount.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    words = "as mount -o has them: ro, allow_other, writeback, noatime, attr_timeout=SECONDS, …; may be given again"
    mount.add_argument("-o", dest="options", metavar="OPTIONS", action="append", default=[], help=words)
    add_flags(
        mount,
        ("-r --read-only", "read_only", "change nothing, and let others write"),
        ("--allow-other", "allow_other", "let other users in; each may do what permissions say"),
        ("-d --daemon", "daemon", "return when it is mounted, and serve in the background"),
    )
    wait = "wait so long for another writer (default: 5)"
    mount.add_argument("--wait", type=seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)
    mount.add_argument("--snapshot", metavar="NAME", default="", help="mount the state of a snapshot, read-only")
    mount.add_argument("--log", metavar="FILE", help="where messages go (default: stderr)")
    levels = "how much is told (default: warning)"
    mount.add_argument("--log-level", choices=module.LOG_LEVELS, default="warning", help=levels)
    umount = verbs.add("umount", module.run_umount, "store", store=False)
    umount.add_argument("mountpoint", metavar="MOUNTPOINT", help="where it is mounted")
    add_flags(umount, ("-l --lazy", "lazy", "at once, whoever still uses it"))

"""Arguments of the commands for earlier states, changes and backups."""

from __future__ import annotations

from vfsdb import cli_commands_changes, cli_commands_past, cli_moments
from vfsdb.cli_verbs import Verbs, add_flags, count, seconds


def add_past(verbs: Verbs) -> None:
    """``snapshot``, ``snapshots``, ``diff``, ``log``, ``restore``, ``undelete``, ``retention``."""
    module = cli_commands_past
    snapshot = verbs.add("snapshot", module.run_snapshot, "writing")
    snapshot.add_argument("name", metavar="NAME", help="1 to 200 characters, without /")
    add_flags(snapshot, ("--delete", "delete", "give it up"))
    verbs.add("snapshots", module.run_snapshots, "reading")
    diff = verbs.add("diff", module.run_diff, "reading")
    diff.add_argument("first", metavar="MOMENT", help=cli_moments.HELP)
    diff.add_argument("second", metavar="MOMENT", nargs="?", help="another one (default: now)")
    log = verbs.add("log", module.run_log, "reading")
    log.add_argument("path", metavar="PATH", help="a file or directory, or where one was")
    log.add_argument("-n", dest="number", metavar="N", type=count, help="at most so many versions")
    restore = verbs.add("restore", module.run_restore, "serving")
    restore.add_argument("path", metavar="PATH", help="what to restore; / is everything")
    restore.add_argument("--from", dest="moment", metavar="MOMENT", required=True, help=cli_moments.HELP)
    undelete = verbs.add("undelete", module.run_undelete, "serving")
    undelete.add_argument("path", metavar="PATH", help="what is gone")
    retention = verbs.add("retention", module.run_retention, "writing")
    words = "none, all, a number of commits, or an age as 12h or 7d (default: show it)"
    retention.add_argument("rule", metavar="RULE", nargs="?", help=words)


def add_changes(verbs: Verbs) -> None:
    """``changes``, ``watch``, ``backup``."""
    module = cli_commands_changes
    changes = verbs.add("changes", module.run_changes, "store")
    add_flags(changes, ("--visible", "visible", "those too that a power cut may take back"))
    watch = verbs.add("watch", module.run_watch, "store")
    watch.add_argument("path", metavar="PATH", nargs="?", default="/", help="file or directory (default: /)")
    add_flags(
        watch,
        ("-r --recursive", "recursive", "everything below, too"),
        ("--durable", "durable", "tell a change only when a power cut does not take it back"),
    )
    watch.add_argument("--timeout", type=seconds, metavar="SECONDS", help="end when nothing happened for so long")
    for verb in (changes, watch):
        since = "begin behind this version, as printed before (changes: default 0, the first one; watch: now)"
        verb.add_argument("--since", type=count, metavar="VERSION", help=since)
    backup = verbs.add("backup", module.run_backup, "store")
    backup.add_argument("target", metavar="TARGET", help="a new directory, or an earlier backup of this store")

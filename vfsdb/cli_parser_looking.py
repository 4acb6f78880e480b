"""Arguments of the commands that look: listings, attributes, space, ``find``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vfsdb import cli_commands_list, cli_commands_walk
from vfsdb.cli_commands_walk import KINDS
from vfsdb.cli_verbs import Verbs, add_flags, count


def add_looking(verbs: Verbs) -> None:
    """``ls``, ``tree``, ``stat``, ``du``, ``df``."""
    ls = verbs.add("ls", cli_commands_list.run_ls, "reading", past=True)
    ls.add_argument("paths", metavar="PATH", nargs="*", default=[], help="directories and files (default: /)")
    add_flags(
        ls,
        ("-l", "long", "mode, links, owner, group, size, time"),
        ("-a --all", "all", "names that start with a dot too"),
        ("-1", "one", "one name a line"),
        ("-R --recursive", "recursive", "directories below too"),
        ("-d --directory", "directory", "directories themselves, not what is in them"),
        ("-h --human-readable", "human", "sizes as 1.5K, 12M"),
        ("-i --inode", "inode", "inode numbers"),
        ("-n --numeric-uid-gid", "numeric", "owner and group as numbers"),
        ("-t", "by_time", "newest first"),
        ("-S", "by_size", "largest first"),
        ("-r --reverse", "reverse", "the other way round"),
    )
    tree = verbs.add("tree", cli_commands_walk.run_tree, "reading", past=True)
    tree.add_argument("path", metavar="PATH", nargs="?", default=".", help="where to begin (default: /)")
    tree.add_argument("-L", "--level", metavar="N", type=count, help="at most so deep")
    add_flags(tree, ("-a --all", "all", "names that start with a dot too"), ("-d", "directories", "directories alone"))
    stat = verbs.add("stat", cli_commands_list.run_stat, "reading", past=True)
    stat.add_argument("paths", metavar="PATH", nargs="+", help="what to look at")
    add_flags(stat, ("-L --dereference", "dereference", "what symbolic links lead to"))
    du = verbs.add("du", cli_commands_walk.run_du, "reading", past=True)
    du.add_argument("paths", metavar="PATH", nargs="*", default=[], help="files and trees (default: /)")
    add_flags(
        du,
        ("-s --summarize", "summarize", "one total for each PATH"),
        ("-a --all", "all", "files too, not directories alone"),
        ("-h --human-readable", "human", "sizes as 1.5K, 12M"),
        ("-b --bytes", "bytes", "bytes of content, not KiB of space"),
    )
    df = verbs.add("df", cli_commands_walk.run_df, "reading")
    add_flags(df, ("-h --human-readable", "human", "sizes as 1.5K, 12M"))


def add_find(verbs: Verbs) -> None:
    """``find``."""
    find = verbs.add("find", cli_commands_walk.run_find, "reading", past=True)
    find.add_argument("paths", metavar="PATH", nargs="*", default=[], help="where to begin (default: /)")
    find.add_argument("-name", metavar="PATTERN", help="the last name matches: * ? [a-z]")
    find.add_argument("-iname", metavar="PATTERN", help="the same, whatever the case")
    find.add_argument(
        "-type", metavar="KINDS", type=_kinds, help="f file, d directory, l symlink, p s b c; several: fl"
    )
    find.add_argument("-size", metavar="[+-]N[ckMG]", help="more (+), less (-) or just N units of 512 bytes, c: bytes")
    find.add_argument("-mtime", metavar="[+-]N", help="changed more, less or just N days ago")
    find.add_argument("-mmin", metavar="[+-]N", help="the same in minutes")
    find.add_argument("-newer", metavar="FILE", help="changed after FILE of the store was")
    find.add_argument("-maxdepth", metavar="N", type=count, help="at most so deep; 0 is PATH itself")
    find.add_argument("-mindepth", metavar="N", type=count, default=0, help="at least so deep")
    add_flags(
        find,
        ("-empty", "empty", "files of no bytes, directories of no entries"),
        ("-print0", "print0", "end each path with a NUL, for xargs -0"),
    )


def _kinds(text: str) -> Sequence[str]:
    kinds = text.replace(",", "")
    if not kinds or set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}: give letters of {''.join(KINDS)}, as f or fl")
    return kinds

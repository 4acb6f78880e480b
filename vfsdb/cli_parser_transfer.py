"""Arguments of the commands for trees and archives of the host."""

from __future__ import annotations

import argparse

from vfsdb import cli_commands_transfer
from vfsdb.cli_verbs import Verbs, add_flags


def add_transfers(verbs: Verbs) -> None:
    """``import``, ``export``."""
    module = cli_commands_transfer
    import_ = verbs.add("import", module.run_import, "serving")
    import_.add_argument("source", metavar="DIRECTORY", help="of the host")
    import_.add_argument("target", metavar="PATH", nargs="?", default="/", help="directory of the store (default: /)")
    export = verbs.add("export", module.run_export, "reading", past=True)
    export.add_argument("source", metavar="PATH", help="directory of the store")
    export.add_argument("target", metavar="DIRECTORY", help="of the host; made where it is missing")
    for verb in (import_, export):
        add_flags(verb, ("--update", "update", "leave files whose size and time are the same"))
        _add_selection(verb)


def add_tar(verbs: Verbs) -> None:
    """``tar``."""
    module = cli_commands_transfer
    tar = verbs.group("tar", "Tar archives: create, extract, list.")
    create = tar.add("create", module.run_tar_create, "reading", past=True)
    create.add_argument("source", metavar="PATH", help="directory of the store")
    create.add_argument("file", metavar="FILE", help="archive on the host; - is stdout")
    packed = create.add_mutually_exclusive_group()
    for names, compression in (("-z --gzip", "gz"), ("-j --bzip2", "bz2"), ("-J --xz", "xz")):
        packed.add_argument(
            *names.split(),
            dest="compression",
            action="store_const",
            const=compression,
            default="",
            help=f"compress it ({compression})",
        )
    extract = tar.add("extract", module.run_tar_extract, "serving")
    extract.add_argument("file", metavar="FILE", help="archive on the host; - is stdin")
    extract.add_argument("target", metavar="PATH", nargs="?", default="/", help="directory of the store (default: /)")
    trusted = "links that lead out of PATH, devices and set-id bits too: an archive of your own"
    add_flags(extract, ("--trusted", "trusted", trusted))
    for verb in (create, extract):
        _add_selection(verb)
    list_ = tar.add("list", module.run_tar_list, "store", store=False)
    list_.add_argument("file", metavar="FILE", help="archive on the host; - is stdin")


def _add_selection(verb: argparse.ArgumentParser) -> None:
    pattern = "PATTERN: of names, or with / of paths from the top; ** crosses directories; may be given again"
    verb.add_argument("--include", metavar="PATTERN", action="append", default=[], help=f"only these. {pattern}")
    verb.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help="not these, nor what is below")
    owners = verb.add_mutually_exclusive_group()
    owners.add_argument("--owners", action="store_true", help="keep owners (default: only as root)")
    owners.add_argument("--no-owners", action="store_true", help="do not keep owners")
    verb.add_argument("--stop", action="store_true", help="stop at the first error instead of going on")

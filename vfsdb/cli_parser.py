"""The command line as argparse has it, for ``vfsdb COMMAND STORE …`` and, without STORE, for the shell."""

from __future__ import annotations

import argparse

from vfsdb.cli_parser_attributes import add_attributes
from vfsdb.cli_parser_files import add_files, add_names
from vfsdb.cli_parser_looking import add_find, add_looking
from vfsdb.cli_parser_past import add_changes, add_past
from vfsdb.cli_parser_store import add_mounting, add_store
from vfsdb.cli_parser_transfer import add_tar, add_transfers
from vfsdb.cli_verbs import EPILOG, Parser, Verbs


def build(in_shell: bool = False) -> tuple[Parser, Verbs]:
    """The parser, and its verbs. In the shell there is no STORE, and no verb that makes or opens one."""
    parser = Parser(
        prog="vfsdb",
        description="Work in vfsdb filesystems from the command line.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = Verbs(parser, "COMMAND", in_shell)
    add_looking(verbs)
    add_find(verbs)
    add_files(verbs)
    add_names(verbs)
    add_attributes(verbs)
    add_transfers(verbs)
    add_tar(verbs)
    add_store(verbs, in_shell)
    add_past(verbs)
    if not in_shell:
        add_changes(verbs)
        add_mounting(verbs)
    return parser, verbs

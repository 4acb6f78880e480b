"""The command line as argparse has it, for ``vfsdb COMMAND STORE …`` and, without STORE, for the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, NoReturn

from vfsdb import (
    cli_commands_attributes,
    cli_commands_changes,
    cli_commands_files,
    cli_commands_fsck,
    cli_commands_list,
    cli_commands_mount,
    cli_commands_names,
    cli_commands_past,
    cli_commands_store,
    cli_commands_transfer,
    cli_commands_walk,
    cli_moments,
)
from vfsdb.cli_commands_walk import KINDS
from vfsdb.cli_context import Command
from vfsdb.cli_output import ExitCode
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX

Needs = Literal["reading", "writing", "serving", "store"]
"""What a command wants open before it runs. ``serving``: writing, for so long that others are served meanwhile;
``store``: nothing."""

EPILOG: Final = "exit codes: 0 done, 1 some of it failed, 8 operational error, 16 usage error, 32 cancelled"
WAIT_SECONDS: Final = 5.0


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors exit with 16."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class VerbParser(Parser):
    """The parser of a verb. Options may stand anywhere; their values may begin with ``-``, as in ``-size -10k``."""

    has_verbs = False  # of a group: what follows belongs to one of them

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever, with the options first, each tied to its value."""
        arguments = list(args or ())
        return super().parse_known_args(arguments if self.has_verbs else self._options_first(arguments), namespace)

    def _options_first(self, arguments: list[str]) -> list[str]:
        options: list[str] = []
        words: list[str] = []
        rest = iter(arguments)
        for argument in rest:
            action = self._option_string_actions.get(argument)
            if argument == "--":
                words += rest
            elif not argument.startswith("-") or argument == "-":
                words.append(argument)
            elif action is not None and action.nargs is None and (value := next(rest, None)) is not None:
                options.append(f"{argument}={value}")
            else:
                options.append(argument)
        return [*options, "--", *words] if any(word.startswith("-") for word in words) else options + words


class Verbs:
    """The subcommands of a parser; a verb's help is the first line of its function."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str, in_shell: bool) -> None:
        self._verbs = parser.add_subparsers(metavar=metavar, required=True, parser_class=VerbParser)
        self._in_shell = in_shell
        self.names: list[str] = []

    def add(
        self, name: str, command: Command, needs: Needs, *, store: bool = True, past: bool = False
    ) -> argparse.ArgumentParser:
        """A verb with what all have in common; the caller adds its own arguments. Without *store* it has no STORE.

        With *past* it can look at an earlier moment.
        """
        verb = self._made(name, (command.__doc__ or "").splitlines()[0])
        verb.set_defaults(command=command, needs=needs, prog=verb.prog)
        verb.add_argument("--json", action="store_true", help="print JSON alone on stdout")
        if not self._in_shell:
            if needs in ("writing", "serving"):
                wait = "wait so long for another writer (default: 5)"
                verb.add_argument("--wait", type=_seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)
            if past:
                verb.add_argument("--at", metavar="MOMENT", help=f"as it was then: {cli_moments.HELP}")
            if store:
                verb.add_argument("store", metavar="STORE", help="directory of the store")
        return verb

    def group(self, name: str, summary: str) -> Verbs:
        """Verbs of their own under *name*."""
        parser = self._made(name, summary)
        parser.has_verbs = True
        return Verbs(parser, "ACTION", self._in_shell)

    def _made(self, name: str, summary: str) -> VerbParser:
        """Only ``--help`` helps: ``-h`` means sizes for people, as in ls and du."""
        self.names.append(name)
        parser: VerbParser = self._verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--help", action="help", help="show this and exit")
        return parser


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
    _add_looking(verbs)
    _add_find(verbs)
    _add_files(verbs)
    _add_names(verbs)
    _add_attributes(verbs)
    _add_transfers(verbs)
    _add_tar(verbs)
    _add_store(verbs, in_shell)
    _add_past(verbs)
    if not in_shell:
        _add_changes(verbs)
        _add_mounting(verbs)
    return parser, verbs


def _flags(verb: argparse.ArgumentParser, *flags: tuple[str, str, str]) -> None:
    """Options that are on or off: ``-x --long``, destination, help."""
    for names, destination, text in flags:
        verb.add_argument(*names.split(), dest=destination, action="store_true", help=text)


def _add_looking(verbs: Verbs) -> None:
    ls = verbs.add("ls", cli_commands_list.run_ls, "reading", past=True)
    ls.add_argument("paths", metavar="PATH", nargs="*", default=[], help="directories and files (default: /)")
    _flags(
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
    tree.add_argument("-L", "--level", metavar="N", type=_count, help="at most so deep")
    _flags(tree, ("-a --all", "all", "names that start with a dot too"), ("-d", "directories", "directories alone"))
    stat = verbs.add("stat", cli_commands_list.run_stat, "reading", past=True)
    stat.add_argument("paths", metavar="PATH", nargs="+", help="what to look at")
    _flags(stat, ("-L --dereference", "dereference", "what symbolic links lead to"))
    du = verbs.add("du", cli_commands_walk.run_du, "reading", past=True)
    du.add_argument("paths", metavar="PATH", nargs="*", default=[], help="files and trees (default: /)")
    _flags(
        du,
        ("-s --summarize", "summarize", "one total for each PATH"),
        ("-a --all", "all", "files too, not directories alone"),
        ("-h --human-readable", "human", "sizes as 1.5K, 12M"),
        ("-b --bytes", "bytes", "bytes of content, not KiB of space"),
    )
    df = verbs.add("df", cli_commands_walk.run_df, "reading")
    _flags(df, ("-h --human-readable", "human", "sizes as 1.5K, 12M"))


def _add_find(verbs: Verbs) -> None:
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
    find.add_argument("-maxdepth", metavar="N", type=_count, help="at most so deep; 0 is PATH itself")
    find.add_argument("-mindepth", metavar="N", type=_count, default=0, help="at least so deep")
    _flags(
        find,
        ("-empty", "empty", "files of no bytes, directories of no entries"),
        ("-print0", "print0", "end each path with a NUL, for xargs -0"),
    )


def _add_files(verbs: Verbs) -> None:
    cat = verbs.add("cat", cli_commands_files.run_cat, "reading", past=True)
    cat.add_argument("paths", metavar="PATH", nargs="+", help="files")
    put = verbs.add("put", cli_commands_files.run_put, "serving")
    put.add_argument("sources", metavar="FILE", nargs="+", help="files of the host; - is stdin")
    put.add_argument("target", metavar="PATH", help="a file or a directory of the store")
    _flags(
        put,
        ("-a --append", "append", "add to the end of the file"),
        ("-p --preserve", "preserve", "times and all permission bits too"),
        ("--parents", "parents", "make the directories above PATH"),
    )
    get = verbs.add("get", cli_commands_files.run_get, "reading", past=True)
    get.add_argument("source", metavar="PATH", help="a file of the store")
    get.add_argument("target", metavar="FILE", nargs="?", help="where on the host (default: here); - is stdout")
    _flags(get, ("-p --preserve", "preserve", "times and all permission bits too"))
    truncate = verbs.add("truncate", cli_commands_files.run_truncate, "writing")
    truncate.add_argument(
        "-s", "--size", metavar="[+-]SIZE", required=True, help="as 0, 4096, 64K; + and -: by so much"
    )
    truncate.add_argument("paths", metavar="PATH", nargs="+", help="files; those that are missing are made")
    _flags(truncate, ("-c --no-create", "no_create", "make no files"))
    touch = verbs.add("touch", cli_commands_files.run_touch, "writing")
    touch.add_argument("paths", metavar="PATH", nargs="+", help="files; those that are missing are made")
    touch.add_argument(
        "-d", "--date", metavar="TIME", help="2026-03-01T12:00:00 (local unless it says +01:00) or @SECONDS"
    )
    touch.add_argument("-r", "--reference", metavar="FILE", help="the times of FILE of the store")
    _flags(
        touch,
        ("-c --no-create", "no_create", "make no files"),
        ("-h --no-dereference", "no_dereference", "symbolic links themselves"),
    )


def _add_names(verbs: Verbs) -> None:
    mkdir = verbs.add("mkdir", cli_commands_names.run_mkdir, "writing")
    mkdir.add_argument("paths", metavar="PATH", nargs="+", help="directories to make")
    mkdir.add_argument("-m", "--mode", metavar="MODE", help="permission bits, as chmod has them")
    _flags(mkdir, ("-p --parents", "parents", "those above it too; none is an error if it is there"))
    rmdir = verbs.add("rmdir", cli_commands_names.run_rmdir, "writing")
    rmdir.add_argument("paths", metavar="PATH", nargs="+", help="empty directories")
    _flags(rmdir, ("-p --parents", "parents", "those above it too"))
    rm = verbs.add("rm", cli_commands_names.run_rm, "writing")
    rm.add_argument("paths", metavar="PATH", nargs="+", help="what to remove")
    _flags(
        rm,
        ("-r -R --recursive", "recursive", "directories with all that is in them"),
        ("-f --force", "force", "what is missing is no error"),
    )
    mv = verbs.add("mv", cli_commands_names.run_mv, "writing")
    mv.add_argument("sources", metavar="PATH", nargs="+", help="what to rename")
    mv.add_argument("target", metavar="TARGET", help="the new name, or a directory to move into")
    _flags(
        mv,
        ("-n --no-clobber", "no_clobber", "replace nothing"),
        ("--exchange", "exchange", "both names change places"),
    )
    cp = verbs.add("cp", cli_commands_names.run_cp, "writing")
    cp.add_argument("sources", metavar="PATH", nargs="+", help="what to copy")
    cp.add_argument("target", metavar="TARGET", help="the name of the copy, or a directory to copy into")
    _flags(
        cp,
        ("-r -R --recursive", "recursive", "directories with all that is in them; links stay links"),
        ("-n --no-clobber", "no_clobber", "replace nothing"),
    )
    clone = verbs.add("clone", cli_commands_names.run_clone, "writing")
    clone.add_argument("source", metavar="PATH", help="a file or a directory")
    clone.add_argument("target", metavar="TARGET", help="the name of the clone, or a directory for it")
    clone.add_argument("--from", dest="moment", metavar="MOMENT", help=f"as it was then: {cli_moments.HELP}")
    _flags(clone, ("-P --no-dereference", "no_dereference", "a symbolic link itself"))
    ln = verbs.add("ln", cli_commands_names.run_ln, "writing")
    ln.add_argument("target", metavar="TARGET", help="what the link leads to")
    ln.add_argument("link", metavar="LINK", nargs="?", help="name of the link, or a directory for it")
    _flags(
        ln,
        ("-s --symbolic", "symbolic", "a symbolic link, which says TARGET as it is given"),
        ("-f --force", "force", "replace what has the name"),
        ("-n --no-dereference", "no_dereference", "a LINK that leads to a directory is replaced, not entered"),
    )


def _add_attributes(verbs: Verbs) -> None:
    module = cli_commands_attributes
    recursive = ("-R --recursive", "recursive", "all that is below too")
    chmod = verbs.add("chmod", module.run_chmod, "writing")
    chmod.add_argument("mode", metavar="MODE", help="as 644, 0755, u+x, go-w, a=rX")
    chmod.add_argument("paths", metavar="PATH", nargs="+", help="whose bits to change")
    _flags(chmod, recursive)
    chown = verbs.add("chown", module.run_chown, "writing")
    chown.add_argument("owner", metavar="OWNER[:GROUP]", help="numbers or names; :GROUP changes the group alone")
    chown.add_argument("paths", metavar="PATH", nargs="+", help="whose owner to change")
    _flags(chown, recursive, ("-h --no-dereference", "no_dereference", "symbolic links themselves"))
    own = ("-h --no-dereference", "no_dereference", "of a symbolic link itself")
    xattr = verbs.group("xattr", "Extended attributes of a file: get, set, list, remove.")
    get = xattr.add("get", module.run_xattr_get, "reading", past=True)
    get.add_argument("path", metavar="PATH", help="whose attribute")
    get.add_argument("name", metavar="NAME", help="user.NAME is meant where there is no dot")
    set_ = xattr.add("set", module.run_xattr_set, "writing")
    set_.add_argument("path", metavar="PATH", help="whose attribute")
    set_.add_argument("name", metavar="NAME", help="user.NAME is meant where there is no dot")
    set_.add_argument("value", metavar="VALUE", nargs="?", help="its text (default: stdin to its end)")
    only = set_.add_mutually_exclusive_group()
    only.add_argument("--create", action="store_true", help="it must be new")
    only.add_argument("--replace", action="store_true", help="it must be there")
    list_ = xattr.add("list", module.run_xattr_list, "reading", past=True)
    list_.add_argument("path", metavar="PATH", help="whose attributes")
    remove = xattr.add("remove", module.run_xattr_remove, "writing")
    remove.add_argument("path", metavar="PATH", help="whose attributes")
    remove.add_argument("names", metavar="NAME", nargs="+", help="user.NAME is meant where there is no dot")
    for verb in (get, set_, list_, remove):
        _flags(verb, own)
    acls = verbs.group("acl", "POSIX access control lists: get, set, remove.")
    acl_get = acls.add("get", module.run_acl_get, "reading", past=True)
    acl_get.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    acl_set = acls.add("set", module.run_acl_set, "writing")
    acl_set.add_argument("entries", metavar="ENTRIES", help="as user:1000:rw-,group::r-x,mask::r--")
    acl_set.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    _flags(acl_set, ("--replace", "replace", "these entries alone"))
    acl_remove = acls.add("remove", module.run_acl_remove, "writing")
    acl_remove.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    for verb in (acl_set, acl_remove):
        _flags(verb, ("-d --default", "default", "what a directory gives to what is made in it"))


def _add_transfers(verbs: Verbs) -> None:
    module = cli_commands_transfer
    import_ = verbs.add("import", module.run_import, "serving")
    import_.add_argument("source", metavar="DIRECTORY", help="of the host")
    import_.add_argument("target", metavar="PATH", nargs="?", default="/", help="directory of the store (default: /)")
    export = verbs.add("export", module.run_export, "reading", past=True)
    export.add_argument("source", metavar="PATH", help="directory of the store")
    export.add_argument("target", metavar="DIRECTORY", help="of the host; made where it is missing")
    for verb in (import_, export):
        _flags(verb, ("--update", "update", "leave files whose size and time are the same"))
        _add_selection(verb)


def _add_tar(verbs: Verbs) -> None:
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
    _flags(extract, ("--trusted", "trusted", trusted))
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


def _add_store(verbs: Verbs, in_shell: bool) -> None:
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
    _flags(stats, ("-h --human-readable", "human", "sizes as 1.5K, 12M"))
    compact = verbs.add("compact", module.run_compact, "serving")
    _flags(compact, ("--no-fold", "no_fold", "do not look for blocks that are partly dead: faster"))
    verbs.add("info", module.run_info, "store")
    dump = verbs.add("dump-record", module.run_dump_record, "store")
    dump.add_argument("record", metavar="RECORD", help="key of a metadata record, or a path")
    _flags(dump, ("--raw", "raw", "its bytes as they are stored"))


def _add_changes(verbs: Verbs) -> None:
    module = cli_commands_changes
    changes = verbs.add("changes", module.run_changes, "store")
    _flags(changes, ("--visible", "visible", "those too that a power cut may take back"))
    watch = verbs.add("watch", module.run_watch, "store")
    watch.add_argument("path", metavar="PATH", nargs="?", default="/", help="file or directory (default: /)")
    _flags(
        watch,
        ("-r --recursive", "recursive", "everything below, too"),
        ("--durable", "durable", "tell a change only when a power cut does not take it back"),
    )
    watch.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end when nothing happened for so long")
    for verb in (changes, watch):
        since = "begin behind this version, as printed before (changes: default 0, the first one; watch: now)"
        verb.add_argument("--since", type=_count, metavar="VERSION", help=since)
    backup = verbs.add("backup", module.run_backup, "store")
    backup.add_argument("target", metavar="TARGET", help="a new directory, or an earlier backup of this store")


def _add_past(verbs: Verbs) -> None:
    module = cli_commands_past
    snapshot = verbs.add("snapshot", module.run_snapshot, "writing")
    snapshot.add_argument("name", metavar="NAME", help="1 to 200 characters, without /")
    _flags(snapshot, ("--delete", "delete", "give it up"))
    verbs.add("snapshots", module.run_snapshots, "reading")
    diff = verbs.add("diff", module.run_diff, "reading")
    diff.add_argument("first", metavar="MOMENT", help=cli_moments.HELP)
    diff.add_argument("second", metavar="MOMENT", nargs="?", help="another one (default: now)")
    log = verbs.add("log", module.run_log, "reading")
    log.add_argument("path", metavar="PATH", help="a file or directory, or where one was")
    log.add_argument("-n", dest="number", metavar="N", type=_count, help="at most so many versions")
    restore = verbs.add("restore", module.run_restore, "serving")
    restore.add_argument("path", metavar="PATH", help="what to restore; / is everything")
    restore.add_argument("--from", dest="moment", metavar="MOMENT", required=True, help=cli_moments.HELP)
    undelete = verbs.add("undelete", module.run_undelete, "serving")
    undelete.add_argument("path", metavar="PATH", help="what is gone")
    retention = verbs.add("retention", module.run_retention, "writing")
    words = "none, all, a number of commits, or an age as 12h or 7d (default: show it)"
    retention.add_argument("rule", metavar="RULE", nargs="?", help=words)


def _add_mounting(verbs: Verbs) -> None:
    module = cli_commands_mount
    mount = verbs.add("mount", module.run_mount, "store")
    mount.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    words = "as mount -o has them: ro, allow_other, writeback, noatime, attr_timeout=SECONDS, …; may be given again"
    mount.add_argument("-o", dest="options", metavar="OPTIONS", action="append", default=[], help=words)
    _flags(
        mount,
        ("-r --read-only", "read_only", "change nothing, and let others write"),
        ("--allow-other", "allow_other", "let other users in; each may do what permissions say"),
        ("-d --daemon", "daemon", "return when it is mounted, and serve in the background"),
    )
    wait = "wait so long for another writer (default: 5)"
    mount.add_argument("--wait", type=_seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)
    mount.add_argument("--snapshot", metavar="NAME", default="", help="mount the state of a snapshot, read-only")
    mount.add_argument("--log", metavar="FILE", help="where messages go (default: stderr)")
    levels = "how much is told (default: warning)"
    mount.add_argument("--log-level", choices=module.LOG_LEVELS, default="warning", help=levels)
    umount = verbs.add("umount", module.run_umount, "store", store=False)
    umount.add_argument("mountpoint", metavar="MOUNTPOINT", help="where it is mounted")
    _flags(umount, ("-l --lazy", "lazy", "at once, whoever still uses it"))


def _add_fsck(fsck: argparse.ArgumentParser) -> None:
    _flags(
        fsck,
        ("--repair", "repair", "mend what is wrong; what is dropped is kept in a file beside the stores"),
        ("--deep", "deep", "compare every checksum, not the structure alone"),
    )
    below = "look at what is below this path alone; may be given again"
    fsck.add_argument("--below", metavar="PATH", action="append", default=[], help=below)
    inode = "look at this inode alone; may be given again"
    fsck.add_argument("--inode", metavar="NUMBER", type=_count, action="append", default=[], help=inode)
    resume = "keep what a stopped check had verified in this file of the host, and go on from there"
    fsck.add_argument("--resume", metavar="FILE", help=resume)
    give_up = "with --repair: this store is gone for good; go on without it"
    fsck.add_argument("--give-up", choices=("metadata", "data"), help=give_up)
    wait = "with --repair: wait so long for another writer (default: 5)"
    fsck.add_argument("--wait", type=_seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _kinds(text: str) -> Sequence[str]:
    kinds = text.replace(",", "")
    if not kinds or set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}: give letters of {''.join(KINDS)}, as f or fl")
    return kinds

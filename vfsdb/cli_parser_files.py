"""Arguments of the commands for files and names."""

from __future__ import annotations

from vfsdb import cli_commands_files, cli_commands_names, cli_moments
from vfsdb.cli_verbs import Verbs, add_flags


def add_files(verbs: Verbs) -> None:
    """``cat``, ``put``, ``get``, ``truncate``, ``touch``."""
    cat = verbs.add("cat", cli_commands_files.run_cat, "reading", past=True)
    cat.add_argument("paths", metavar="PATH", nargs="+", help="files")
    put = verbs.add("put", cli_commands_files.run_put, "serving")
    put.add_argument("sources", metavar="FILE", nargs="+", help="files of the host; - is stdin")
    put.add_argument("target", metavar="PATH", help="a file or a directory of the store")
    add_flags(
        put,
        ("-a --append", "append", "add to the end of the file"),
        ("-p --preserve", "preserve", "times and all permission bits too"),
        ("--parents", "parents", "make the directories above PATH"),
    )
    get = verbs.add("get", cli_commands_files.run_get, "reading", past=True)
    get.add_argument("source", metavar="PATH", help="a file of the store")
    get.add_argument("target", metavar="FILE", nargs="?", help="where on the host (default: here); - is stdout")
    add_flags(get, ("-p --preserve", "preserve", "times and all permission bits too"))
    truncate = verbs.add("truncate", cli_commands_files.run_truncate, "writing")
    truncate.add_argument(
        "-s", "--size", metavar="[+-]SIZE", required=True, help="as 0, 4096, 64K; + and -: by so much"
    )
    truncate.add_argument("paths", metavar="PATH", nargs="+", help="files; those that are missing are made")
    add_flags(truncate, ("-c --no-create", "no_create", "make no files"))
    touch = verbs.add("touch", cli_commands_files.run_touch, "writing")
    touch.add_argument("paths", metavar="PATH", nargs="+", help="files; those that are missing are made")
    touch.add_argument(
        "-d", "--date", metavar="TIME", help="2026-03-01T12:00:00 (local unless it says +01:00) or @SECONDS"
    )
    touch.add_argument("-r", "--reference", metavar="FILE", help="the times of FILE of the store")
    add_flags(
        touch,
        ("-c --no-create", "no_create", "make no files"),
        ("-h --no-dereference", "no_dereference", "symbolic links themselves"),
    )


def add_names(verbs: Verbs) -> None:
    """``mkdir``, ``rmdir``, ``rm``, ``mv``, ``cp``, ``clone``, ``ln``."""
    mkdir = verbs.add("mkdir", cli_commands_names.run_mkdir, "writing")
    mkdir.add_argument("paths", metavar="PATH", nargs="+", help="directories to make")
    mkdir.add_argument("-m", "--mode", metavar="MODE", help="permission bits, as chmod has them")
    add_flags(mkdir, ("-p --parents", "parents", "those above it too; none is an error if it is there"))
    rmdir = verbs.add("rmdir", cli_commands_names.run_rmdir, "writing")
    rmdir.add_argument("paths", metavar="PATH", nargs="+", help="empty directories")
    add_flags(rmdir, ("-p --parents", "parents", "those above it too"))
    rm = verbs.add("rm", cli_commands_names.run_rm, "writing")
    rm.add_argument("paths", metavar="PATH", nargs="+", help="what to remove")
    add_flags(
        rm,
        ("-r -R --recursive", "recursive", "directories with all that is in them"),
        ("-f --force", "force", "what is missing is no error"),
    )
    mv = verbs.add("mv", cli_commands_names.run_mv, "writing")
    mv.add_argument("sources", metavar="PATH", nargs="+", help="what to rename")
    mv.add_argument("target", metavar="TARGET", help="the new name, or a directory to move into")
    add_flags(
        mv,
        ("-n --no-clobber", "no_clobber", "replace nothing"),
        ("--exchange", "exchange", "both names change places"),
    )
    cp = verbs.add("cp", cli_commands_names.run_cp, "writing")
    cp.add_argument("sources", metavar="PATH", nargs="+", help="what to copy")
    cp.add_argument("target", metavar="TARGET", help="the name of the copy, or a directory to copy into")
    add_flags(
        cp,
        ("-r -R --recursive", "recursive", "directories with all that is in them; links stay links"),
        ("-n --no-clobber", "no_clobber", "replace nothing"),
    )
    clone = verbs.add("clone", cli_commands_names.run_clone, "writing")
    clone.add_argument("source", metavar="PATH", help="a file or a directory")
    clone.add_argument("target", metavar="TARGET", help="the name of the clone, or a directory for it")
    clone.add_argument("--from", dest="moment", metavar="MOMENT", help=f"as it was then: {cli_moments.HELP}")
    add_flags(clone, ("-P --no-dereference", "no_dereference", "a symbolic link itself"))
    ln = verbs.add("ln", cli_commands_names.run_ln, "writing")
    ln.add_argument("target", metavar="TARGET", help="what the link leads to")
    ln.add_argument("link", metavar="LINK", nargs="?", help="name of the link, or a directory for it")
    add_flags(
        ln,
        ("-s --symbolic", "symbolic", "a symbolic link, which says TARGET as it is given"),
        ("-f --force", "force", "replace what has the name"),
        ("-n --no-dereference", "no_dereference", "a LINK that leads to a directory is replaced, not entered"),
    )

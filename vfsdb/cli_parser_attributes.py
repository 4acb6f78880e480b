"""Arguments of the commands for modes, owners, extended attributes and access control lists."""

from __future__ import annotations

from vfsdb import cli_commands_attributes
from vfsdb.cli_verbs import Verbs, add_flags


def add_attributes(verbs: Verbs) -> None:
    """``chmod``, ``chown``, ``xattr`` and ``acl``."""
    module = cli_commands_attributes
    recursive = ("-R --recursive", "recursive", "all that is below too")
    chmod = verbs.add("chmod", module.run_chmod, "writing")
    chmod.add_argument("mode", metavar="MODE", help="as 644, 0755, u+x, go-w, a=rX")
    chmod.add_argument("paths", metavar="PATH", nargs="+", help="whose bits to change")
    add_flags(chmod, recursive)
    chown = verbs.add("chown", module.run_chown, "writing")
    chown.add_argument("owner", metavar="OWNER[:GROUP]", help="numbers or names; :GROUP changes the group alone")
    chown.add_argument("paths", metavar="PATH", nargs="+", help="whose owner to change")
    add_flags(chown, recursive, ("-h --no-dereference", "no_dereference", "symbolic links themselves"))
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
        add_flags(verb, own)
    acls = verbs.group("acl", "POSIX access control lists: get, set, remove.")
    acl_get = acls.add("get", module.run_acl_get, "reading", past=True)
    acl_get.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    acl_set = acls.add("set", module.run_acl_set, "writing")
    acl_set.add_argument("entries", metavar="ENTRIES", help="as user:1000:rw-,group::r-x,mask::r--")
    acl_set.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    add_flags(acl_set, ("--replace", "replace", "these entries alone"))
    acl_remove = acls.add("remove", module.run_acl_remove, "writing")
    acl_remove.add_argument("paths", metavar="PATH", nargs="+", help="whose list")
    for verb in (acl_set, acl_remove):
        add_flags(verb, ("-d --default", "default", "what a directory gives to what is made in it"))

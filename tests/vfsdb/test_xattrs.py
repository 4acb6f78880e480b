"""Where attributes are kept, and the flags and limits of setxattr(2)."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfsdb import xattrs
from vfsdb.interface import XATTR_CREATE, XATTR_REPLACE
from vfsdb.records import Inode


class Records:
    """The part of a write set that attributes need."""

    def __init__(self) -> None:
        self.made = Inode(20, 0o100644)
        self.records: dict[int, dict[bytes, bytes]] = {}

    def inode(self, ino: int) -> Inode:
        return self.made

    edit = inode

    def xattrs(self, key: int) -> dict[bytes, bytes]:
        return self.records[key]

    def put_xattrs(self, key: int, attributes: dict[bytes, bytes]) -> int:
        key = key or 30 + len(self.records)
        self.records[key] = attributes
        return key

    def drop_xattrs(self, key: int) -> None:
        del self.records[key]


NAMES = st.sampled_from([b"user.a", b"user.b", b"security.c", b"system.posix_acl_access"])
STEPS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=700), st.sampled_from([0, 1, 2])), max_size=20)


@given(STEPS)
def test_attributes_are_those_of_a_dict(steps: list[tuple[bytes, bytes | None, int]]) -> None:
    ws = Records()
    model: dict[bytes, bytes] = {}
    for name, value, flags in steps:
        there = name in model
        if value is None or flags == XATTR_REPLACE:
            refused = not there and errno.ENODATA
        else:
            refused = there and flags == XATTR_CREATE and errno.EEXIST
        if refused:
            with pytest.raises(OSError) as raised:
                xattrs.remove(ws, 20, name) if value is None else xattrs.put(ws, 20, name, value, flags)  # type: ignore[arg-type]
            assert raised.value.errno == refused
        elif value is None:
            xattrs.remove(ws, 20, name)  # type: ignore[arg-type]
            del model[name]
        else:
            xattrs.put(ws, 20, name, value, flags)  # type: ignore[arg-type]
            model[name] = value
        assert xattrs.names(ws, ws.made) == sorted(model)  # type: ignore[arg-type]
        assert {name: xattrs.get(ws, ws.made, name) for name in model} == model  # type: ignore[arg-type]
        assert all(name in ws.made.xattrs for name in model if name.startswith(b"system."))
        assert set(ws.records) == ({ws.made.xattrs_key} - {0}), "a record that nothing names"
        inline = sum(map(len, ws.made.xattrs)) + sum(map(len, ws.made.xattrs.values()))
        assert inline <= xattrs.INLINE_BYTES_MAX or any(name.startswith(b"system.") for name in ws.made.xattrs)


@pytest.mark.parametrize(("count", "size", "code"), [(1, 65537, errno.E2BIG), (16, 65536, errno.ENOSPC)])
def test_limits_are_named_and_change_nothing(count: int, size: int, code: int) -> None:
    ws = Records()
    for number in range(count - 1):
        xattrs.put(ws, 20, b"user.%d" % number, bytes(size))  # type: ignore[arg-type]
    before = xattrs.names(ws, ws.made)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="at most") as raised:
        xattrs.put(ws, 20, b"user.last", bytes(size))  # type: ignore[arg-type]
    assert raised.value.errno == code
    assert xattrs.names(ws, ws.made) == before  # type: ignore[arg-type]

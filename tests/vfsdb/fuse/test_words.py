"""The words behind ``-o``: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import errno

import pytest

from vfsdb.fuse import words


def test_words_become_options_of_the_mount_and_of_the_store() -> None:
    parsed = words.parse(
        ["ro,allow_other,entry_timeout=0.5", "max_write=64K,readahead=2M,fsname=a b", "snapdir=visible"]
    )
    assert parsed.mount == {
        "read_only": True,
        "allow_other": True,
        "entry_seconds": 0.5,
        "write_bytes_max": 65536,
        "readahead_bytes": 2 << 20,
        "source": "a b",
    }
    assert parsed.read_only and parsed.snapdir == "visible" and parsed.atime == "relatime" and parsed.flags == []


def test_later_word_counts() -> None:
    parsed = words.parse(["ro,noatime,nosuid", "rw,strictatime"])
    assert not parsed.read_only and parsed.atime == "strictatime" and parsed.flags == ["nosuid"]
    assert words.parse(["relatime,noatime"]).flags == ["noatime"]


def test_remount_takes_what_the_kernel_shows_of_a_mount() -> None:
    parsed = words.parse(
        ["ro,noatime,nosuid,remount,user_id=0,group_id=0,default_permissions,allow_other,max_read=4096"]
    )
    assert parsed.remount and parsed.remount_flags == ["nosuid", "noatime", "ro"]
    assert words.parse(["rw,noatime,remount,relatime"]).remount_flags == ["relatime"]


@pytest.mark.parametrize(
    "text", ["", ",", "defaults,nofail,_netdev,user=me,uhelper=hal,comment=x,x-systemd.automount,silent"]
)
def test_words_that_are_not_for_a_filesystem_are_passed_over(text: str) -> None:
    assert words.parse([text]) == words.MountWords()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nonsense", "no such mount option"),
        ("uid=1", "no such mount option"),
        ("snapdir=", "hidden or visible or off"),
        ("snapdir=x", "hidden or visible or off"),
        ("attr_timeout=soon", "seconds, 0 or more"),
        ("entry_timeout=-1", "seconds, 0 or more"),
        ("commit=0", "seconds, more than 0"),
        ("max_write=2M", "4K to 1M"),
        ("max_write=1", "4K to 1M"),
        ("readahead=x", "a size"),
    ],
)
def test_word_that_makes_no_sense_is_named_with_what_would(word: str, said: str) -> None:
    with pytest.raises(OSError) as caught:
        words.parse(["ro", f"noatime,{word}"])
    assert caught.value.errno == errno.EINVAL and caught.value.filename == word and said in str(caught.value)

#!/usr/bin/env python3
"""vfsdb on real input: the standard library of this Python as a tree of files, and a tree of all that is difficult.

Whatever vfsdb holds is compared with the files of the host: names, kinds, modes, times, link targets, and every byte.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from demo_steps import bar, check, disk_bytes, done, progress, step

import vfsdb

LEFT_OUT = ("site-packages", "dist-packages", "__pycache__")
EDITED = "/lib/json/__init__.py"
KILL_AFTER_FILES = 400


class Compared(NamedTuple):
    """What a comparison went through."""

    entries: int
    bytes: int


def demonstrate_filesystem(directory: Path) -> None:
    """The steps, in order."""
    library = Path(sysconfig.get_paths()["stdlib"])
    difficult = make_difficult_tree(directory / "difficult")
    store = directory / "library.vfs"
    with vfsdb.open(store, label="standard library") as fs:
        take_in(fs, library, difficult)
        look_around(fs, library)
        edit_in_transactions(fs)
    survive_a_kill(directory / "killed.vfs", library)
    with vfsdb.open(store) as fs:
        compact(fs, store)
        same_tree(fs, library, "/lib", "after compaction", except_for={EDITED})
        give_out(fs, directory / "exported", library, difficult)


def make_difficult_tree(top: Path) -> Path:
    """Links of all kinds, a hole, names that are no UTF-8, odd modes and times."""
    (top / "sub").mkdir(parents=True)
    (top / "file").write_bytes(b"content\n")
    os.link(top / "file", top / "sub" / "the same file")
    (top / "link").symlink_to("sub/../file")
    (top / "loop").symlink_to("loop")
    (top / "nowhere").symlink_to("/no/such/file")
    with open(top / "sparse", "wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    with open(os.fsencode(top) + b"/caf\xe9 \x01", "wb") as file:
        file.write(b"a name that is no UTF-8")
    os.mkfifo(top / "fifo", 0o640)
    (top / "secret").write_bytes(b"")
    (top / "secret").chmod(0o4701)
    (top / "sub").chmod(0o1755)
    os.utime(top / "file", ns=(1, 946_684_799_999_999_999))
    return top


def take_in(fs: vfsdb.VFS, library: Path, difficult: Path) -> None:
    """Import both trees, and compare."""
    step(f"Importing {library}, and a small tree of difficult things")
    start = time.monotonic()
    report = fs.import_tree(library, "/lib", exclude=LEFT_OUT, progress=bar)
    seconds = time.monotonic() - start
    done(
        f"{report.files:,} files, {report.directories:,} directories, {report.symlinks:,} links, "
        f"{report.size_bytes / 2**20:.1f} MiB in {seconds:.1f} s ({report.files / seconds:,.0f} files/s)"
    )
    fs.import_tree(difficult, "/difficult", progress=bar)
    start = time.monotonic()
    fs.sync()
    done(f"durable after {(time.monotonic() - start) * 1000:.0f} ms more")
    same_tree(fs, library, "/lib", "after the import")
    same_tree(fs, difficult, "/difficult", "the difficult tree")
    check(fs.samefile("/difficult/file", "/difficult/sub/the same file"), "a hard link became a file of its own")
    check(fs.stat("/difficult/sparse").st_blocks * 512 < 1 << 20, "the hole was filled")


def host_entries(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path relative to *top*, and attributes, of all that was imported."""
    for where, directories, files in os.walk(top):
        directories[:] = sorted(name for name in directories if name not in LEFT_OUT)
        for name in sorted(directories) + files:
            path = os.path.join(where, name)
            yield os.path.relpath(path, top), os.lstat(path)


def same_tree(
    fs: vfsdb.VFS, host: Path, top: str, when: str, except_for: set[str] | frozenset[str] = frozenset()
) -> Compared:
    """Compare the tree at *top* with the host's, entry by entry and byte by byte."""
    names: dict[str, set[str]] = {}
    entry_count = byte_count = 0
    for relative, found in host_entries(host):
        path = f"{top}/{relative}"
        names.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))
        entry_count += 1
        if entry_count % 200 == 0:
            progress(f"comparing: {entry_count:,} entries")
        if path not in except_for:
            byte_count += same_entry(fs, os.path.join(host, relative), path, found, when)
    for directory, expected in names.items():
        check(set(fs.listdir(directory)) == expected, f"{when}: {directory} has other names than on the host")
    done(f"{when}: {entry_count:,} entries and {byte_count / 2**20:.1f} MiB compared with the host: equal")
    return Compared(entry_count, byte_count)


def same_entry(fs: vfsdb.VFS, host: str, path: str, found: os.stat_result, when: str) -> int:
    """Compare one entry; the bytes of its content."""
    ours = fs.lstat(path)
    check(ours.st_mode == found.st_mode, f"{when}: {path!r} has mode {ours.st_mode:o}, on the host {found.st_mode:o}")
    if stat.S_ISLNK(found.st_mode):
        check(fs.readlink(path) == os.readlink(host), f"{when}: {path!r} leads elsewhere")
        return 0
    if not stat.S_ISREG(found.st_mode):
        return 0
    check(ours.st_mtime_ns == found.st_mtime_ns, f"{when}: {path!r} has another time of change")
    check(ours.st_size == found.st_size, f"{when}: {path!r} has {ours.st_size} bytes, on the host {found.st_size}")
    with open(host, "rb") as theirs, fs.open(path, "rb", buffering=0) as mine:
        while expected := theirs.read(1 << 22):
            check(mine.read(1 << 22) == expected, f"{when}: the content of {path!r} differs")
    return found.st_size


def look_around(fs: vfsdb.VFS, library: Path) -> None:
    """Listing, patterns and walks give what the host gives."""
    step("Listing, matching patterns and walking, each against the host")
    start = time.perf_counter()
    matched = fs.glob("/lib/**/*.py")
    milliseconds = (time.perf_counter() - start) * 1000
    on_host = {f"/lib/{name}" for name, found in host_entries(library) if name.endswith(".py")}
    check(set(matched) == on_host, "a pattern matches other files than on the host")
    done(f"**/*.py matches {len(matched):,} files, in {milliseconds:.0f} ms")
    start = time.perf_counter()
    walked = sum(len(directories) + len(files) for _, directories, files in fs.walk("/lib"))
    done(f"a walk meets {walked:,} entries, in {(time.perf_counter() - start) * 1000:.0f} ms")
    check(walked == sum(1 for _ in host_entries(library)), "a walk meets another number of entries")
    usage = fs.du("/lib")
    done(f"du: {usage.size_bytes / 2**20:.1f} MiB of content in {usage.files:,} files")
    largest = max(matched, key=fs.getsize)
    with fs.open(largest, encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    done(f"the largest is {largest}, {lines:,} lines")


def edit_in_transactions(fs: vfsdb.VFS) -> None:
    """One that is rolled back leaves no trace, one that commits is there as a whole."""
    step("Editing in a transaction that is rolled back, then in one that commits")
    before = fs.read_bytes(EDITED), sorted(fs.listdir("/lib/json")), fs.du("/")
    try:
        with fs.transaction():
            fs.write_text(EDITED, "# all gone\n")
            fs.rmtree("/lib/email")
            fs.rename("/lib/json", "/lib/yson")
            check(not fs.exists("/lib/email"), "a transaction does not see what it did")
            raise InterruptedError
    except InterruptedError:
        after = fs.read_bytes(EDITED), sorted(fs.listdir("/lib/json")), fs.du("/")
        check(after == before, "a transaction that was rolled back left something")
    done("rolled back: /lib/email and /lib/json are what they were")
    with fs.transaction():
        with fs.open(EDITED, "r+", encoding="utf-8") as file:
            text = file.read()
            file.seek(0)
            file.write("# edited\n" + text)
        fs.makedirs("/notes/today")
        fs.write_text("/notes/today/why.txt", "to see it committed\n")
        fs.symlink("../../lib/json/__init__.py", "/notes/today/what")
    check(fs.read_bytes("/notes/today/what") == b"# edited\n" + before[0], "what was committed is not there")
    done(f"committed: {EDITED} is edited, and /notes says why")


def survive_a_kill(store: Path, library: Path) -> None:
    """Another process imports and is killed with -9; what it leaves is whole, and the import goes on."""
    step("Killing a process with -9 in the middle of its import")
    command = [sys.executable, os.path.abspath(__file__), str(store), str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            progress(f"{line.strip()} entries imported there")
            if int(line) >= KILL_AFTER_FILES:
                break
        writer.send_signal(signal.SIGKILL)
    start = time.perf_counter()
    with vfsdb.open(store) as fs:
        milliseconds = (time.perf_counter() - start) * 1000
        there = whole = 0
        for relative, found in host_entries(library):
            if fs.lexists(f"/lib/{relative}"):
                there += 1
                if stat.S_ISREG(found.st_mode):
                    same_entry(fs, os.path.join(library, relative), f"/lib/{relative}", found, "after the kill")
                    whole += 1
        check(there > 0, "nothing was there after the kill")
        done(f"opened in {milliseconds:.1f} ms: {there:,} entries are there, and each of {whole:,} files is whole")
        report = fs.import_tree(library, "/lib", exclude=LEFT_OUT, update=True, progress=bar)
        done(f"the import went on: {report.skipped:,} files were there, {report.files:,} came to them")
        same_tree(fs, library, "/lib", "after going on")


def import_until_killed(store: str, library: str) -> None:
    """The other process: says how far it is."""

    def say(phase: str, at: int, total: int, unit: str) -> None:
        if phase == "importing":
            print(at, flush=True)

    with vfsdb.open(store) as fs:
        fs.import_tree(library, "/lib", exclude=LEFT_OUT, progress=say)


def compact(fs: vfsdb.VFS, store: Path) -> None:
    """Remove the largest directory, compact, and weigh the stores."""
    step("Removing what was written last, overwriting, and compacting")
    for number in range(3):
        fs.write_bytes("/notes/large", os.urandom(16 << 20))
        progress(f"16 MiB written, time {number + 1}")
    fs.unlink("/notes/large")
    fs.sync()
    before = disk_bytes(store)
    start = time.monotonic()
    vfsdb.compact(fs, progress=bar)
    after = disk_bytes(store)
    done(f"{before / 2**20:.1f} MiB -> {after / 2**20:.1f} MiB on disk in {time.monotonic() - start:.2f} s")
    check(before - after > 32 << 20, "compaction did not give back what was removed")


def give_out(fs: vfsdb.VFS, target: Path, library: Path, difficult: Path) -> None:
    """Export, and compare what came out with what went in."""
    step("Exporting everything, and comparing it with what went in")
    start = time.monotonic()
    report = fs.export_tree("/", target, progress=bar)
    done(f"{report.files:,} files, {report.size_bytes / 2**20:.1f} MiB in {time.monotonic() - start:.1f} s")
    for source, copy, edited in ((library, target / "lib", EDITED), (difficult, target / "difficult", "")):
        compared = 0
        for relative, found in host_entries(source):
            if f"/lib/{relative}" == edited:
                continue
            compared += 1
            same_on_host(os.path.join(source, relative), os.path.join(copy, relative), found)
        done(f"{compared:,} entries of {source.name} came out as they went in")
    first, second = target / "difficult" / "file", target / "difficult" / "sub" / "the same file"
    check(os.path.samefile(first, second), "a hard link came out as a file of its own")
    check(os.lstat(target / "difficult" / "sparse").st_blocks * 512 < 1 << 20, "the hole came out filled")


def same_on_host(source: str, copy: str, found: os.stat_result) -> None:
    """Compare two entries of the host."""
    ours = os.lstat(copy)
    check(ours.st_mode == found.st_mode, f"{copy!r} has mode {ours.st_mode:o}, its source {found.st_mode:o}")
    if stat.S_ISLNK(found.st_mode):
        check(os.readlink(copy) == os.readlink(source), f"{copy!r} leads elsewhere than its source")
    elif stat.S_ISREG(found.st_mode):
        check(ours.st_mtime_ns == found.st_mtime_ns, f"{copy!r} has another time than its source")
        with open(source, "rb") as one, open(copy, "rb") as other:
            while expected := one.read(1 << 22):
                check(other.read(1 << 22) == expected, f"{copy!r} differs from its source")


if __name__ == "__main__":
    import_until_killed(*sys.argv[1:3])

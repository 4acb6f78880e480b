"""Damage of the two stores as wholes: on disk, under every name that fsck goes by."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ourdb
import vfsdb
from tests.vfsdb.fsck import trees
from vfsdb import cli, cli_fsck
from vfsdb.errors import FormatError, StoreBusyError
from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.findings import Report
from vfsdb.fsck.run import fsck
from vfsdb.stores import ourdb_switch
from vfsdb.stores.ourdb_backup import PairBackup
from vfsdb.stores.ourdb_fsck import open_as_found

ROOT = Path(__file__).resolve().parents[3]
BIG = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filesystem on disk with one of everything."""
    path = tmp_path_factory.mktemp("made") / "fs"
    with vfsdb.open(path, block_size=trees.BLOCK, inline_max=100) as fs:
        trees.fill(fs)
        fs.write_bytes("/big", BIG)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made, tmp_path / "fs"))


def tree(path: Path) -> dict[str, Any]:
    """Content of every file, by path."""
    with vfsdb.open(path, "r", follow=False) as fs:
        return {
            f"{place.rstrip('/')}/{name}": fs.read_bytes(f"{place.rstrip('/')}/{name}")
            for place, _, names in fs.walk("/")
            for name in names
            if fs.isfile(f"{place.rstrip('/')}/{name}")
        }


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings if finding.severity != "note"}


def mended(path: Path, **options: Any) -> Report:
    """Repair; a second check finds nothing, and the filesystem opens for writing."""
    report = fsck(path, True, **options)
    assert report.left == [] and report.exit_code in (0, 1)
    assert codes(fsck(path, deep=True)) == set()
    with vfsdb.open(path, "w") as fs:
        fs.write_bytes("/after", BIG)
        assert fs.read_bytes("/after") == BIG
        fs.unlink("/after")
    assert codes(fsck(path, deep=True)) == set()
    return report


def test_a_sound_filesystem_is_clean_and_nothing_is_written(store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    for options in ({}, {"deep": True}, {"below": ["/deep"]}, {"inos": [1, 16, 20]}):
        report = fsck(store, **options)  # type: ignore[arg-type]
        assert report.ok and report.exit_code == 0 and report.complete, options
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


def test_swapped_stores_are_put_back(store: Path) -> None:
    wanted = tree(store)
    os.rename(store / "metadata", store / "aside")
    os.rename(store / "data", store / "metadata")
    os.rename(store / "aside", store / "data")
    assert codes(fsck(store)) == {"store.swapped"}
    mended(store)
    assert tree(store) == wanted


@pytest.mark.parametrize("moved", [1, 2])
def test_a_swap_that_was_cut_off_is_ended(store: Path, moved: int) -> None:
    wanted = tree(store)
    os.rename(store / "metadata", store / "aside")
    os.rename(store / "data", store / "metadata")
    os.rename(store / "aside", store / "data")
    os.rename(store / "metadata", store / "metadata.fsck-swap")
    if moved == 2:
        os.rename(store / "data", store / "metadata")
    mended(store)
    assert tree(store) == wanted


def test_the_block_store_of_another_filesystem_is_named_and_left_alone(store: Path, tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "other") as fs:
        fs.write_bytes("/x", BIG)
    shutil.rmtree(store / "data")
    shutil.copytree(tmp_path / "other" / "data", store / "data")
    assert codes(fsck(store)) & {"store.foreign"}
    report = fsck(store, True)
    assert report.exit_code == 4 and not report.repaired
    assert "store.foreign" in {finding.code for finding in report.left}


@pytest.mark.parametrize("name", ["metadata", "data"])
def test_a_missing_store_is_named(store: Path, name: str) -> None:
    shutil.rmtree(store / name)
    report = fsck(store, True)
    assert codes(report) == {"store.missing"} and report.exit_code == 4


def test_a_filesystem_without_its_blocks_goes_on_with_what_is_left(store: Path) -> None:
    wanted = tree(store)
    shutil.rmtree(store / "data")
    report = fsck(store, True, give_up="data")
    assert report.exit_code == 1 and report.left == []
    assert any("/big" in loss for loss in report.lost)
    mended_again = fsck(store, deep=True)
    assert mended_again.ok, [str(finding) for finding in mended_again.findings]
    after = tree(store)
    assert after.keys() == wanted.keys()
    assert after["/small"] == wanted["/small"] and after["/big"] == bytes(len(BIG))
    with vfsdb.open(store, "w") as fs:
        fs.write_bytes("/big", BIG)
    assert fsck(store, deep=True).ok and tree(store)["/big"] == BIG


def test_blocks_without_their_names_are_kept_and_the_filesystem_is_empty(store: Path) -> None:
    shutil.rmtree(store / "metadata")
    report = fsck(store, True, give_up="metadata")
    assert report.exit_code == 1 and report.left == []
    (kept,) = report.kept
    data = Path(kept).read_bytes()
    assert all(BIG[at : at + trees.BLOCK] in data for at in range(0, len(BIG), trees.BLOCK))
    assert fsck(store, deep=True).ok
    assert set(tree(store)) <= {"/lost+found"}


@pytest.mark.parametrize("name", ["metadata", "data"])
def test_giving_up_is_gone_on_with_where_it_was_cut_off(
    store: Path, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(store / name)
    (store / name).mkdir()
    with ourdb.OurDB(store / name, "c"):
        pass  # made, and nothing in it yet
    with pytest.raises(vfsdb.VFSError) if name == "metadata" else contextlib.nullcontext():
        fsck(store, True)
    assert fsck(store, True, give_up=name).left == []
    assert fsck(store, deep=True).ok


def test_what_is_there_is_not_given_up(store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    for name in ("metadata", "data"):
        with pytest.raises(OSError, match="there is a store"):
            fsck(store, True, give_up=name)
        with pytest.raises(OSError, match="a repair can give up"):
            fsck(store, give_up=name)
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before
    for name in ("metadata", "data"):
        for file in (store / name).iterdir():
            file.unlink()
    with pytest.raises(FileNotFoundError):
        fsck(store, True, give_up="data")


# -- a backup that was cut off while it took effect ----------------------------------------------------------------


@pytest.fixture
def cut_off(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup of *store* that was announced, and put in place in the metadata store alone."""
    target = tmp_path / "target"
    vfsdb.backup(store, target)
    with vfsdb.open(store, "w") as fs:
        fs.unlink("/big")
        fs.write_bytes("/later", BIG)
        fs.rename("/small", "/renamed")
    with monkeypatch.context() as patched:

        def announced(pair: PairBackup) -> None:
            ourdb_switch.announce(str(target), (pair._metadata.staged.data, pair._blocks.staged.data))
            pair._metadata.switch()
            raise KeyboardInterrupt

        patched.setattr(PairBackup, "switch", announced)
        with pytest.raises(KeyboardInterrupt):
            vfsdb.backup(store, target)
    return target


def test_a_switch_that_was_cut_off_is_read_as_done_and_a_repair_ends_it(store: Path, cut_off: Path) -> None:
    before = {file: file.read_bytes() for file in cut_off.rglob("*") if file.is_file()}
    report = fsck(cut_off, deep=True)
    assert report.ok and {finding.code for finding in report.findings} == {"switch.pending"}
    assert {file: file.read_bytes() for file in cut_off.rglob("*") if file.is_file()} == before
    report = fsck(cut_off, True)
    assert report.exit_code == 1 and not (cut_off / "SWITCH").exists()
    report = fsck(cut_off, deep=True)
    assert report.exit_code == 0 and report.findings == []
    assert tree(cut_off) == tree(store)
    vfsdb.backup(store, cut_off)


def test_a_switch_that_cannot_be_read_is_set_aside(store: Path, cut_off: Path) -> None:
    data = bytearray((cut_off / "SWITCH").read_bytes())
    data[60] ^= 1
    (cut_off / "SWITCH").write_bytes(data)
    with pytest.raises(vfsdb.CorruptionError):
        vfsdb.open(cut_off, "r")
    assert "switch.damaged" in codes(fsck(cut_off))
    report = mended(cut_off)  # one store is of each backup
    assert str(cut_off / "SWITCH.damaged") in report.kept and (cut_off / "SWITCH.damaged").read_bytes() == data
    after = tree(cut_off)
    assert after["/renamed"] == tree(store)["/renamed"]


def test_repairs_come_one_after_the_other(store: Path) -> None:
    broken(store)
    command = [sys.executable, str(ROOT / "tools" / "fsck.py"), "--repair", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(2)]
    ends = [(one.communicate(timeout=60)[0], one.returncode) for one in both]
    assert sorted(code for _, code in ends) == [0, 1], ends
    assert fsck(store, deep=True).ok


def test_a_label_that_names_another_metadata_store_is_written_again() -> None:
    stores = trees.filled()
    stores.blocks.join(b"another's uuid, ")
    assert set(trees.codes(stores)) == {"store.label"}
    assert trees.repaired(stores).left == []
    assert trees.codes(stores) == {} and stores.blocks.partner == stores.metadata.uuid


def test_a_damaged_record_that_only_a_deep_check_sees_is_mended(store: Path) -> None:
    with vfsdb.open(store, "r") as fs:
        fs.read_bytes("/small")
    segment = next((store / "metadata").glob("segment-*.log"))
    data = bytearray(segment.read_bytes())
    at = data.rindex(b"inline")
    data[at] ^= 1
    segment.write_bytes(data)
    assert not fsck(store).ok
    mended(store)


def test_what_is_no_filesystem_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fsck(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        fsck(tmp_path / "empty")


def changed_copy(store: Path, tmp_path: Path) -> Path:
    """What the store was before files were changed, added and removed, and their blocks used again."""
    old = Path(shutil.copytree(store, tmp_path / "old"))
    with vfsdb.open(store, "w") as fs:
        fs.unlink("/big")
        fs.sync()
        fs.write_bytes("/deep/blocks", BIG[: 3 * trees.BLOCK])
        for number in range(20):
            fs.write_bytes(f"/deep/new {number}", BIG[: number * 1000])
        fs.sync()
        fs.filesystem.syncfs()
        fs.write_bytes("/last", BIG)
    return old


def test_an_older_copy_of_the_blocks_leaves_holes_that_are_named(store: Path, tmp_path: Path) -> None:
    wanted = tree(store)
    old = changed_copy(store, tmp_path)
    shutil.rmtree(store / "data")
    shutil.move(old / "data", store / "data")
    found = codes(fsck(store))
    assert "store.old-blocks" in found and found & {"block.missing", "block.stale"}
    report = mended(store)
    assert any("/last" in loss for loss in report.lost)
    after = tree(store)
    untouched = set(wanted) - {"/big", "/deep/blocks", *(f"/deep/er/est/name {n}" for n in range(12))}
    assert {path: after[path] for path in untouched} == {path: wanted[path] for path in untouched}


def test_an_older_copy_of_the_metadata_is_gone_on_with(store: Path, tmp_path: Path) -> None:
    wanted = tree(store)
    old = changed_copy(store, tmp_path)
    shutil.rmtree(store / "metadata")
    shutil.move(old / "metadata", store / "metadata")
    assert codes(fsck(store)) & {"store.old-metadata", "block.missing", "block.stale"}
    mended(store)
    after = tree(store)
    untouched = set(wanted) - {"/big", "/deep/blocks", *(f"/deep/er/est/name {n}" for n in range(12))}
    assert {path: after[path] for path in untouched} == {path: wanted[path] for path in untouched}


@pytest.mark.parametrize("seed", range(6 if os.environ.get("OURDB_TORTURE") is None else 60))
@pytest.mark.parametrize("name", ["metadata", "data"])
def test_flipped_bytes_on_disk_are_found_by_a_deep_check_and_mended(store: Path, name: str, seed: int) -> None:
    wanted = tree(store)
    segment = max((store / name).glob("segment-*.log"), key=lambda file: file.stat().st_size)
    data = bytearray(segment.read_bytes())
    used = len(bytes(data).rstrip(b"\0"))
    at = 200 + (used - 200) * (seed * 7 + 3) // 450 if name == "metadata" else 5000 + 9001 * seed % (used - 5000)
    data[at] ^= 0x40
    segment.write_bytes(data)
    report = fsck(store, deep=True)
    if report.ok:
        assert tree(store) == wanted  # a byte that nobody reads
        return
    report = mended(store, deep=True)
    after = tree(store)
    changed = {path for path, content in wanted.items() if after.get(path) != content}
    if changed:
        assert report.lost
    if name == "data":
        assert len({wanted[path] for path in changed}) <= 2  # a file and its clone


def test_beside_a_writer_a_check_sees_one_moment_and_a_repair_waits(store: Path) -> None:
    script = """
import sys, vfsdb
with vfsdb.open(sys.argv[1], "w") as fs:
    fs.write_bytes("/during", bytes(100000)); fs.sync()
    print("ready", flush=True)
    number = 0
    while number < 4000:
        fs.write_bytes(f"/during {number % 7}", bytes(5000 + number)); number += 1
        if number % 50 == 0: fs.sync()
        if number > 1000 and not sys.stdin.isatty():
            import select
            if select.select([sys.stdin], [], [], 0)[0]: break
"""
    command = [sys.executable, "-c", script, str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as writer:
        try:
            assert writer.stdout is not None and writer.stdin is not None
            assert writer.stdout.readline() == b"ready\n"
            for deep in (False, True, False):
                report = fsck(store, deep=deep)
                assert codes(report) == set(), [str(finding) for finding in report.findings]
            with pytest.raises(StoreBusyError):
                fsck(store, True)
            writer.stdin.write(b"end\n")
            writer.stdin.close()
            assert writer.wait(60) == 0
        finally:
            writer.kill()
    assert codes(fsck(store, deep=True)) == set()


@pytest.mark.parametrize("moment", ["between", "behind"])
def test_what_is_written_while_a_check_opens_the_stores_is_no_damage(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, opening = tmp_path / "small", ourdb.OurDB
    with vfsdb.open(store, serve=False, block_size=4096, metadata_segment_bytes=1 << 14) as fs:
        fs.write_bytes("/big", BIG)
        fs.sync()

        def opened(directory: str, *arguments: Any, **options: Any) -> ourdb.OurDB:
            def change() -> None:
                if str(directory).endswith("metadata") and not fs.exists("/new"):
                    fs.write_bytes("/new", BIG)
                    fs.unlink("/big")
                    fs.sync()
                    for number in range(300):  # the log of the metadata rolls: what is in a sealed segment is durable
                        fs.write_bytes(f"/{number}", b"to fill what is there" * 9)
                    fs.sync()

            if moment == "between":
                change()
            made = opening(directory, *arguments, **options)
            if moment == "behind":
                change()
            return made

        monkeypatch.setattr("vfsdb.stores.ourdb_fsck.OurDB", opened)
        stores = open_as_found(str(store / "metadata"), str(store / "data"), str(store), write=False)
        assert fs.exists("/new")
        check = check_stores(stores, deep=True)
        check.source.close()
        stores.metadata.close()
        stores.blocks.close()
        assert [str(finding) for finding in check.findings] == []


def test_a_check_in_the_process_that_writes_sees_what_is_committed(store: Path) -> None:
    with vfsdb.open(store, "w") as fs:
        fs.write_bytes("/during", BIG)
        fs.sync()
        assert fsck(store).ok
        with pytest.raises(StoreBusyError):
            fsck(store, True)


def test_a_stopped_check_goes_on_where_it_was(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    phases: list[str] = []

    def stop(phase: str, done: int, total: int, unit: str) -> bool:
        phases.append(phase)
        return not phase.startswith("data store")

    report = fsck(store, deep=True, resume=place, progress=stop)
    assert not report.complete and report.ok and place.exists()
    again: list[str] = []
    report = fsck(store, deep=True, resume=place, progress=lambda phase, *_: again.append(phase))
    assert report.complete and report.ok and not place.exists()
    assert any(phase.startswith("metadata store") for phase in phases)
    assert not any(phase.startswith("metadata store") for phase in again)
    place.write_text("something else")
    with pytest.raises(FormatError):
        fsck(store, resume=place)


def test_progress_may_stop_a_check_in_each_phase(store: Path) -> None:
    phases: list[str] = []
    assert fsck(store, deep=True, progress=lambda phase, *_: phases.append(phase)).ok
    for wanted in dict.fromkeys(phases):

        def stop(phase: str, done: int, total: int, unit: str, wanted: str = wanted) -> bool:
            return phase != wanted

        report = fsck(store, deep=True, progress=stop)
        assert not report.complete, wanted


def test_a_path_alone_is_checked(store: Path) -> None:
    with vfsdb.open(store, "r") as fs:
        ino = fs.lstat("/deep/blocks").st_ino
    assert fsck(store, below=["/deep/er"]).ok
    with pytest.raises(FileNotFoundError):
        fsck(store, below=["/nowhere"])
    with pytest.raises(vfsdb.VFSError, match="whole"):
        fsck(store, True, inos=[ino])


# -- the command -------------------------------------------------------------------------------------------------


def broken(store: Path) -> None:
    """The root directory is gone."""
    stores = vfsdb.api.open_stores(store, "w")
    stores.metadata.commit({}, [1])
    stores.metadata.close()
    stores.blocks.close()


def test_the_commands_exit_as_fsck_does(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(store)
    assert cli.main(["fsck", name]) == 0
    assert capsys.readouterr().out.startswith("clean (")
    broken(store)
    assert cli_fsck.run(["-n", "-f", name]) == 4
    found = capsys.readouterr().out
    assert "root.missing" in found and "a repair would:" in found and "--repair mends them" in found
    assert cli.main(["fsck", name, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["exit_code"] == 4
    assert cli_fsck.run(["-p", name]) == 1
    assert "repaired" in capsys.readouterr().out
    assert cli_fsck.run([name]) == 0
    assert cli_fsck.run(["-n", "-y", name]) == 16
    assert cli.main(["fsck", name + " none"]) == 8


def test_the_script_needs_no_installation(store: Path) -> None:
    command = [sys.executable, "-E", str(ROOT / "tools" / "fsck.py"), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.startswith("clean ("), done.stderr

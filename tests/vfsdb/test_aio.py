"""The asynchronous twin: the same names and results, tasks in and beside transactions, cancellation at any moment."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import inspect
import io
import os
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from vfsdb import aio
from vfsdb.database import Retention
from vfsdb.posix import VFS


def run_async(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test in an event loop of its own, in which nothing is left over."""

    @wraps(test)
    def call(*arguments: Any, **options: Any) -> None:
        async def alone() -> None:
            await asyncio.wait_for(test(*arguments, **options), 60)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        before = threading.active_count()
        asyncio.run(alone())
        assert threading.active_count() <= before + 1  # a store of this process may have one

    return call


class Gate:
    """Holds threads up at a place, and tells when one is there."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def wait(self) -> None:
        """Called by the thread."""
        self._reached.set()
        assert self._opened.wait(30)

    def open(self) -> None:
        self._opened.set()

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait, 30)

    def before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def held(*arguments: Any, **options: Any) -> Any:
            self.wait()
            return method(*arguments, **options)

        return held

    def after(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def held(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            self.wait()
            return result

        return held


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_free(fs: aio.AsyncVFS) -> bool:
    """Whether no transaction is open: another writer does not wait."""
    async with asyncio.timeout(30):
        await fs.write_text("/free", "")
    return True


# -- the same names ----------------------------------------------------------------------------------------------------


def test_every_method_has_a_twin_with_the_same_arguments() -> None:
    for name, member in vars_of(VFS).items():
        if name in ("path", "filesystem"):
            continue
        twin = getattr(aio.AsyncVFS, name)
        if isinstance(member, property):
            assert isinstance(twin, property)
            continue
        wanted = list(inspect.signature(member).parameters.values())[1:]
        given = list(inspect.signature(twin).parameters.values())[1:]
        assert [(one.name, one.default, one.kind) for one in given] == [
            (one.name, one.default, one.kind) for one in wanted
        ], name
        assert (twin.__doc__ or "").strip(), name


def vars_of(cls: type) -> dict[str, Any]:
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


@run_async
async def test_example(tmp_path: Path) -> None:
    async with await aio.open(tmp_path / "store") as fs:
        await fs.makedirs("/a/b")
        assert await fs.write_text("/a/b/f", "one\ntwo\n") == 8
        async with fs.open("/a/b/f") as file:
            assert [line async for line in file] == ["one\n", "two\n"]
        assert await fs.glob("/**/f") == ["/a/b/f"]
    async with aio.open(tmp_path / "store", "w") as fs:
        assert await fs.read_text("/a/b/f") == "one\ntwo\n"


@run_async
async def test_files_do_what_files_do() -> None:
    async with aio.memory() as fs:
        file = await fs.open("/f", "w+b")
        assert (file.name, file.mode, file.closed) == ("/f", "rb+", False)
        assert file.readable() and file.writable() and file.seekable()
        assert await file.write(b"0123456789\nabc") == 14
        await file.writelines([b"\n", b"end"])
        assert (await file.tell(), await file.seek(4), await file.read(3)) == (18, 4, b"456")
        assert (await file.readline(), await file.readlines()) == (b"789\n", [b"abc\n", b"end"])
        buffer = bytearray(4)
        await file.seek(-3, os.SEEK_END)
        assert await file.readinto(buffer) == 3 and buffer == b"end\0"
        await file.truncate(5)
        await file.flush()
        assert await fs.getsize("/f") == 5
        await file.close()
        await file.close()
        assert file.closed
        with pytest.raises(ValueError):
            await file.read()


@run_async
async def test_listings_are_iterated() -> None:
    async with aio.memory() as fs:
        await fs.makedirs("/d/e/f")
        await fs.write_text("/d/g", "12")
        await fs.symlink("e", "/d/l")
        assert [level async for level in fs.walk("/d")] == list(fs.vfs.walk("/d"))
        async for _, directories, _ in fs.walk("/d"):
            directories.clear()  # steers the walk
        assert [path async for path in fs.iglob("/d/*")] == ["/d/e", "/d/g", "/d/l"]
        async with fs.scandir("/d") as entries:
            found = {entry.name: entry async for entry in entries}
        assert {name: await entry.is_dir() for name, entry in found.items()} == {"e": True, "g": False, "l": True}
        assert await found["g"].is_file() and (await found["g"].stat()).st_size == 2
        assert found["l"].is_symlink() and not await found["l"].is_dir(follow_symlinks=False)
        assert os.fspath(found["g"]) == "/d/g" and found["g"].inode() == (await fs.stat("/d/g")).st_ino
        with pytest.raises(FileNotFoundError):
            async for _ in fs.scandir("/missing"):
                raise AssertionError


@run_async
async def test_errors_are_the_same_and_so_are_users() -> None:
    async with aio.memory() as fs:
        with pytest.raises(FileNotFoundError) as caught:
            await fs.read_text("/missing")
        assert caught.value.filename == "/missing"
        user = fs.as_user(1000, 1000)
        assert user.caller.uid == 1000 and not user.read_only
        with pytest.raises(PermissionError):
            await user.mkdir("/d")
        with pytest.raises(TypeError):
            await fs.mkdir()


@run_async
async def test_trees_and_archives_come_in_and_go_out(tmp_path: Path) -> None:
    (tmp_path / "host/d").mkdir(parents=True)
    (tmp_path / "host/d/f").write_text("content")
    async with aio.memory() as fs:
        assert (await fs.import_tree(tmp_path / "host", "/t")).files == 1
        out = io.BytesIO()
        await fs.export_tar("/t", out)
        out.seek(0)
        await fs.import_tar(out, "/again")
        await fs.export_tree("/again", tmp_path / "made")
        assert (tmp_path / "made/d/f").read_text() == "content"


@run_async
async def test_view_stays_as_it_was(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "store") as fs:
        await fs.write_text("/f", "old")
        async with await fs.view() as view:
            await fs.write_text("/f", "new")
            assert (await view.read_text("/f"), view.read_only) == ("old", True)
        assert await fs.read_text("/f") == "new"


# -- transactions ------------------------------------------------------------------------------------------------------


@run_async
async def test_transaction_is_whole_and_other_tasks_are_outside() -> None:
    async with aio.memory() as fs:
        entered, looked = asyncio.Event(), asyncio.Event()

        async def outside() -> None:
            await entered.wait()
            assert await fs.listdir("/") == []
            looked.set()
            await fs.write_text("/other", "")  # waits
            assert sorted(await fs.listdir("/")) == ["a", "b", "other"]

        other = asyncio.create_task(outside())
        async with fs.transaction():
            await fs.write_text("/a", "")
            async with fs.open("/b", "w") as file:
                await file.write("b")
            assert sorted(await fs.listdir("/")) == ["a", "b"]
            entered.set()
            await looked.wait()
            assert sorted(await fs.listdir("/")) == ["a", "b"]
        await other


@run_async
async def test_exception_rolls_back_and_comes_through() -> None:
    async with aio.memory() as fs:
        with pytest.raises(KeyError):
            async with fs.atomic_batch():
                await fs.mkdir("/d")
                raise KeyError
        assert await fs.listdir("/") == [] and await is_free(fs)


@run_async
async def test_nested_transactions_are_savepoints() -> None:
    async with aio.memory() as fs:
        async with fs.transaction():
            await fs.mkdir("/a")
            with pytest.raises(KeyError):
                async with fs.transaction():
                    await fs.mkdir("/b")
                    raise KeyError
            async with fs.transaction():
                await fs.mkdir("/c")
        assert sorted(await fs.listdir("/")) == ["a", "c"]


@run_async
async def test_tasks_started_inside_are_inside() -> None:
    async with aio.memory() as fs:
        async with fs.transaction():
            await asyncio.gather(*(fs.write_text(f"/{number}", "") for number in range(20)))

            async def nested(number: int) -> None:
                async with fs.transaction():
                    await fs.mkdir(f"/d{number}")
                    await asyncio.sleep(0)
                    await fs.mkdir(f"/d{number}/e")
                    if number % 2:
                        raise KeyError

            await asyncio.gather(*(nested(number) for number in range(6)), return_exceptions=True)
            assert sorted(name for name in await fs.listdir("/") if name.startswith("d")) == ["d0", "d2", "d4"]
        assert len(await fs.listdir("/")) == 23


@run_async
async def test_task_that_outlives_its_transaction_goes_on_outside() -> None:
    async with aio.memory() as fs:
        over = asyncio.Event()

        async def late() -> None:
            await over.wait()
            await fs.mkdir("/late")
            async with fs.transaction():
                await fs.mkdir("/later")

        with pytest.raises(KeyError):
            async with fs.transaction():
                task = asyncio.create_task(late())
                await fs.mkdir("/d")
                raise KeyError
        over.set()
        await task
        assert sorted(await fs.listdir("/")) == ["late", "later"]


@run_async
async def test_transactions_of_two_filesystems_do_not_mix() -> None:
    async with aio.memory() as one, aio.memory() as other:
        with pytest.raises(KeyError):
            async with one.transaction():
                async with other.transaction():
                    await one.mkdir("/d")
                    await other.mkdir("/e")
                raise KeyError
        assert (await one.listdir("/"), await other.listdir("/")) == ([], ["e"])


@run_async
async def test_waiting_for_another_transaction_ends_in_time() -> None:
    async with aio.memory() as fs:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def holding() -> None:
            async with fs.transaction():
                entered.set()
                await leave.wait()

        task = asyncio.create_task(holding())
        await entered.wait()
        with pytest.raises(TimeoutError):
            async with fs.transaction(timeout=0.01):
                raise AssertionError
        leave.set()
        await task
        assert await is_free(fs)


@run_async
async def test_failed_commit_is_told_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        commits = fs.vfs.filesystem.commits  # type: ignore[attr-defined]

        def failing(level: object) -> None:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(commits, "_commit", failing)
        with pytest.raises(OSError, match="full"):
            async with fs.transaction():
                await fs.mkdir("/d")
        monkeypatch.undo()
        assert await is_free(fs) and await fs.listdir("/") == ["free"]


@run_async
async def test_closing_inside_a_transaction_is_refused_and_after_it_waits() -> None:
    fs = await aio.memory()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def holding() -> None:
        async with fs.transaction():
            with pytest.raises(OSError) as caught:
                await fs.close()
            assert caught.value.errno == errno.EBUSY
            entered.set()
            await leave.wait()
            await fs.mkdir("/d")

    task = asyncio.create_task(holding())
    await entered.wait()
    closing = asyncio.create_task(fs.close())
    await asyncio.sleep(0)
    leave.set()
    await task
    await closing
    await fs.close()
    with pytest.raises(OSError):
        await fs.listdir("/")


# -- cancellation ------------------------------------------------------------------------------------------------------


@run_async
async def test_cancelled_inside_rolls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        gate = Gate()

        async def changing() -> None:
            async with fs.transaction():
                await fs.mkdir("/a")
                monkeypatch.setattr(fs.vfs.filesystem, "symlink", gate.before(fs.vfs.filesystem.symlink))
                await fs.symlink("x", "/b")

        task = asyncio.create_task(changing())
        await gate.reached()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # a second one must not break the rolling back off
        gate.open()
        await cancelled(task)
        assert await is_free(fs) and await fs.listdir("/") == ["free"]


@run_async
async def test_cancelled_while_waiting_for_the_writer_leaves_no_transaction() -> None:
    async with aio.memory() as fs:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def holding() -> None:
            async with fs.transaction():
                entered.set()
                await leave.wait()

        async def waiting() -> None:
            async with fs.transaction():
                raise AssertionError

        holder = asyncio.create_task(holding())
        await entered.wait()
        waiters = [asyncio.create_task(waiting()) for _ in range(5)]
        for _ in range(10):
            await asyncio.sleep(0)
        for waiter in waiters:
            await cancelled(waiter)
        leave.set()
        await holder
        assert await is_free(fs)


@run_async
async def test_cancelled_just_after_it_began_leaves_no_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        gate = Gate()
        commits = fs.vfs.filesystem.commits  # type: ignore[attr-defined]
        monkeypatch.setattr(commits, "_begin", gate.after(commits._begin))

        async def entering() -> None:
            async with fs.transaction():
                raise AssertionError

        task = asyncio.create_task(entering())
        await gate.reached()
        await cancelled(task)
        gate.open()
        monkeypatch.undo()
        assert await is_free(fs)


@run_async
async def test_commit_that_has_begun_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        gate = Gate()
        commits = fs.vfs.filesystem.commits  # type: ignore[attr-defined]

        async def changing() -> None:
            async with fs.transaction():
                await fs.mkdir("/a")
                monkeypatch.setattr(commits, "_commit", gate.before(commits._commit))

        task = asyncio.create_task(changing())
        await gate.reached()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        await cancelled(task)
        monkeypatch.undo()
        assert await is_free(fs) and sorted(await fs.listdir("/")) == ["a", "free"]


@run_async
async def test_file_opened_for_a_cancelled_task_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        await fs.write_text("/f", "")
        gate = Gate()
        opened: list[Any] = []
        vfs_open = fs.vfs.open

        def held(*arguments: Any, **options: Any) -> Any:
            opened.append(vfs_open(*arguments, **options))
            gate.wait()
            return opened[-1]

        monkeypatch.setattr(fs.vfs, "open", held)
        task = asyncio.ensure_future(fs.open("/f").__aenter__())
        await gate.reached()
        await cancelled(task)
        gate.open()
        async with asyncio.timeout(30):
            while not opened[0].closed:
                await fs.exists("/f")


@run_async
async def test_store_opened_for_a_cancelled_task_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(aio.api, "open", gate.after(aio.api.open))
    task = asyncio.ensure_future(aio.open(tmp_path / "store").__aenter__())
    await gate.reached()
    task.cancel()
    await asyncio.sleep(0)
    gate.open()
    await cancelled(task)
    monkeypatch.undo()
    async with aio.open(tmp_path / "store", "w") as fs:
        assert await fs.listdir("/") == []


@run_async
async def test_lock_got_for_a_cancelled_task_is_given_back() -> None:
    async with aio.memory() as fs:
        await fs.write_text("/f", "")
        async with fs.open("/f", "r+") as one, fs.open("/f", "r+") as other:
            await fs.flock(one, fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                await fs.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(BlockingIOError):
                await fs.flock(other, fcntl.LOCK_EX, timeout=0.01)
            waiting = asyncio.create_task(fs.flock(other, fcntl.LOCK_EX))
            for _ in range(10):
                await asyncio.sleep(0)
            await cancelled(waiting)
            await fs.flock(one, fcntl.LOCK_UN)
            await fs.flock(one, fcntl.LOCK_EX)  # the cancelled one may have had it for a moment
            await fs.flock(one, fcntl.LOCK_UN)
            waiting = asyncio.create_task(fs.flock(other, fcntl.LOCK_EX))
            await waiting
            await fs.lockf(other, fcntl.LOCK_EX, 10)
            await fs.lockf(other, fcntl.LOCK_UN, 10)


@run_async
async def test_more_waiting_tasks_than_threads_do_not_keep_the_holder_out() -> None:
    async with aio.memory() as fs:
        await fs.write_text("/f", "")
        async with fs.open("/f", "r+") as holder:
            await fs.flock(holder, fcntl.LOCK_EX)

            async def waiting() -> None:
                async with fs.open("/f", "r+") as file:
                    await fs.flock(file, fcntl.LOCK_SH)

            tasks = [asyncio.create_task(waiting()) for _ in range(50)]
            for _ in range(100):
                await asyncio.sleep(0)
            await fs.flock(holder, fcntl.LOCK_UN)
            await asyncio.gather(*tasks)


@run_async
async def test_cancelled_call_that_did_not_begin_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aio.memory() as fs:
        gate = Gate()

        async with fs.transaction():
            symlink = fs.vfs.filesystem.symlink
            monkeypatch.setattr(fs.vfs.filesystem, "symlink", gate.before(symlink))
            first = asyncio.create_task(fs.symlink("x", "/first"))
            await gate.reached()
            second = asyncio.create_task(fs.mkdir("/second"))
            await asyncio.sleep(0)
            await cancelled(second)
            gate.open()
            await first
        assert await fs.listdir("/") == ["first"]


@run_async
async def test_earlier_states(tmp_path: Path) -> None:
    async with await aio.open(tmp_path / "store") as fs:
        await fs.write_text("/a", "one")
        await fs.snapshot("first")
        await fs.set_retention(Retention(all=True))
        await fs.write_text("/a", "two")
        version = fs.version
        await fs.write_text("/a", "three")
        for when, text in (("first", "one"), (version, "two")):
            async with await fs.at(when) as then:
                assert await then.read_text("/a") == text
        assert fs.retention == Retention(all=True)
        assert [one.name for one in await fs.snapshots()] == ["first"]
        await fs.delete_snapshot("first")


# -- changes -----------------------------------------------------------------------------------------------------------


@run_async
async def test_changes_and_watches_are_those_of_the_filesystem(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "store") as fs:
        since = fs.version
        async with fs.watch("/d", timeout=30) as watch:
            await fs.makedirs("/d/e")
            await fs.write_text("/other", "")
            assert [(await anext(watch)).path for _ in range(2)] == ["/d", "/d/e"]
            assert watch.resume is not None and watch.resume > since
        assert [change async for change in watch] == []
        sets = [one async for one in fs.changes(since, durable=False)]
        assert [change.path for one in sets for change in one.changes] == ["/d", "/d/e", "/other"]
        async with fs.watch("/d", since=since, timeout=0) as watch:
            assert len([change async for change in watch]) == 2


@run_async
async def test_change_that_came_while_the_task_was_cancelled_comes_next(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "store") as fs, fs.watch() as watch:
        for number in range(20):
            waiting = asyncio.create_task(anext(watch))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            making = asyncio.create_task(fs.mkdir(f"/{number}"))
            await asyncio.sleep(0.001 * (number % 5))
            waiting.cancel()
            await making
            found = (await asyncio.gather(waiting, return_exceptions=True))[0]
            if isinstance(found, BaseException):
                async with asyncio.timeout(30):
                    found = await anext(watch)
            assert found.path == f"/{number}"


@run_async
async def test_watch_that_waits_ends_when_it_is_closed(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "store") as fs:
        watch = fs.watch()
        await watch.begin()
        waiting = asyncio.create_task(anext(watch, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        await watch.close()
        async with asyncio.timeout(30):
            assert await waiting is None

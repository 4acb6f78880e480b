"""The shell: a session from a pipe, the words of a line, completion; errors never end it."""

from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.clitools import OK, OPERATIONAL, USAGE, Done, Run, runner
from vfsdb.cli_context import Context
from vfsdb.cli_output import Output
from vfsdb.cli_parser import build
from vfsdb.cli_shell import Shell, Word, words_of


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsysbinary, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with vfsdb.open(path) as fs:
        fs.mkdir("/src")
        fs.write_text("/src/one.py", "1")
        fs.write_text("/src/two.py", "22")
        fs.write_text("/src/a b", "")
    return path


def session(run: Run, store: Path, *lines: str) -> Done:
    return run("shell", store, stdin="".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def test_session_works_in_its_directory(run: Run, store: Path) -> None:
    done = session(run, store, "pwd", "cd src", "pwd", "ls *.py", "mkdir -p x/y", "mv one.py x", "ls x", "cd -", "pwd")
    assert done == Done(OK, b"/\n/src\none.py\ntwo.py\none.py\ny\n/\n", "")
    assert run("ls", store, "/src/x").lines == ["one.py", "y"]


def test_errors_do_not_end_it_and_the_last_line_decides(run: Run, store: Path) -> None:
    done = session(run, store, "cat none", "frob", "rm", 'cat "open', "ls --nonsense", "cd none", "cat src/two.py")
    assert (done.code, done.out) == (OK, b"22")
    for words in ("/none: No such file", "frob: no such command", "required: PATH", "is not closed", "unrecognized"):
        assert words in done.err
    assert session(run, store, "cat none").code == OPERATIONAL
    assert session(run, store, "frob").code == USAGE
    assert session(run, store, "cat none", "exit", "pwd") == Done(
        OK, b"", "vfsdb cat: /none: No such file or directory\n"
    )


def test_quotes_patterns_and_comments(run: Run, store: Path) -> None:
    done = session(
        run, store, "# a comment", "", "ls 'src/a b' src/a\\ b", "cat src/t*o.py # the file", "cat '*'", "ls /src/[ot]*"
    )
    assert done.lines == ["src/a b", "src/a b", "22/src/one.py", "/src/two.py"]
    assert "/*: No such file" in done.err


def test_names_that_are_not_utf8_pass_through(run: Run, store: Path) -> None:
    done = session(run, store, "touch /caf\udce9", "ls /c*")
    assert done.out == b"/caf\xe9\n"


def test_json_and_help_and_store_commands_work_in_it(run: Run, store: Path) -> None:
    done = session(run, store, "df --json")
    assert done.json["inodes_used"] == 5
    assert "usage: vfsdb ls" in session(run, store, "help ls").text
    assert "tree" in session(run, store, "help").text
    assert session(run, store, "dump-record /src").code == OK
    assert session(run, store, "compact").code == OK


def test_read_only_shell_lets_others_write(run: Run, store: Path) -> None:
    done = run("shell", store, "--read-only", stdin=b"mkdir /x\nls /\n")
    assert (done.code, done.lines) == (OK, ["src"])
    assert "Read-only" in done.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("a  b", [Word("a"), Word("b")]),
        ("'a b' \"c 'd\" e\\ f", [Word("a b"), Word("c 'd"), Word("e f")]),
        ("''", [Word("")]),
        ("a* 'b*' \\*", [Word("a*", True), Word("b*"), Word("*")]),
        ("a#b #c", [Word("a#b")]),
        ("'\\'", [Word("\\")]),
    ],
)
def test_words_of_a_line(line: str, words: list[Word]) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize("line", ["'", '"', "a 'b"])
def test_open_quote_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        words_of(line)


@pytest.mark.parametrize(
    ("word", "before", "found"),
    [
        ("mk", "", ["mkdir "]),
        ("c", "", ["cat ", "cd ", "chmod ", "chown ", "clone ", "compact ", "cp "]),
        ("s", "ls ", ["src/"]),
        ("src/", "ls ", ["src/a\\ b ", "src/one.py ", "src/two.py "]),
        ("/src/o", "cat x ", ["/src/one.py "]),
        ("src/a\\ ", "ls ", ["src/a\\ b "]),
        ("none/", "ls ", []),
    ],
)
def test_completion_offers_commands_then_paths(store: Path, word: str, before: str, found: list[str]) -> None:
    parser, verbs = build(in_shell=True)
    with vfsdb.open(store) as fs:
        shell = Shell(Context(str(store), fs, Output("vfsdb shell")), parser, verbs.names)
        assert shell.completions(word, before) == found

"""The documents are true: their examples run, their links lead somewhere, their tables name what is there.

A page is one session in a new directory: its ```python and ```console blocks run in order and share names and files.
In ```python, lines that start with ``>>>`` are compared with the output shown. In ```console, a line that starts with
``$ `` is a shell command that must succeed, and what follows is its output (``...`` stands for anything).
Blocks of any other kind (```sh, ```text) are not run.
"""

import argparse
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import ourdb
import ourdb.cli
import vfsdb
import vfsdb.cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
DOCTEST_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
COMMAND_SECONDS_MAX = 60


class Block(NamedTuple):
    """A fenced block of a page; *line* is that of its first line of text."""

    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in FENCE.finditer(text)]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=page_id)
def test_examples_of_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__example__"}
    for block in blocks_of(page):
        place = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "python" and ">>>" in block.text:
            run_doctest(block, names, place)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        elif block.language == "console":
            run_console(block, place)


def run_doctest(block: Block, names: dict[str, object], place: str) -> None:
    example = doctest.DocTestParser().get_doctest(block.text, names, place, place, block.line - 1)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=DOCTEST_FLAGS).run(example, out=report.append, clear_globs=False)
    names.update(example.globs)
    assert not report, "".join(report)


def run_console(block: Block, place: str) -> None:
    for session in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        if not session.strip():
            continue
        command, _, expected = session.removeprefix("$ ").partition("\n")
        programs = "".join(f'{name}() {{ "{sys.executable}" -m {name} "$@"; }}; ' for name in ("ourdb", "vfsdb"))
        script = f"set -e -o pipefail; {programs}{command}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
        done = subprocess.run(
            ["bash", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        matches = doctest.OutputChecker().check_output(
            expected.rstrip() + "\n", done.stdout.rstrip() + "\n", DOCTEST_FLAGS
        )
        assert done.returncode == 0 and matches, (
            f"{place}: $ {command} (exit code {done.returncode})\nexpected:\n{expected}\ngot:\n{done.stdout}"
        )


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_of_page_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), f"{page_id(page)} links to {target}"
            assert not anchor or anchor in anchors_of(linked), f"{page_id(page)} links to {target}"


def anchors_of(page: Path) -> set[str]:
    """Names that a heading of *page* can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_starts_with_demo_and_test() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if not line.startswith("```")]
    assert lines[0].startswith("make demo")
    assert lines[1].startswith("make test")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_of_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_named_on_page_exist(page: Path) -> None:
    for name in re.findall(r"`((?:ourdb|vfsdb|tools|docs|tests|benchmarks)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page_id(page)} names {name}"


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """*parser* and all parsers of its subcommands."""
    below = [
        child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for child in action.choices.values()
    ]
    return [parser, *(found for child in below for found in parsers(child))]


VERBS = [
    *parsers(ourdb.cli.build_parser())[1:],
    *parsers(vfsdb.cli.build_parser())[1:],
]


@pytest.mark.parametrize("parser", VERBS, ids=lambda parser: parser.prog)
def test_subcommand_is_in_the_cli_reference_with_its_options(parser: argparse.ArgumentParser) -> None:
    program, _, verb = parser.prog.partition(" ")
    page = (ROOT / "docs" / "reference" / {"ourdb": "cli.md", "vfsdb": "vfsdb-cli.md"}[program]).read_text()
    heading = f"\n## {verb}\n"
    assert heading in page
    section = page.partition(heading)[2].partition("\n## ")[0]
    everywhere = page.partition("\n## ")[0]
    for action in parser._actions:
        for option in action.option_strings:
            assert f"`{option}" in section + everywhere, f"{parser.prog} {option}"
        if not action.option_strings and isinstance(action.metavar, str):
            assert action.metavar in section, f"{parser.prog} {action.metavar}"


MODULES = sorted(
    module.name
    for package in (ourdb, vfsdb)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if not module.name.endswith(".__main__")
)


@pytest.mark.parametrize("module", ["ourdb", "vfsdb", *MODULES])
def test_examples_in_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=DOCTEST_FLAGS)
    assert not failed

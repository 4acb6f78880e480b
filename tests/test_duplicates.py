"""No run of 8 or more lines of code stands in ``ourdb`` and ``vfsdb`` twice: make one piece of code serve both places.

Only what a reader would call code counts: blank lines, comments, docstrings, imports, the heads of functions
(whoever implements an interface repeats them) and lone brackets are left out.
"""

import ast
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
RUN_LINES = 8


class Line(NamedTuple):
    """One line of code: where it stands and its text without indentation."""

    file: str
    number: int
    text: str


def code_lines(source: str, file: str) -> list[Line]:
    """The lines of *source* that are code."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        is_text = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            assert isinstance(node, ast.stmt)
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    lines = (Line(file, number, text.strip()) for number, text in enumerate(source.splitlines(), 1))
    return [
        line
        for line in lines
        if line.number not in left_out and not line.text.startswith("#") and any(map(str.isalnum, line.text))
    ]


def repeated_runs(sources: dict[str, str], run_lines: int) -> list[tuple[Line, Line]]:
    """First lines of each pair of equal runs, longest stretch reported once."""
    seen: dict[tuple[str, ...], list[tuple[Line, int, list[Line]]]] = defaultdict(list)
    pairs = []
    for file, source in sources.items():
        lines = code_lines(source, file)
        for start in range(len(lines) - run_lines + 1):
            window = tuple(line.text for line in lines[start : start + run_lines])
            for first, first_start, first_lines in seen[window]:
                goes_on = start > 0 and first_start > 0 and lines[start - 1].text == first_lines[first_start - 1].text
                overlaps = first.file == file and start - first_start < run_lines
                if not goes_on and not overlaps:
                    pairs.append((first, lines[start]))
            seen[window].append((lines[start], start, lines))
    return pairs


def test_no_long_run_of_code_stands_twice() -> None:
    places = sorted(path for package in ("ourdb", "vfsdb") for path in (ROOT / package).rglob("*.py"))
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in places}
    pairs = repeated_runs(sources, RUN_LINES)
    assert not pairs, "\n".join(f"{a.file}:{a.number} and {b.file}:{b.number}: {a.text}" for a, b in pairs)


def test_repeated_run_is_found_once_and_ignores_comments_and_indentation() -> None:
    body = "\n".join(f"    step_{number}()" for number in range(10))
    other = "\n".join(f"        step_{number}()  \n        # why\n" for number in range(10))
    sources = {"a.py": f"def one():\n{body}\n", "b.py": f"class B:\n    def two():\n{other}\n"}
    ((first, second),) = repeated_runs(sources, RUN_LINES)
    assert (first.file, first.number, second.file, second.number) == ("a.py", 2, "b.py", 3)


def test_short_run_is_no_duplicate() -> None:
    body = "\n".join(f"    step_{number}()" for number in range(RUN_LINES - 1))
    assert not repeated_runs({"a.py": f"def one():\n{body}\n", "b.py": f"def two():\n{body}\n"}, RUN_LINES)

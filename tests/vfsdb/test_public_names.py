"""The public names of ``vfsdb``: documented, typed, and all in the reference."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import vfsdb

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(vfsdb.__all__)


def members(cls: type) -> list[tuple[str, Any]]:
    """What *cls* and its bases in the package define for users, properties as their getters."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("vfsdb"):
            found |= vars(base)
    functions = {
        name: member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        for name, member in found.items()
        if not name.startswith("_")
    }
    return [(name, function) for name, function in functions.items() if isinstance(function, FunctionType)]


MEMBERS = [
    pytest.param(function, id=f"{cls.__name__}.{name}")
    for cls in (vfsdb.VFS, vfsdb.VPath, vfsdb.FileSystem)
    for name, function in members(cls)
]


def test_all_is_complete() -> None:
    assert len(set(vfsdb.__all__)) == len(vfsdb.__all__)
    public = {
        name for name, value in vars(vfsdb).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public <= set(vfsdb.__all__)


def test_version_is_the_distribution_version() -> None:
    assert vfsdb.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("name", [name for name in NAMES if callable(getattr(vfsdb, name))])
def test_public_name_is_documented(name: str) -> None:
    text = (inspect.getdoc(getattr(vfsdb, name)) or "").strip()
    assert text and not text.startswith(f"{name}("), "the docstring is missing, or a generated one"


@pytest.mark.parametrize("function", MEMBERS)
def test_public_method_is_documented_and_typed(function: FunctionType) -> None:
    assert (function.__doc__ or "").strip()
    assert_typed(function)


@pytest.mark.parametrize("function", [vfsdb.open, vfsdb.memory])
def test_public_function_is_typed(function: FunctionType) -> None:
    assert_typed(function)


def assert_typed(function: FunctionType) -> None:
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in list(signature.parameters.values()):
        assert parameter.name in ("self", "cls") or parameter.annotation is not inspect.Parameter.empty, parameter


@pytest.mark.parametrize("name", [*NAMES, *(name for name in dir(vfsdb.VFS) if not name.startswith("_"))])
def test_public_name_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "vfsdb-api.md").read_text()
    assert re.search(rf"`(vfsdb\.)?{name}\b|vfsdb\.{name}\(", page)


@pytest.mark.parametrize("name", list(inspect.signature(vfsdb.open).parameters))
def test_option_of_open_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "vfsdb-api.md").read_text()
    assert f"`{name}`" in page or f"*{name}*" in page


def test_missing_library_says_what_to_install() -> None:
    script = "import sys; sys.modules['msgpack'] = None; import vfsdb"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "pip install 'ourdb[vfs]'" in done.stderr

"""The public names of ``ourdb``: listed in order, documented, typed, and all in the reference pages."""

import inspect
import pickle
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import ourdb
import ourdb.errors
import ourdb.testing

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
NAMES = sorted(ourdb.__all__)
ERRORS = [value for value in vars(ourdb.errors).values() if isinstance(value, type)]
ERROR_ARGUMENTS: dict[str, tuple[object, ...]] = {
    "CorruptionError": ("the checksum does not match", "0.seg", 80),
    "ConflictError": (7, 3, 4),
}


def is_class(name: str) -> bool:
    return inspect.isclass(getattr(ourdb, name))


def public_members(cls: type) -> list[tuple[str, Any]]:
    """What *cls* and its bases in the package define for its users, properties as their getters."""
    members = []
    ours = [base for base in cls.__mro__ if base.__module__.startswith("ourdb")]
    for name, member in {name: member for base in reversed(ours) for name, member in vars(base).items()}.items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and isinstance(function, FunctionType):
            members.append((name, function))
    return members


CLASS_MEMBERS = [
    pytest.param(function, id=f"{name}.{member}")
    for name in [*NAMES, *ourdb.testing.__all__]
    if inspect.isclass(cls := getattr(ourdb, name, getattr(ourdb.testing, name, None)))
    for member, function in public_members(cls)
]
FUNCTIONS = [getattr(ourdb, name) for name in NAMES if isinstance(getattr(ourdb, name), FunctionType)]


def test_all_is_sorted_and_complete() -> None:
    assert list(ourdb.__all__) == sorted(set(ourdb.__all__))
    public = {name for name, value in vars(ourdb).items() if not name.startswith("_") and not is_module(value)}
    assert public - set(ourdb.__all__) <= {"annotations"}


def is_module(value: object) -> bool:
    return isinstance(value, ModuleType)


def test_version_is_the_distribution_version() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert ourdb.__version__ == project["version"]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_documented(name: str) -> None:
    value = getattr(ourdb, name)
    if callable(value) or is_module(value):
        assert (inspect.getdoc(value) or "").strip()
        assert not (inspect.getdoc(value) or "").startswith(f"{name}("), "the docstring is a generated one"


@pytest.mark.parametrize("function", CLASS_MEMBERS)
def test_public_method_is_documented_and_typed(function: FunctionType) -> None:
    assert (function.__doc__ or "").strip()
    assert_typed(function)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_public_function_is_typed(function: FunctionType) -> None:
    assert_typed(function)


def assert_typed(function: FunctionType) -> None:
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    untyped = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is inspect.Parameter.empty and parameter.name not in ("self", "cls")
    ]
    assert not untyped


@pytest.mark.parametrize("error", ERRORS)
def test_error_survives_pickling(error: type[Exception]) -> None:
    made = error(*ERROR_ARGUMENTS.get(error.__name__, ("what happened",)))
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is error
    assert (str(copy), copy.args, vars(copy)) == (str(made), made.args, vars(made))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_error_is_in_the_reference(error: type[Exception]) -> None:
    assert f"`{error.__name__}`" in (REFERENCE / "errors.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_in_the_reference(name: str) -> None:
    page = "errors.md" if is_class(name) and issubclass(getattr(ourdb, name), Exception) else "api.md"
    assert name in (REFERENCE / page).read_text()


@pytest.mark.parametrize("name", [name for name, _ in public_members(ourdb.OurDB)])
def test_store_method_is_in_the_reference(name: str) -> None:
    assert f"`{name}" in (REFERENCE / "api.md").read_text() or f".{name}" in (REFERENCE / "api.md").read_text()

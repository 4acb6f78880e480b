"""The FileSystem contract, whole: a test module imports these classes and has fixtures `subject` and `fs`."""

from tests.vfsdb.contract.names import (
    TestLinks,
    TestLookup,
    TestNewNames,
    TestPathOf,
    TestRemoval,
    TestRename,
    TestSymlinks,
)

__all__ = ["TestLinks", "TestLookup", "TestNewNames", "TestPathOf", "TestRemoval", "TestRename", "TestSymlinks"]

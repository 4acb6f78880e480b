"""The FileSystem contract, whole: a test module imports these classes and has fixtures `subject` and `fs`."""

from tests.vfsdb.contract.attributes import TestAttributes, TestXattrs
from tests.vfsdb.contract.files import TestCreate, TestOpen, TestReadWrite, TestTmpfile, TestTruncate, TestWholeFiles
from tests.vfsdb.contract.listing import TestListing
from tests.vfsdb.contract.locking import TestFlock, TestRangeLocks
from tests.vfsdb.contract.names import (
    TestLinks,
    TestLookup,
    TestNewNames,
    TestPathOf,
    TestRemoval,
    TestRename,
    TestSymlinks,
)
from tests.vfsdb.contract.numbers import TestNumbers
from tests.vfsdb.contract.permissions import TestAccess, TestAcls, TestAttributesOfOthers, TestInheritance
from tests.vfsdb.contract.space import TestCopyFileRange, TestFallocate, TestSeek, TestStatFS
from tests.vfsdb.contract.whole import TestEnd, TestEvents, TestReadOnly, TestTransactions

__all__ = [
    "TestAccess",
    "TestAcls",
    "TestAttributes",
    "TestAttributesOfOthers",
    "TestCopyFileRange",
    "TestCreate",
    "TestEnd",
    "TestEvents",
    "TestFallocate",
    "TestFlock",
    "TestInheritance",
    "TestLinks",
    "TestListing",
    "TestLookup",
    "TestNewNames",
    "TestNumbers",
    "TestOpen",
    "TestPathOf",
    "TestRangeLocks",
    "TestReadOnly",
    "TestReadWrite",
    "TestRemoval",
    "TestRename",
    "TestSeek",
    "TestStatFS",
    "TestSymlinks",
    "TestTmpfile",
    "TestTransactions",
    "TestTruncate",
    "TestWholeFiles",
    "TestXattrs",
]

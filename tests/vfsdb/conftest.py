"""Assertions of the contract suites tell what they compared, as those of test modules do."""

import pytest

for part in ("support", "names", "files", "space", "attributes", "permissions", "listing", "locks", "transactions"):
    pytest.register_assert_rewrite(f"tests.vfsdb.contract.{part}")

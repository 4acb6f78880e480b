"""Assertions of the contract suites tell what they compared, as those of test modules do."""

import pytest

for part in ("support", "attributes", "files", "listing", "locking", "names", "permissions", "space", "whole"):
    pytest.register_assert_rewrite(f"tests.vfsdb.contract.{part}")

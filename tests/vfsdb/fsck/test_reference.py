"""The reference page says of each code what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from vfsdb.fsck.findings import CODES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "vfsdb-fsck.md").read_text()


def test_every_code_is_in_the_reference_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.-]+\.[a-z_-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {code: f"{meaning.summary} | {meaning.repair}" for code, meaning in CODES.items()}

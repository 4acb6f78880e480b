"""Files of the host that commands write: there only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

STANDARD_STREAM: Final = "-"


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A new file for *path*, which has it when the block ended well; durable then. Until then an older one stays."""
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise

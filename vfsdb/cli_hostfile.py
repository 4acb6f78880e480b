"""Files of the host that commands write: there only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final

STANDARD_STREAM: Final = "-"


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A new file for *path*, which has it when the block ended well; durable then. Until then an older one stays."""
    beside = f"{path}.partial"
    with open(beside, "wb") as file, ExitStack() as on_error:
        on_error.callback(os.unlink, beside)
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.replace(beside, path)
        on_error.pop_all()

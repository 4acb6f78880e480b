"""An interrupt at a chosen place of the code under test, for tests that try each of them."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


@functools.cache
def _behind_calls(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions before which an interrupt may come."""
    behind, called = set(), False
    for instruction in dis.get_instructions(code):
        if called:
            behind.add(instruction.offset)
        called = instruction.opname.startswith(("CALL", "RESUME"))
    return frozenset(behind)


def interrupted_at(place: int, act: Callable[[], object], files: tuple[str, ...]) -> bool:
    """Run *act*, with a KeyboardInterrupt at the place number *place* in code of *files* (ends of their names).

    Whether it came to it.
    """
    left = place

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _behind_calls(frame.f_code):
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False

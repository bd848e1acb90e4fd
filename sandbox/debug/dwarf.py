"""DWARF of files that anybody may have made: pyelftools reads it, and what is damaged is as if it were not there."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeVar

Found = TypeVar("Found")


def read(data: bytes, work: Callable[[Any], Found], nothing: Found) -> Found:
    """What ``work`` makes of a file's DWARF; ``nothing`` where there is none, or a broken one."""
    if not data:
        return nothing
    from elftools.elf.elffile import ELFFile

    return guarded(lambda: work(ELFFile(BytesIO(data)).get_dwarf_info()), nothing)


def guarded(work: Callable[[], Found], nothing: Found) -> Found:
    """``nothing`` where a damaged file lets pyelftools stumble, over whatever that is."""
    from elftools.common.exceptions import DWARFError, ELFError

    try:
        return work()
    except (
        ELFError, DWARFError, struct.error, ValueError, LookupError, AssertionError, TypeError, AttributeError,
        ArithmeticError, RecursionError, NotImplementedError, MemoryError,
    ):  # fmt: skip
        return nothing

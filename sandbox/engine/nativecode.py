"""Host code of our own: the pages that it and its data lie on, private to this process and to each of its forks."""

from __future__ import annotations

import ctypes
import functools
import mmap

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


@functools.cache
def libc() -> ctypes.CDLL:
    """The process's C library."""
    return ctypes.CDLL(None, use_errno=True)


def placed(code: bytes, data_bytes: int = 0) -> tuple[mmap.mmap, int]:
    """Pages that begin with the code, not yet executable, and their host address; then pages for so much data."""
    pages = mmap.mmap(-1, whole_pages(len(code)) + data_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.write(code)
    return pages, ctypes.addressof(ctypes.c_char.from_buffer(pages))


def made_executable(code: bytes, data_bytes: int, whose: str) -> tuple[mmap.mmap, int]:
    """``placed``, and what lies before the data is executable from now on.  Raises OSError."""
    pages, base = placed(code, data_bytes)
    make_executable(base, len(code), whose)
    return pages, base


def make_executable(first: int, size: int, whose: str) -> None:
    """Let the host execute, and no longer write, the pages of a range.  Raises OSError."""
    protect(first, size, mmap.PROT_READ | mmap.PROT_EXEC, f"the host refuses executable memory for {whose}")


def protect(first: int, size: int, protection: int, otherwise: str) -> None:
    """Change what may be done with the pages of a range of host addresses.  Raises OSError with that text."""
    page = first & -mmap.PAGESIZE
    if libc().mprotect(ctypes.c_void_p(page), ctypes.c_size_t(first + size - page), protection):
        raise OSError(ctypes.get_errno(), otherwise)


def whole_pages(size: int) -> int:
    """Bytes of the pages that so many bytes lie on."""
    return (size + mmap.PAGESIZE - 1) & -mmap.PAGESIZE

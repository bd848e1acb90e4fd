"""The same bytes in many pages of host memory, without a copy of them for each.

A file in memory holds the bytes a number of times; it is mapped privately over the range, piece after piece, so
that a page is copied when somebody writes it and shared until then.  What the range's addresses are mapped into, an
emulated CPU, sees nothing of it.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os

_MAPPING = 40 << 10
"""Bytes that are copied while the host makes one mapping: the pieces are as large as makes both cost the same."""
_MAP_FIXED = 0x10


def map_repeated(address: int, size: int, data: bytes) -> bool:
    """Fill ``size`` bytes of private memory at a host address with ``data``; all three are whole pages.

    False where the host cannot, or where it is too little to be worth it: nothing has been done then.
    """
    piece = data * max(1, math.isqrt(size * _MAPPING) // len(data))
    if size < 2 * len(piece) or not hasattr(os, "memfd_create"):
        return False
    file = os.memfd_create("repeated")
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(piece)
        libc = _libc()
        for done in range(0, size, len(piece)):
            _map(libc, address + done, min(len(piece), size - done), file)
    finally:
        os.close(file)
    return True


def _map(libc: ctypes.CDLL, address: int, size: int, file: int) -> None:
    got = libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _MAP_FIXED, file, 0)
    if got != address:
        raise OSError(ctypes.get_errno(), f"{size} bytes cannot be mapped")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    return libc

"""The host code of ``native/tlbfeed.S``, assembled, and its page of data.

``tests/engine/test_tlbfeed.py`` assembles the source and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import nativecode

CODE = bytes.fromhex(
    "488b05f90f0000483b05fa0f0000735e488b05e90f00004c8d58014c891dde0f000048c1e006480305e30f0000488970"
    "0848895010488948184c8940204c8948284c8b1dd80f00004d8b1b53498b9ba800000048c1e3044c09d3488918498b1b"
    "48895830498b5b38488958385bc357565251415041514152554889e54883e4f0ff15920f0000dbe20fae150703000048"
    "89ec5d415a41594158595a5e5fe96effffff450fb7db49c1e3034c031d870f0000498b0b48894818488b0d810f000048"
    "030d3a0f000049890bc3660f1f440000488b05490f0000488338007412448b54240849c1e2204983ca04e821ffffffff"
    "25730f000066662e0f1f840000000000488b05190f000048833800740e57564152ff15590f000089c0eb2cff254f0f00"
    "0066662e0f1f8400000000000f1f4000488b05e90e000048833800742b57564152ff15310f0000415a5e5f504889c241"
    "ba02000000e8b6feffff4189f341c1eb02e83cffffff58c3ff250a0f00006690488b05a90e000048833800740b41ba03"
    "000000e888feffffff25f20e00006690488b05890e00004883380074165756ffb7c0010000ff15dd0e000041ba050000"
    "00eb66ff25cf0e00000f1f8000000000488b05590e00004883380074165756ffb7c8010000ff15b50e000041ba060000"
    "00eb36ff25a70e00000f1f8000000000488b05290e00004883380074165756ffb7a8010000ff158d0e000041ba070000"
    "00eb06ff257f0e00005a5e5fe8dffdffff8b87a8010000a9000000807453f787c801000020000000744753415441554c"
    "8ba7c00100004983e4e04d8d6c2420488d9fb075ffff4889df4c89e6ff15160e00004c89e64889c241ba09000000e89d"
    "fdffff4983c4084d39ec72da415d415c5bc366662e0f1f8400000000000f1f00488b05890d000048833800741741ba08"
    "000000e858fdffff4189f341c1eb0ce8eefdffffff25e60d0000660f1f440000488b05590d0000488338007459525141"
    "5041514589c249c1e2080fb6c94909ca49c1e2204983ca01488b97108c0000488b8ff88b00004c8b87188c00004c8b4c"
    "2428e8f9fcffff41594158595a488b05140d00004885c0740d4189f341c1eb0c4c0fa3187206ff257c0d000057565251"
    "41504151ff742438ff15f20c0000dbe20fae154f0000004883c40841594158595a5e5f85c074cf4589c1ff35000d0000"
    "4881e600f0ffff488b15da0c00008b0de40c0000448b05d50c000041ba0a000000e88afcffffff15dc0c00004883c408"
    "b801000000c3801f0000"
)
OFFSETS: dict[str, int] = {
    "fill": 0x0D0,
    "load_long": 0x100,
    "load_quad": 0x130,
    "store_long": 0x170,
    "load_cr3": 0x190,
    "load_cr4": 0x1C0,
    "load_cr0": 0x1F0,
    "flush_page": 0x290,
    "miss": 0x2C0,
}
"""Where each stub begins."""


class Data(ctypes.Structure):
    """What the stubs share with Python; ``old_*`` is where each goes on."""

    _fields_ = (
        ("head", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("ring", ctypes.c_uint64),
        ("drain", ctypes.c_uint64),
        ("cell", ctypes.c_uint64),
        ("bitmap", ctypes.c_uint64),
        ("decide", ctypes.c_uint64),
        ("chains", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("stale_physical", ctypes.c_uint64),
        ("stale_protection", ctypes.c_uint64),
        ("stale_attributes", ctypes.c_uint64),
        ("stale_size", ctypes.c_uint64),
        ("old_fill", ctypes.c_uint64),
        ("old_load_long", ctypes.c_uint64),
        ("old_load_quad", ctypes.c_uint64),
        ("old_store_long", ctypes.c_uint64),
        ("old_load_cr3", ctypes.c_uint64),
        ("old_load_cr4", ctypes.c_uint64),
        ("old_load_cr0", ctypes.c_uint64),
        ("old_flush_page", ctypes.c_uint64),
        ("old_miss", ctypes.c_uint64),
    )


@functools.cache
def pages() -> tuple[mmap.mmap, int, Data]:
    """A page of code and one of data, private to this process and to each of its forks; the first one's address."""
    made, base = nativecode.made_executable(CODE, mmap.PAGESIZE, "the engine's TLB feed")
    return made, base, Data.from_address(base + mmap.PAGESIZE)

"""The host code of ``native/tlbfeed.S``, assembled, and its page of data.

``tests/engine/test_tlbfeed.py`` assembles the source and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import stubs

CODE = bytes.fromhex(
    "488b05f90f0000483b05fa0f0000735e488b05e90f00004c8d58014c891dde0f000048c1e006480305e30f0000488970"
    "0848895010488948184c8940204c8948284c8b1dd80f00004d8b1b53498b9ba800000048c1e3044c09d3488918498b1b"
    "48895830498b5b38488958385bc357565251415041514152554889e54883e4f0ff15920f00004889ec5d415a41594158"
    "595a5e5fe977ffffff0f1f8000000000488b05790f0000488338007412448b54240849c1e2204983ca04e851ffffffff"
    "25930f000066662e0f1f840000000000488b05490f000048833800740e57564152ff15790f000089c0eb2cff256f0f00"
    "0066662e0f1f8400000000000f1f4000488b05190f000048833800741f57564152ff15510f0000415a5e5f504889c241"
    "ba02000000e8e6feffff58c3ff25360f000066662e0f1f8400000000000f1f00488b05d90e000048833800740b41ba03"
    "000000e8b8feffffff25120f00006690488b05b90e00004883380074165756ffb7c0010000ff15fd0e000041ba050000"
    "00eb66ff25ef0e00000f1f8000000000488b05890e00004883380074165756ffb7c8010000ff15d50e000041ba060000"
    "00eb36ff25c70e00000f1f8000000000488b05590e00004883380074165756ffb7a8010000ff15ad0e000041ba070000"
    "00eb06ff259f0e00005a5e5fe80ffeffff8b87a8010000a9000000807453f787c801000020000000744753415441554c"
    "8ba7c00100004983e4e04d8d6c2420488d9fb075ffff4889df4c89e6ff15360e00004c89e64889c241ba09000000e8cd"
    "fdffff4983c4084d39ec72da415d415c5bc366662e0f1f8400000000000f1f00488b05b90d000048833800740b41ba08"
    "000000e888fdffffff25120e00006690488b05990d00004883380074595251415041514589c249c1e2080fb6c94909ca"
    "49c1e2204983ca01488b97108c0000488b8ff88b00004c8b87188c00004c8b4c2428e839fdffff41594158595a488b05"
    "540d00004885c0740d4189f341c1eb0c4c0fa3187206ff25ac0d00005756525141504151ff742438ff15320d00004883"
    "c40841594158595a5e5f85c074d84589c1ff35390d00004881e600f0ffff488b15130d00008b0d1d0d0000448b050e0d"
    "000041ba0a000000e8d3fcffffff15150d00004883c408b801000000c3"
)
OFFSETS: dict[str, int] = {
    "fill": 0x0A0,
    "load_long": 0x0D0,
    "load_quad": 0x100,
    "store_long": 0x140,
    "load_cr3": 0x160,
    "load_cr4": 0x190,
    "load_cr0": 0x1C0,
    "flush_page": 0x260,
    "miss": 0x280,
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
    made = mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    made.write(CODE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(made))
    if stubs.libc().mprotect(ctypes.c_void_p(base), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the host refuses executable memory for the engine's TLB feed")
    return made, base, Data.from_address(base + mmap.PAGESIZE)

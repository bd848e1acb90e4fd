"""The host code of ``native/watch.S``, assembled, its pages of data, and its way into the engine.

``tests/engine/test_watch.py`` assembles the source and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import internals, stubs, tlbcode
from sandbox.engine.library import UnknownEngine

CODE = bytes.fromhex(
    "31c08b0d081000004c8d05111a00004c8b1d221000004981e300f0ffff83e901782f493b387524458b48184989f241f7"
    "c1040000004d0f45d34d3b5010730c4901d24d3b500876034409c84983c020ebcc83e003c366662e0f1f840000000000"
    "488915d10f0000ff25f30f00000f1f00488b442408488905c40f0000488935c50f0000ff25df0f00008b93008b000083"
    "e20383fa03ba02000000b8010000000f44d041b9030000004989d049c1e0044e8d8403508a00004889f048c1e80c498b"
    "48c048c1e9064821c848c1e006490340c8488b0841f7c602000000480f4548084831f148f7c100f0ffff7517488b0841"
    "f7c602000000480f454808f7c1000800007410ffc283fa03720231d241ffc9759731c0c366662e0f1f84000000000090"
    "48833de80e000000745041f7c0020000007548488b0424483b054a0f00000f85da000000488b842400010000483b053d"
    "0f0000740d483b053c0f00000f85bc000000488bb424180100004829d64803b42440010000e9a4000000c34885d27f0f"
    "488935c90e00004c890dca0e0000c34c8b1dc20e000048c705b70e0000fffffffff7c6ff0f0000753c4d39d97524488b"
    "059b0e00004989c2482500f0ffff4839f0750f4c89d64181e2ff0f00004c29d2eb4ce8230000007445488d34164829c6"
    "4889c2eb398d0416a9ff0f0000752fe806000000480f45d0eb244c8b5c24084c8d159a0e0000498b42084885c0740e4d"
    "3b1a74064983c210ebec4885c0c3535541544155415641574883ec184889fb4c89cd4989f44989d54589c649c7c7ffff"
    "ffff4c893c2448833dca0d0000007405e8aa0000008b0db50d00004c8d15be17000083e9010f8885000000493b1a7577"
    "418b42184485f0746e4d8b42084d8b4a10a90400000075144f8d1c2c4d39cc73564d39c30f87b6000000eb4b4c89e048"
    "0d00f0ffff48f7d84c39e8490f47c54d8d1c074983ffff740e4d39cf73094d39c30f87890000004c39e8741b488b3c24"
    "4883ffff74114c39c7720c4881e700f0ffff4c39cf72694983c220e972ffffff4883c418415f415e415d415c5d5bc34c"
    "89e6e882fdffff4885c074174c8b78184981e700f0ffff4c89e181e1ff0f00004909cf4b8d742cffe85cfdffff4885c0"
    "741d488b48184881e100f0ffff4b8d442cff25ff0f00004809c148894c2408c3488b05a90c0000488338007493e89dff"
    "ffffe8a600000073874c6bd0584c8d1d6c0e00004d01da4885c07426493b6af875204d3b72d0751a498b4ab84939cc72"
    "1149034ac84b8d142c4839ca0f864effffff49c7020000000049895a084d8962104d897a184d896a204d89722849896a"
    "50488b0c2449894a3048ffc04889055d0c00004c89d7e84800000048833d450c0000000f8507ffffff488b05100c0000"
    "488b00c7402408000000488b7850ff50084889df4889eeff15fb0b000031c0483905120c0000480f4505120c00004883"
    "f818c348c74748000000004c89e6e856fcffff4885c07456488b0841f7c602000000480f454808f7c100020000753f44"
    "89e181e1ff0f00004a8d14294881fa0010000077294c89e24803502081e9f80f0000790231c94829ca488b12c1e10348"
    "d3ea4889573848c7474801000000c390488b05690b00004883380074398b0d6d0b00004c8d15761500004c8d5e0483e9"
    "017823493b3a7518418b421883e00683f806750c493b721073064d3b5a08770c4983c220ebd8ff25940b0000e82cffff"
    "ff73f35341544155554883ec084889fb4989f44189d5ff15840b000089c1e80affffff4c6bd0584c8d1dd20c00004d01"
    "da49c7020100000049895a08488b15250b0000498952104d89621849c742200400000049c742280200000049894a384d"
    "896a40488b2df60a000049c74250ffffffff48ffc0488905d40a000048833dc40a0000000f847ffeffff4889df4c89e6"
    "4489ea4883c4085d415d415c5bff25ed0a000066662e0f1f8400000000006690488b05690a0000488338000f84a50000"
    "0048833d770a0000000f84970000005341544155488d9fb075ffff4c8ba7c00100004189f5ff15ad0a0000e83dfeffff"
    "736e4c6bd0584c8d1d030c00004d01da49c7020200000049895a08488b8bd08a000049894a1049c74218ffffffff49c7"
    "42200400000049c74228020000004d8962384d896a4049c74250ffffffff48ffc0488905080a0000488b05d109000048"
    "8b00c7402409000000488b7850ff5008415d415c5bc3ff252c0a0000"
)
OFFSETS: dict[str, int] = {
    "matches": 0x000,
    "fill": 0x060,
    "miss": 0x070,
    "check": 0x120,
    "mark": 0x490,
    "load_cr3": 0x590,
}
"""Where each stub begins."""
MOST, MOST_HITS = 128, 24
"""Watches, one a CPU and range; and hits of one instruction."""
_DATA_BYTES = 2 * mmap.PAGESIZE

ENV_IN_CPU, MISS_HANDLER = 0x8A50, 0xA758
"""Where 2.1.4 has CPUX86State and CPUClass.tlb_fill in a CPUState."""
_LOAD_HELPER = 0x411AE0
_PROLOGUE = bytes.fromhex("415741564989fe41554154555348 81eca8000000 89542434")
_LOAD_SITE, _AGAIN = 0x41286C, (0x41256D, 0x41258B)
"""Returns into load_helper, in bytes of the library: of its check, and of its two calls for an unaligned load."""
_STORE_SITES = {
    2: (0x415CB4, 0x415CF5, 0x41A48D, 0x41A4D4),
    4: (0x417221, 0x417267, 0x41AEF3, 0x41AF3C),
    8: (0x418774, 0x4187BB, 0x41B954, 0x41B99B),
}
"""Size of a store that may go over an edge: returns into who checks its two parts."""


class Entry(ctypes.Structure):
    """A watch: CPUState, range [first, end), flags."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cpu", "first", "end", "flags"))


class Noted(ctypes.Structure):
    """A hit: physical addresses of its first and last byte, NOWHERE where the TLB had none."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("kind", "cpu", "linear", "physical", "size", "how")),
        *((name, ctypes.c_uint64) for name in ("last", "old", "new", "known", "back")),
    )


NOWHERE = 2**64 - 1


class Data(ctypes.Structure):
    """What the stubs share with Python; ``old_*`` is where each goes on."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("cell", "leave", "count", "physical", "cr3_watched", "passing", "hits")),
        *((name, ctypes.c_uint64) for name in ("filled", "miss_back", "missed", "store_at", "store_back")),
        *((name, ctypes.c_uint64) for name in ("old_fill", "old_miss", "old_mark", "old_cr3", "load_long")),
        *((name, ctypes.c_uint64) for name in ("load_site", "again", "again_too")),
        ("sites", ctypes.c_uint64 * 40),
        ("noted", Noted * MOST_HITS),
        ("watches", Entry * MOST),
    )


@functools.cache
def pages() -> tuple[mmap.mmap, int, Data]:
    """A page of code and two of data, private to this process and to each of its forks; the first one's address."""
    made = mmap.mmap(-1, mmap.PAGESIZE + _DATA_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    made.write(CODE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(made))
    if stubs.libc().mprotect(ctypes.c_void_p(base), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the host refuses executable memory for watchpoints")
    return made, base, Data.from_address(base + mmap.PAGESIZE)


@functools.cache
def install() -> Data:
    """Put the stubs in their places, under those of a TLB feed; without a watch they cost a jump a TLB fill.

    Raises UnknownEngine.
    """
    _, base, data = pages()
    _find_callers(data)
    data.cell, data.leave = stubs.link_address("running"), internals.symbol("cpu_loop_exit_restore_x86_64")
    data.load_long, data.store_back = internals.symbol("x86_ldl_phys_x86_64"), NOWHERE
    data.old_miss = internals.symbol("x86_cpu_tlb_fill_x86_64")
    for name, stub in (("cpu_watchpoint_address_matches", "matches"), ("cpu_check_watchpoint", "check")):
        internals.redirect(f"{name}_x86_64", base + OFFSETS[stub])
    feed = tlbcode.pages()[2]
    for name, stub, above in (
        ("tlb_set_page_with_attrs", "fill", "old_fill"),
        ("x86_stl_phys_notdirty", "mark", "old_store_long"),
    ):
        function, slot = internals.symbol(f"{name}_x86_64"), internals.slot(f"{name}_x86_64")
        setattr(data, f"old_{stub}", function)
        word = ctypes.c_uint64.from_address(slot)
        if word.value == function:
            word.value = base + OFFSETS[stub]
        else:
            setattr(feed, above, base + OFFSETS[stub])
    data.old_cr3 = stubs.replace_link("update_cr3", base + OFFSETS["load_cr3"])
    return data


def _find_callers(data: Data) -> None:
    """What the stubs know of the engine's own frames.  Raises UnknownEngine for another build."""
    image = internals.image().base
    if ctypes.string_at(image + _LOAD_HELPER, len(_PROLOGUE)) != _PROLOGUE:
        raise UnknownEngine("the engine's load helper is not where 2.1.4 keeps it")
    data.load_site, data.again, data.again_too = (image + each for each in (_LOAD_SITE, *_AGAIN))
    sites = [(image + at, size) for size, places in _STORE_SITES.items() for at in places]
    for number, (at, size) in enumerate(sites):
        if ctypes.string_at(at - 5, 1) != b"\xe8":
            raise UnknownEngine("the engine's store helpers are not where 2.1.4 keeps them")
        data.sites[2 * number], data.sites[2 * number + 1] = at, size


def miss_handler() -> int:
    """Who answers a TLB miss in the end: the engine, or the stub before it."""
    if not install.cache_info().currsize:
        return internals.symbol("x86_cpu_tlb_fill_x86_64")
    return pages()[1] + OFFSETS["miss"]


def watch_misses(cpu: int) -> None:
    """Let a CPU's misses be known to the stubs, under a feed.  Raises UnknownEngine."""
    engine, mine = internals.symbol("x86_cpu_tlb_fill_x86_64"), miss_handler()
    word = ctypes.c_uint64.from_address(cpu + MISS_HANDLER)
    feed = tlbcode.pages()
    if internals.read_quad(cpu + MISS_HANDLER) == engine:
        word.value = mine
    elif word.value == feed[1] + tlbcode.OFFSETS["miss"]:
        feed[2].old_miss = mine
    elif word.value != mine:
        raise UnknownEngine("the engine's TLB miss handler is not where 2.1.4 keeps it")

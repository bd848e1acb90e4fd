"""The host code of ``native/watch.S``, assembled, its pages of data, and its way into the engine.

``tests/engine/test_watch.py`` assembles the source and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import internals, mends, nativecode, stubs, tlbcode
from sandbox.engine.library import UnknownEngine

CODE = bytes.fromhex(
    "31c08b0d081000004c8d05111a00004c8b1d1a1000004981e300f0ffff83e901782f493b387524458b48184989f241f7"
    "c1040000004d0f45d34d3b5010730c4901d24d3b500876034409c84983c020ebcc83e003448b8fa09f000041f6c1ff74"
    "414589cb41c1eb104c8d87689f0000b90400000041f6c103741841f6c3017412458b104131f241f7c200f0ffff750383"
    "c80341c1e90241c1eb044983c008ffc975d2c366662e0f1f84000000000066904881e600f0ffff4c8d87508a0000b903"
    "0000004889f048c1e80c498b50c048c1ea064821d048c1e006490340c8e8350000004983c010ffc975d9488d87108200"
    "00b90300000041b808000000e8160000004883c04041ffc875f24805b8000000ffc975e231c0c34c8d4808498b114831"
    "f248f7c200f0ffff7507498109000100004983e9084939c173e1c30f1f440000488915e90e0000ff250b0f00000f1f00"
    "488b442408488905dc0e0000488935dd0e0000ff25f70e00008b93008b000083e20383fa03ba02000000b8010000000f"
    "44d041b9030000004989d049c1e0044e8d8403508a00004889f048c1e80c498b48c048c1e9064821c848c1e006490340"
    "c8488b0841f7c602000000480f4548084831f148f7c100f0ffff7517488b0841f7c602000000480f454808f7c1000800"
    "007410ffc283fa03720231d241ffc9759731c0c366662e0f1f8400000000009048833d080e0000007509f687a09f0000"
    "ff745041f7c0020000007548488b0424483b05590e00000f85da000000488b842400010000483b054c0e0000740d483b"
    "054b0e00000f85bc000000488bb424180100004829d64803b42440010000e9a4000000c34885d27f0f488935d80d0000"
    "4c890dd90d0000c34c8b1dd10d000048c705c60d0000fffffffff7c6ff0f0000753c4d39d97524488b05aa0d00004989"
    "c2482500f0ffff4839f0750f4c89d64181e2ff0f00004c29d2eb4ce8230000007445488d34164829c64889c2eb398d04"
    "16a9ff0f0000752fe806000000480f45d0eb244c8b5c24084c8d15b10d0000498b42084885c0740e4d3b1a74064983c2"
    "10ebec4885c0c3535541544155415641574883ec184889fb4c89cd4989f44989d54589c649c7c7ffffffff4c893c2448"
    "833de10c0000007405e86e0100008b0dcc0c00004c8d15d516000083e9010f8898000000493b1a757b418b42184485f0"
    "74724d8b42084d8b4a10a90400000075144f8d1c2c4d39cc735a4d39c30f877a010000eb4f4c89e0480d00f0ffff48f7"
    "d84c39e8490f47c54d8d1c074983ffff740e4d39cf73094d39c30f874d0100004c39e8741f488b3c244883ffff74154c"
    "39c772104881e700f0ffff4c39cf0f82290100004983c220e96effffff4883c418415f415e415d415c5d5bc3488b050d"
    "0c00004883380074e4448b8ba09f000041f6c1ff74d74589cb41c1eb104c8d83689f000031ff41ba0100000041f6c103"
    "744d4489d883e003a801744383f801750941f7c60200000074354489d9c1e90283e103c1e103ba00010703d3ea83e207"
    "418b0089d1f7d121c84b8d0c2c4839c1760d488d4c10014939cc73034409d741c1e90241c1eb044983c0084501d24183"
    "fa10729885ff0f8451ffffff48093d050c000048833d850b0000000f853cffffff41bf0a000000e9f80000004c89e6e8"
    "b5fcffff4885c074174c8b78184981e700f0ffff4c89e181e1ff0f00004909cf4b8d742cffe88ffcffff4885c0741d48"
    "8b48184881e100f0ffff4b8d442cff25ff0f00004809c148894c2408c3488b05fc0a0000488338000f84cffeffffe899"
    "ffffffe8ad0000000f83bffeffff4c6bd0584c8d1db70c00004d01da4885c07426493b6af875204d3b72d0751a498b4a"
    "b84939cc721149034ac84b8d142c4839ca0f8695feffff49c7020000000049895a084d8962104d897a184d896a204d89"
    "722849896a50488b0c2449894a3048ffc0488905a00a00004c89d7e84b00000048833d880a0000000f854efeffff41bf"
    "08000000488b05550a0000488b0044897824488b7850ff50084889df4889eeff15430a000031c0483905520a0000480f"
    "4505520a00004883f818c348c74748000000004c89e6e87efbffff4885c07456488b0841f7c602000000480f454808f7"
    "c100020000753f4489e181e1ff0f00004a8d14294881fa0010000077294c89e24803502081e9f80f0000790231c94829"
    "ca488b12c1e10348d3ea4889573848c7474801000000c3660f1f840000000000488b05a90900004883380074398b0dad"
    "0900004c8d15b61300004c8d5e0483e9017823493b3a7518418b421883e00683f806750c493b721073064d3b5a08770c"
    "4983c220ebd8ff25cc090000e824ffffff73f35341544155554883ec084889fb4989f44189d5ff15bc09000089c1e802"
    "ffffff4c6bd0584c8d1d120b00004d01da49c7020100000049895a08488b155d090000498952104d89621849c7422004"
    "00000049c742280200000049894a384d896a40488b2d2e09000049c74250ffffffff48ffc04889050c09000048833dfc"
    "080000000f8474feffff4889df4c89e64489ea4883c4085d415d415c5bff252509000066662e0f1f8400000000006690"
    "488b05a9080000488b004885c00f84a50000004883b8d8000000000f84970000005341544155488d9fb075ffff4c8ba7"
    "c00100004189f5ff15e3080000e833feffff736e4c6bd0584c8d1d410a00004d01da49c7020200000049895a08488b8b"
    "d08a000049894a1049c74218ffffffff49c742200400000049c74228020000004d8962384d896a4049c74250ffffffff"
    "48ffc04889053e080000488b050f080000488b00c7402409000000488b7850ff5008415d415c5bc3ff25620800006690"
    "488b41708b90b000000081e283000000448b80880000004181e0000002004409c2448b80a80100004181e00000008044"
    "09c23b91b80000007501c38991b8000000c741240b000000ff61080f1f440000483bb1c000000048c781c0000000ffff"
    "ffff0f84bc000000448b05a12100004c8d0daa2100004183e8010f88a40000004d8b114983c1084489d031f0a9ff0f00"
    "0075e3535731db4c8b5970bf030000004889f048c1e80c498b53c048c1ea064821d048c1e006490343c8e86600000074"
    "424983c310ffcf75d7488b41704805c0f7ffffbf0300000041bb08000000e842000000741e4883c04041ffcb75f04805"
    "b8000000ffcf75e085db752149c7c2ffffffff4c89150e2100005f5b4889b1c0000000c7412404000000ff61085f5be9"
    "52ffffffc3488b5010f7c200080000751c4831f248f7c200f0ffff7510ffc3488b50184c31d248f7c200f0ffffc3"
)
OFFSETS: dict[str, int] = {
    "matches": 0x000,
    "insert": 0x0B0,
    "fill": 0x140,
    "miss": 0x150,
    "check": 0x200,
    "mark": 0x650,
    "load_cr3": 0x750,
    "mode": 0x810,
    "fetch": 0x860,
}
"""Where each stub begins."""
MOST, MOST_HITS, MOST_BREAKS = 128, 24, 16
"""Watches, one a CPU and range; hits of one instruction; breakpoints at physical addresses."""
_DATA_BYTES = 2 * mmap.PAGESIZE

ENV_IN_CPU, MISS_HANDLER = 0x8A50, 0xA758
"""Where 2.1.4 has CPUX86State and CPUClass.tlb_fill in a CPUState."""
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
        *((name, ctypes.c_uint64) for name in ("cell", "leave", "count", "physical", "passing", "hits")),
        *((name, ctypes.c_uint64) for name in ("filled", "miss_back", "missed", "store_at", "store_back")),
        *((name, ctypes.c_uint64) for name in ("old_fill", "old_miss", "old_mark", "old_cr3", "load_long")),
        *((name, ctypes.c_uint64) for name in ("load_site", "again", "again_too", "guest_hits")),
        ("sites", ctypes.c_uint64 * 40),
        ("noted", Noted * MOST_HITS),
        ("watches", Entry * MOST),
        ("break_count", ctypes.c_uint64),
        ("fetched", ctypes.c_uint64),
        ("breaks", ctypes.c_uint64 * MOST_BREAKS),
    )


@functools.cache
def pages() -> tuple[mmap.mmap, int, Data]:
    """A page of code and two of data, private to this process and to each of its forks; the first one's address."""
    made, base = nativecode.made_executable(CODE, _DATA_BYTES, "watchpoints")
    return made, base, Data.from_address(base + mmap.PAGESIZE)


def stub(name: str) -> int:
    """Host address of a stub.  Raises UnknownEngine where the pages cannot be had."""
    return pages()[1] + OFFSETS[name]


@functools.cache
def install() -> Data:
    """Put the stubs in their places, under those of a TLB feed; without a watch they cost a TLB fill 2 ns.

    Raises UnknownEngine.
    """
    _, base, data = pages()
    _find_callers(data)
    data.cell = stubs.link_address("running")
    mended = mends.own({"leave": "leave_restored"})
    data.leave = mended.get("leave") or internals.symbol("cpu_loop_exit_restore_x86_64")
    data.load_long, data.store_back = internals.symbol("x86_ldl_phys_x86_64"), NOWHERE
    data.old_miss = internals.symbol("x86_cpu_tlb_fill_x86_64")
    for name, stub in (
        ("cpu_watchpoint_address_matches", "matches"),
        ("cpu_check_watchpoint", "check"),
        ("cpu_watchpoint_insert", "insert"),
    ):
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
    internals.check_build()
    image = internals.image().base
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

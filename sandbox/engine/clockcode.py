"""The host code of ``native/clock.S``, assembled, its page of data, and its way into the engine.

``tests/engine/test_clockcode.py`` assembles the source and compares.
"""

from __future__ import annotations

import ctypes
import functools
import mmap

from sandbox.engine import internals, mends, nativecode, stubs
from sandbox.engine.library import UnknownEngine

CODE = bytes.fromhex(
    "534889f34889350d10000089150f10000048c7050c10000000000000ff151e100000488b0dff0f000048c705e40f0000"
    "000000004885c9740a0fb753144803134889115bc366662e0f1f840000000000483b35b10f00007526488b05b80f0000"
    "4885c0741a48c705a80f0000000000004c8b15890f00004d8b124d85d27506ff25c30f00005355415441554156415748"
    "83ec184889fb488b28833d800f0000010f84a40200004c89d64889dfff15d60f00004c8d24034889dfbe0100000031d2"
    "ff15aa0f00004989c549c7c0400000004c89e14c89eabe490000004889dfff15740f00004889ee4889dfff15980f0000"
    "488d2c0349c7c0380000004c89e14889eabe4d0000004889dfff15490f000041b9090000004989e84c89e94c89eabe41"
    "0000004889dfff15340f00004889df4889eeff15400f00004889dfbe0100000031d2ff15280f00004889c54889dfbe40"
    "000000ff150f0f0000488968184883c020488905c00e000049c7c0400000004c89e14889eabe4d0000004889dfff15d5"
    "0e00004889dfbe0100000031d2ff15dd0e00004989c649c7c0000000004c89e14c89f2be490000004889dfff15a70e00"
    "004d89e84c89f14c89f2be4f0000004889dfff15900e000049c7c0000000004c89e14c89f2be4d0000004889dfff1575"
    "0e000049c7c0480000004c89e14889eabe490000004889dfff155a0e000048c7c6ffffffff4889dfff157a0e00004c8d"
    "3c034d89f84889e94889eabe4e0000004889dfff152f0e00004889df4c89feff15430e00004d89e84889e94889eabe4e"
    "0000004889dfff150c0e000049c7c0480000004c89e14889eabe4d0000004889dfff15f10d00004d89e84889e94889ea"
    "be4f0000004889dfff15da0d00004989e84c89f14c89f2be580000004889dfff15c30d00004c8bbbf09800004901df49"
    "c7c0f0ffffff4c89f94889eabe480000004889dfff159e0d00004989e84c89f14c89f2be580000004889dfff15870d00"
    "004889dfff15b60d00004989c74989c031c94c89f24829dabe030000004889dfff15a20d00004889df4c89f6ff15760d"
    "00004889df4889eeff156a0d00004889df4c89eeff155e0d00004889df4c89e6ff15520d0000be03000000e8e1000000"
    "41800f014c89fabe010000004889dfff150b0d0000e9b8000000488d35df0c00004889dfff152e0d00004c8d24034889"
    "ee4889dfff151e0d00004c8d2c0349c7c0000000004c89e14c89eabe4d0000004889dfff15cf0c00004889dfbe010000"
    "0031d2ff15d70c00004989c64889dfbe40000000ff15be0c00004c8970184883c0204889056f0c000049c7c008000000"
    "4c89e14c89f2be4d0000004889dfff15840c00004889df4c89f6ff15980c00004889df4c89eeff158c0c00004889df4c"
    "89e6ff15800c0000be02000000e80f0000004883c418415f415e415d415c5d5bc34883ec284889dfff15620c00004801"
    "d84889442408488bb3709900004889dfff15520c00004801d8488904244989e0b90200000031d2488b35ba0b00004889"
    "dfff15f10b00004889df488b3424ff15140c00004889df488b742408ff15060c00004883c428c3660f1f840000000000"
    "83fe027233488b0d740b0000488b09742d83792400751f48833900b8020000007c0c4883794800b8070000007f088941"
    "2457ff51085f31f6ff25520b0000488b356b0b00004c8b056c0b0000488b41404c8b4938488971384c8941404839f074"
    "224c39ce72054939c0720f4883290178a048837948007e99ebbc48834128014889713048836948017887ebaa0f1f4000"
    "488b0424483b05850b00007506ff25850b0000c366662e0f1f8400000000009051574883ec08ff15740b00004883c408"
    "5f5e837ff0000f88de000000c30f1f0051574883ec08ff155c0b00004883c4085f5e837ff0000f88be000000c30f1f00"
    "51574883ec08ff15440b00004883c4085f5e837ff0000f889e000000c30f1f0051574883ec08ff152c0b00004883c408"
    "5f5e837ff0000f887e000000c30f1f004150574883ec08ff15130b00004883c4085f5e837ff0007861c3660f1f440000"
    "4150574883ec08ff15fb0a00004883c4085f5e837ff0007841c3660f1f4400004150574883ec08ff15e30a00004883c4"
    "085f5e837ff0007821c3660f1f4400004150574883ec08ff15cb0a00004883c4085f5e837ff0007801c3488bbf581b00"
    "0031f6ff25d70900000f1f8000000000488b97d8000000488bb7800000004801d68b8f8800000081e1003107000b8fb0"
    "0000004889f048c1e8064831f04189c083e03f41c1e8064181e0c00f00004409c0488b84c7e876ffff4885c0743b483b"
    "307536483b500875303b4810752b448b401c4c3b8738f7ffff751e8b4818448b8744f7ffff81e1ffff0eff41c1e01844"
    "39c17505488b4020c3ff25210a0000"
)
OFFSETS: dict[str, int] = {
    "translate": 0x000,
    "emit": 0x050,
    "told": 0x480,
    "check_code": 0x510,
    "load_byte": 0x530,
    "load_word": 0x550,
    "load_long": 0x570,
    "load_quad": 0x590,
    "store_byte": 0x5B0,
    "store_word": 0x5D0,
    "store_long": 0x5F0,
    "store_quad": 0x610,
    "lookup": 0x640,
}
"""Where each stub begins."""

_WORDS = (
    (0x14A8C80, "helper_check_exit_request", "told", "check"),
    (0x1433690, "helper_check_exit_request", "told", "check"),
    (0x14A6668, "helper_lookup_tb_ptr", "lookup", "old_lookup"),
    (0x1431E60, "helper_lookup_tb_ptr", "lookup", "old_lookup"),
    (0x14336C0, "helper_ret_stb_mmu", "store_byte", "old_store_byte"),
    (0x14336C8, "helper_le_stw_mmu", "store_word", "old_store_word"),
    (0x14336D0, "helper_le_stl_mmu", "store_long", "old_store_long"),
    (0x14336D8, "helper_le_stq_mmu", "store_quad", "old_store_quad"),
    (0x1433740, "helper_ret_ldub_mmu", "load_byte", "old_load_byte"),
    (0x1433748, "helper_le_lduw_mmu", "load_word", "old_load_word"),
    (0x1433750, "helper_le_ldul_mmu", "load_long", "old_load_long"),
    (0x1433758, "helper_le_ldq_mmu", "load_quad", "old_load_quad"),
)
"""Where 2.1.4 names its functions, in bytes of the library: for the translator, in its table of helpers, in those of
the slow paths.  The function, the stub in its place, and where that goes on."""
_SUFFIX = "_x86_64"
_CODE_HOOKS, _CALL = 0x464BDF, b"\xe8"
"""Where the translator goes on when it has asked for the end of the run behind the hooks of an instruction."""
_FUNCTIONS = {
    "gen_call": "tcg_gen_callN",
    "gen_op1": "tcg_gen_op1",
    "gen_op3": "tcg_gen_op3",
    "gen_op4": "tcg_gen_op4",
    "emit_op": "tcg_emit_op",
    "temp_new": "tcg_temp_new_internal",
    "temp_free": "tcg_temp_free_internal",
    "const_long": "tcg_const_i32",
    "const_quad": "tcg_const_i64",
    "new_label": "gen_new_label",
    "branch": "tcg_gen_brcondi_i64",
}


class Data(ctypes.Structure):
    """What the stubs share with Python."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("cell", "helper", "check", "block", "most", "size_at", "first", "end", "old_translate"),
            *_FUNCTIONS,
            *("code_hooks", "ask_for_end"),
            *(f"old_{kind}_{size}" for kind in ("load", "store") for size in ("byte", "word", "long", "quad")),
            "old_lookup",
        )
    )


@functools.cache
def pages() -> tuple[mmap.mmap, int, Data]:
    """A page of code and one of data, private to this process and to each of its forks; the first one's address."""
    made, base = nativecode.made_executable(CODE, mmap.PAGESIZE, "the clock")
    return made, base, Data.from_address(base + mmap.PAGESIZE)


@functools.cache
def install() -> str | None:
    """Let blocks count themselves, from before the first handle; else why they do not: a hook counts them then."""
    if not stubs.native_host():
        return stubs.why_not_native()
    try:
        _put_in_place()
    except (UnknownEngine, OSError) as error:
        return str(error)
    return None


def _put_in_place() -> None:
    found = internals.image()
    first, end = found.relro
    _, base, data = pages()
    words = {}
    for offset, name, stub, link in _WORDS:
        at, function = found.base + offset, internals.symbol(name + _SUFFIX)
        if not first <= at < end or ctypes.c_uint64.from_address(at).value != function:
            raise UnknownEngine(f"the engine does not name {name} where 2.1.4 does")
        setattr(data, link, function)
        words[at] = base + OFFSETS[stub]
    data.code_hooks = found.base + _CODE_HOOKS
    if ctypes.string_at(data.code_hooks - 5, 1) != _CALL:
        raise UnknownEngine("the engine's translator does not look for the end of a run where 2.1.4 does")
    for name, function_name in _FUNCTIONS.items():
        setattr(data, name, internals.symbol(function_name + _SUFFIX))
    data.gen_call = mends.own({"gen_call": "gen_call"}).get("gen_call", data.gen_call)
    data.cell, data.helper = stubs.link_address("running"), base + OFFSETS["told"]
    for name in ("check_exit_request", "tcg_gen_callN"):
        internals.slot(name + _SUFFIX)
    internals.write_protected(words)
    data.ask_for_end = internals.redirect("check_exit_request_x86_64", base + OFFSETS["check_code"])
    internals.redirect("tcg_gen_callN_x86_64", base + OFFSETS["emit"])
    data.old_translate = stubs.replace_link("translate", base + OFFSETS["translate"])

"""System instructions as the manual has them, where the engine's translator and helpers differ.

``native/system.S`` stands in the place of some helpers, and of the translator's function for one instruction: that one
puts a call before the few instructions that need a check, so that all other code is translated as ever.  What is
mended: null DS, ES, FS and GS fault; INT n tells where it began; ENTER faults at its final ESP with nothing changed,
and with 16-bit operands keeps the upper half of EBP; SMSW stores 32 bits; reserved bits of CR4 and impossible ones of
CR0 are #GP; RDPMC; DR7.GD; FXSAVE stores all or nothing; 16-bit call gates have 16-bit offsets; REP STOS goes on
when it overwrites itself; RF lasts one instruction.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import zlib
from pathlib import Path

from sandbox.engine import internals, mends, nativecode, stubs
from sandbox.engine.library import UnknownEngine
from sandbox.records import dataclass

_STUB, _FUNCTION, _OWN, _RUNNING = range(4)
"""Kinds of entries in the list of ``native/system.bin``, as in that of ``mends``."""
_SUFFIX = "_x86_64"
_TRANSLATE_INSN, _OPERATIONS = 4, 7
"""The operation of a TranslatorOps that translates one instruction, and how many there are (QEMU 5.0)."""
_LEA_AT, _LEA = 0x26, b"\x48\x8d\x3d"
"""In ``gen_intermediate_code``: LEA RDI with the operations' address."""
_PLACES = {
    "helper_raise_interrupt": (0x14A97C8, 0x142EED8),
    "helper_into": (0x14BBB60, 0x142EFB0),
    "helper_load_seg": (0x14AC918, 0x142EC98),
    "helper_iret_protected": (0x14A1FF0, 0x142ED10),
    "helper_lret_protected": (0x14A9F68, 0x142ED28),
    "helper_write_crN": (0x14B1318, 0x142ED58),
    "helper_set_dr": (0x14A19F0, 0x142EDA0),
    "helper_get_dr": (0x14A7B98, 0x142EDB8),
    "helper_fxsave": (0x14B7468, 0x142FA48),
    "helper_rdpmc": (0x14A8558, 0x142F0A0),
    "helper_lcall_protected": (0x14B1B08, 0x142ECE0),
    "helper_ljmp_protected": (0x14B56E8, 0x142ECB0),
    "helper_sysenter": (0x14A38A0, 0x142EDE8),
    "helper_syscall": (0x14B4CE8, 0x142EE18),
    "helper_vmload": (0x14A3710, 0x142F238),
}
"""Where the measured wheel names each helper, for its translator and in its table: what ``mends.search`` finds."""


_BEFORE = {"invalidate_bytes": "stored", "invalidate_range": "dropped", "set_dirty": "dirtied"}
"""Links of ``stubs``, and what of ours stands before them."""


@dataclass(frozen=True, slots=True)
class System:
    """Names of the helpers that were replaced, without ``helper_``; or why none was."""

    helpers: tuple[str, ...]
    reason: str | None = None


held = (ctypes.c_uint64 * (2 + 2 * 256))()
"""Where the block ends whose repeated string instruction has stored into itself, or 0; whether this store did; and
where such instructions end and begin, as translated."""

_done: System | None = None


def install() -> System:
    """Put the code in its places, once a process, before the first handle is opened; not with ``--engine stock``."""
    global _done
    if _done is None:
        _done = _install()
    return _done


def version() -> str:
    """Which mends this process computes with: those of ``mends`` and these; "" for none."""
    return mends.version() + (f"-{zlib.crc32(code()):08x}" if install().helpers else "")


def code() -> bytes:
    """The committed host code, for the test that assembles its source."""
    return (Path(__file__).parent / "native" / "system.bin").read_bytes()


def _install() -> System:
    if mends.chosen() == mends.STOCK:
        return System((), "--engine stock")
    if reason := stubs.why_not_native():
        return System((), reason)
    try:
        return System(_put_in_place())
    except (UnknownEngine, OSError) as error:
        return System((), str(error))


@functools.cache
def _page() -> tuple[mmap.mmap, int]:
    return nativecode.placed(code())


def _put_in_place() -> tuple[str, ...]:
    made, base = _page()
    entries = list(mends.listed(code()))
    wanted = {each.name: base + each.offset for each in entries if each.kind == _STUB}
    own = {each.name: base + each.offset for each in entries if each.kind == _OWN}
    places = _places({name: internals.symbol(name + _SUFFIX) for name in wanted})
    operation = operations() + 8 * _TRANSLATE_INSN
    words = {own["before"]: _read(operation), own["held"]: ctypes.addressof(held)}
    mended = mends.own({"cpu_ldub_code": "seen_code", "raise_exception_err_ra": "raise_err"})
    words |= {own[link]: stubs.read_link(link) for link in _BEFORE}
    for each in entries:
        if each.kind == _FUNCTION:
            own_place = _read(places[each.name][0]) if each.name in places else internals.symbol(each.name + _SUFFIX)
            words[base + each.offset] = mended.get(each.name, own_place)
        elif each.kind == _RUNNING:
            words[base + each.offset] = stubs.link_address("running")
    _write(words)
    nativecode.make_executable(base, len(made), "system instructions")
    for link, ours in _BEFORE.items():
        stubs.replace_link(link, own[ours])
    named = {at: wanted[name] for name, pair in places.items() for at in pair}
    internals.write_protected({**named, operation: own["translate"]})
    return tuple(sorted(name.removeprefix("helper_") for name in wanted if name != "helper_vmload"))


def operations() -> int:
    """Address of the translator's table of operations.  Raises UnknownEngine."""
    function = internals.symbol("gen_intermediate_code" + _SUFFIX)
    found = ctypes.string_at(function + _LEA_AT, 7)
    table = function + _LEA_AT + 7 + int(struct.unpack_from("<i", found, 3)[0])
    (first, end), (text, text_end) = internals.image().relro, internals.image().text
    if found[:3] != _LEA or not first <= table < end or any(
        not text <= _read(table + 8 * each) < text_end for each in range(_OPERATIONS)
    ):  # fmt: skip
        raise UnknownEngine("the engine's translator has no table of operations where 2.1.4 has it")
    return table


def _places(functions: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Where the engine names each helper, whatever ``mends`` has put there before.  Raises UnknownEngine.

    Those of ``_PLACES`` when they hold what they should, else what a search finds.
    """
    base, (first, end) = internals.image().base, internals.image().relro
    places = {name: (base + _PLACES[name][0], base + _PLACES[name][1]) for name in functions}
    if not all(first <= at < end for pair in places.values() for at in pair):
        return _found(functions)
    strange = {name for name, pair in places.items() if any(_read(at) != functions[name] for at in pair)}
    mended = {each.name for each in mends.listed(mends.code()) if each.kind == _STUB} if strange else set()
    if strange - mended or any(_read(places[name][0]) != _read(places[name][1]) for name in strange):
        return _found(functions)
    return places


def _found(functions: dict[str, int]) -> dict[str, tuple[int, int]]:
    return mends.search({**functions, "helper_fpop": internals.symbol("helper_fpop" + _SUFFIX)})


def _read(at: int) -> int:
    return int(ctypes.c_uint64.from_address(at).value)


def _write(words: dict[int, int]) -> None:
    for at, value in words.items():
        ctypes.c_uint64.from_address(at).value = value

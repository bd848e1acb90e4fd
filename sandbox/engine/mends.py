"""x87 and SSE by the host's own instructions, in the place of the engine's helpers.

The engine computes floating point in software, with its own ideas of flags, stack faults and transcendental functions.
Translated code reaches each helper through two words: the address that the translator compiles in, and the table of
helpers that each handle reads when it is opened.  Both lead to ``native/x87.S`` from before the first handle on, unless
``choose`` said otherwise.  What the translator reads and emits goes through stubs, too (``native/encodings.S``).
Anything that is not as in 2.1.4's wheel is a reason to go on without.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.engine import internals, nativecode, stubs
from sandbox.engine.library import EngineError, UnknownEngine
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError

STOCK, MENDED = "stock", "mended"
CHOICES = (MENDED, STOCK)
_STUB, _FUNCTION, _OWN, _RUNNING, _SLOT, _DATA = range(6)
"""Kinds of entries in the list of ``native/mends.bin``: a helper's stub, a word for an address of the engine's, a
function of our own, a word for the address of the running CPU's pad, what stands before a function that the engine
calls, the first of the pages that stay writable."""
_CLASS, _UNALIGNED = 0x81B0, 0x18
"""Pointer to the CPU's class in the engine's CPUState, and do_unaligned_access in the class (QEMU 5.0)."""
_SUFFIX = "_x86_64"
_ENTRY = struct.Struct("<QQII")
"""A helper in the engine's table: function, name, flags, sizes of arguments (QEMU 5.0's TCGHelperInfo)."""
_SSE41 = 1 << 19
_NEEDS_SSE41 = ("helper_round", "helper_dp")
_NEEDS_SSE3 = ("helper_h", "helper_addsub", "helper_fist")


class EngineChosen(SandboxError):
    """A process has one engine, and a CPU of it is there already."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Mends:
    """What was put in the place of the engine's: names of helpers without ``helper_``, or why nothing was."""

    helpers: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    offset: int
    kind: int
    name: str


_chosen = MENDED
_done: Mends | None = None


def choose(engine: str) -> None:
    """Say before the first CPU of the process whether it shall be MENDED (the default) or STOCK.

    Raises EngineChosen.
    """
    global _chosen
    if _done is not None and engine != _chosen:
        raise EngineChosen(f"the engine is {_chosen} in this process", "It is chosen before the first CPU is made.")
    _chosen = engine


def chosen() -> str:
    """MENDED or STOCK."""
    return _chosen


def install() -> Mends:
    """What ``choose`` asked for, once a process, before the first handle is opened."""
    global _done
    if _done is None:
        _done = _install()
    return _done


def version() -> str:
    """Which mends this process computes with: CRC-32 of their code, and what of them the host lacks; "" for none."""
    done = install()
    if not done.helpers:
        return ""
    lacking = sum(each.kind == _STUB for each in _entries()) - len(done.helpers)
    return f"{zlib.crc32(code()):08x}" + (f"-{lacking}" if lacking else "")


def own(names: dict[str, str]) -> dict[str, int]:
    """Host addresses of functions of ours, by what the caller calls them; none where nothing is mended."""
    return {key: _own(name) for key, name in names.items()} if install().helpers else {}


def attach(cpu: int) -> None:
    """Let a CPU (the host address of its CPUState) say what a failed check of alignment is.  Raises UnknownEngine."""
    if _done is None or not _done.helpers:
        return
    word = internals.read_quad(cpu + _CLASS) + _UNALIGNED
    if internals.read_quad(word) not in (0, _own("unaligned")):
        raise UnknownEngine("the engine's CPU class is not where 2.1.4 keeps it")
    ctypes.c_uint64.from_address(word).value = _own("unaligned")


def clear() -> None:
    """Forget the floating-point flags that Python's own computing left in the host's registers."""
    if _done is not None and _done.helpers:
        _clear()()


@functools.cache
def code() -> bytes:
    """The committed host code, for the test that assembles its source."""
    return (Path(__file__).parent / "native" / "mends.bin").read_bytes()


def hints() -> bytes:
    """Two words for each stub in the list's order: where the measured wheel has what ``search`` finds."""
    return (Path(__file__).parent / "native" / "places.bin").read_bytes()


def _entries() -> tuple[_Listed, ...]:
    return listed(code())


@functools.cache
def listed(blob: bytes) -> tuple[_Listed, ...]:
    """The entries of the list behind the code."""
    return tuple(_parsed(blob))


def _parsed(blob: bytes) -> Iterator[_Listed]:
    (at,) = struct.unpack_from("<Q", blob)
    while offset := struct.unpack_from("<I", blob, at)[0]:
        end = blob.index(b"\0", at + 5)
        yield _Listed(offset, blob[at + 4], blob[at + 5 : end].decode())
        at = end + 1


def _install() -> Mends:
    if _chosen == STOCK:
        return Mends((), "--engine stock")
    if reason := stubs.why_not_native():
        return Mends((), reason)
    try:
        return Mends(tuple(sorted(_put_in_place())))
    except (UnknownEngine, OSError) as error:
        return Mends((), str(error))


@functools.cache
def _page() -> tuple[mmap.mmap, int]:
    return nativecode.placed(code())


@functools.cache
def _clear() -> Callable[[], None]:
    return ctypes.PYFUNCTYPE(None)(_own("clear"))


@functools.cache
def _own(name: str) -> int:
    """Host address of what is ours."""
    return _page()[1] + next(each.offset for each in _entries() if each.name == name and each.kind in (_OWN, _DATA))


def _put_in_place() -> list[str]:
    base = _page()[1]
    _fill(base)
    nativecode.make_executable(base, _own("data") - base, "floating point")
    wanted = {each.name: base + each.offset for each in _entries() if each.kind == _STUB}
    functions = {name: internals.symbol(name + _SUFFIX) for name in wanted}
    places = _hinted(functions) or search(functions)
    lacking = _lacking()
    slots = [each for each in _entries() if each.kind == _SLOT]
    for each in slots:
        internals.slot(each.name + _SUFFIX)
    taken = wanted if not lacking else [each for each in wanted if not each.startswith(lacking)]
    internals.write_protected({word: wanted[name] for name in taken for word in places[name]})
    for each in slots:
        internals.redirect(each.name + _SUFFIX, base + each.offset)
    return [name.removeprefix("helper_") for name in taken]


def _fill(base: int) -> None:
    """The addresses that the stubs need."""
    for each in _entries():
        word = ctypes.c_uint64.from_address(base + each.offset)
        if each.kind == _FUNCTION:
            word.value = internals.symbol(each.name + _SUFFIX)
        elif each.kind == _RUNNING:
            word.value = stubs.link_address("running")


def _lacking() -> tuple[str, ...]:
    """How helpers begin whose instructions this host has not: a CPU of the first years lacks SSE3 or SSE4.1."""
    has = ctypes.PYFUNCTYPE(ctypes.c_uint32)(_own("features"))()
    return (() if has & 1 else _NEEDS_SSE3) + (() if has & _SSE41 else _NEEDS_SSE41)


def _hinted(functions: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What ``search`` would find, in the measured wheel; nothing where a word is not what it should be."""
    base, (first, end) = internals.image().base, internals.image().relro
    found = {}
    for (name, function), pair in zip(functions.items(), struct.iter_unpack("<II", hints()), strict=True):
        places = base + pair[0], base + pair[1]
        if not all(first <= at < end and ctypes.c_uint64.from_address(at).value == function for at in places):
            return {}
        found[name] = places
    return found


def search(helpers: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Where the engine names each function: (the translator's word, the table's).  Raises UnknownEngine."""
    first, end = internals.image().names
    words = array("Q", ctypes.string_at(first, (end - first) & ~7))
    named = dict(zip(words, range(first, end, 8), strict=False))
    table = _table(helpers)
    found = {}
    for name, function in helpers.items():
        if function not in named or name not in table:
            raise UnknownEngine(f"the engine does not reach {name} as 2.1.4 does")
        found[name] = named[function], table[name]
    return found


def _table(helpers: dict[str, int]) -> dict[str, int]:
    """Where the engine's table has the address of each helper's function.  Raises UnknownEngine."""
    (first, _), (end, _), (text, text_end) = internals.image().relro, internals.image().names, internals.image().text
    raw = ctypes.string_at(first, end - first)
    at = raw.find(struct.pack("<Q", helpers["helper_fpop"]))
    if at < 0:
        raise UnknownEngine("the engine has no table of helpers")
    while at >= _ENTRY.size and text <= _ENTRY.unpack_from(raw, at - _ENTRY.size)[0] < text_end:
        at -= _ENTRY.size
    functions = {function: name for name, function in helpers.items()}
    found = {}
    for function, _, _, _ in _ENTRY.iter_unpack(raw[at : at + (len(raw) - at) // _ENTRY.size * _ENTRY.size]):
        if not text <= function < text_end:
            break
        if wanted := functions.get(function):
            found[wanted] = first + at
        at += _ENTRY.size
    return found


__all__ = ["CHOICES", "MENDED", "STOCK", "EngineChosen", "EngineError", "Mends", "choose", "chosen", "clear", "install"]

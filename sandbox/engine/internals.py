"""What of the engine is reached by symbol or by offset because its API does not offer it.

All of it concerns 64-bit Linux builds of the measured version; each offset is verified on first use, by reading
through ``/proc/self/mem`` so that a wrong one is an error and not a crash.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
from collections.abc import Callable

from sandbox.engine import nativecode
from sandbox.engine.library import UnknownEngine, library
from sandbox.records import dataclass

CPU_OF_ENGINE, ENV_OF_CPU = 0x1B8, 0x128
ENGINE_OF_CPU, ENGINE_OF_ENV = 0x81A8, 0x1B58

FEATURES_1_ECX, FEATURES_7_ECX, FEATURES_EXTENDED_EDX = 72, 88, 112
"""CPUID words, in bytes behind the part of the CPU state that a context saves."""
MEASURED_1_ECX, MEASURED_EXTENDED_EDX = 0xC6D82203, 0x28100800
RDRAND, LONG_MODE, UMIP = 1 << 30, 1 << 29, 1 << 2

_LOAD_HELPER = 0x411AE0
_PROLOGUE = bytes.fromhex("415741564989fe41554154555348 81eca8000000 89542434")
"""Where the measured wheel has its load helper, and how that begins."""

_DT_PLTRELSZ, _DT_PLTGOT = 2, 3
_PT_GNU_RELRO = 0x6474E552
_RESERVED_SLOTS, _RELOCATION_SIZE = 3, 24


class _SharedObject(ctypes.Structure):
    """``Dl_info`` of dladdr(3)."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Image:
    """The library in this process: load address, first and end address of its code, its dynamic section, and what the
    loader made read-only: tables of pointers, then the addresses through which code names functions (``names``)."""

    base: int
    text: tuple[int, int]
    dynamic: dict[int, int]
    relro: tuple[int, int]
    names: tuple[int, int]


def read_quad(address: int) -> int:
    """A 64-bit word of this process.  Raises UnknownEngine where nothing is mapped."""
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        return int(struct.unpack("<Q", os.pread(descriptor, 8, address))[0])
    except (OSError, struct.error) as error:
        raise UnknownEngine(f"the engine has no data at {address:#x}, where 2.1.4 keeps a pointer") from error
    finally:
        os.close(descriptor)


def symbol(name: str) -> int:
    """Host address of a symbol that the library exports without promising it, or imports.  Raises UnknownEngine."""
    found = _finder()(name.encode())
    if found is None:
        raise UnknownEngine(f"the engine's library does not export {name}", "Install the PyPI wheel.")
    return found


@functools.cache
def _finder() -> Callable[[bytes], int | None]:
    """dlsym(3) of the library: a microsecond a name, where an attribute of a CDLL makes a function object of it."""
    find = nativecode.libc().dlsym
    find.argtypes, find.restype = (ctypes.c_void_p, ctypes.c_char_p), ctypes.c_void_p
    return functools.partial(find, library()._handle)


@functools.cache
def memory_reader() -> Callable[..., int]:
    """``read(cpu, linear, buffer, size, False)``: 0, or -1 where a page is missing; leaves TLB and tables alone."""
    read = library().cpu_memory_rw_debug_x86_64
    read.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_bool)
    return read


@functools.cache
def image() -> Image:
    """Where the library lies, from its own program headers (ELF gABI, 5)."""
    found = _SharedObject()
    nativecode.libc().dladdr(ctypes.c_void_p(symbol("uc_version")), ctypes.byref(found))
    base = found.base or 0
    head = ctypes.string_at(base, 64)
    if head[:5] != b"\x7fELF\x02":
        raise UnknownEngine("the engine's library does not begin with a 64-bit ELF header")
    (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    text = relro = names = (0, 0)
    dynamic: dict[int, int] = {}
    for index in range(count):
        kind, flags, _, at, _, _, memory, _ = struct.unpack(
            "<IIQQQQQQ", ctypes.string_at(base + table + index * size, 56)
        )
        if kind == 1 and flags & 1:
            text = (base + at, base + at + memory)
        elif kind == 2:
            words = struct.unpack(f"<{memory // 8}Q", ctypes.string_at(base + at, memory & ~15))
            for tag, value in zip(words[::2], words[1::2], strict=True):
                dynamic.setdefault(tag, value)
            names = (base + at + memory, 0)
        elif kind == _PT_GNU_RELRO:
            relro = (base + at, base + at + memory)
    return Image(base, text, dynamic, relro, (names[0], relro[1]))


def check_build() -> None:
    """Raise UnknownEngine for a library that was built otherwise than the measured wheel."""
    found = image()
    at, (first, end) = found.base + _LOAD_HELPER, found.text
    if not first <= at < end - len(_PROLOGUE) or ctypes.string_at(at, len(_PROLOGUE)) != _PROLOGUE:
        raise UnknownEngine("the engine's load helper is not where 2.1.4 keeps it")


@functools.cache
def slot(name: str) -> int:
    """Host address of the word through which the library calls a function (System V x86-64 ABI, 5.2).

    Found by what the loader put there, so ask before the word is changed.  Raises UnknownEngine when the library does
    not call it so.
    """
    found = image()
    function = symbol(name)
    table = found.dynamic[_DT_PLTGOT]
    table += 0 if table >= found.base else found.base
    size = 8 * (_RESERVED_SLOTS + found.dynamic[_DT_PLTRELSZ] // _RELOCATION_SIZE)
    at = ctypes.string_at(table, size).find(struct.pack("<Q", function))
    if at < 0 or at & 7:
        raise UnknownEngine(f"the engine's library does not call {name} through its table")
    return table + at


def redirect(name: str, target: int) -> int:
    """Let the library call ``target`` where it calls a function through its table; the function's address."""
    ctypes.c_uint64.from_address(slot(name)).value = target
    return symbol(name)


def write_protected(words: dict[int, int]) -> None:
    """Store words, by host address, into what the loader made read-only.  Raises OSError."""
    first, end = image().relro
    refused = "the host does not let the engine's tables be changed"
    nativecode.protect(first, end - first, nativecode.READ_WRITE, refused)
    for at, value in words.items():
        ctypes.c_uint64.from_address(at).value = value
    nativecode.protect(first, end - first, mmap.PROT_READ, refused)


_verified = False


def locate(engine: int) -> tuple[int, int]:
    """Host addresses of a handle's CPUState and of its CPUX86State.  Raises UnknownEngine."""
    global _verified
    if not _verified:
        cpu = read_quad(engine + CPU_OF_ENGINE)
        env = read_quad(cpu + ENV_OF_CPU)
        for name, at in (("CPUState.uc", cpu + ENGINE_OF_CPU), ("CPUX86State.uc", env + ENGINE_OF_ENV)):
            if read_quad(at) != engine:
                raise UnknownEngine(f"the engine's {name} is not where 2.1.4 keeps it")
        _verified = True
    cpu = ctypes.c_uint64.from_address(engine + CPU_OF_ENGINE).value
    return cpu, ctypes.c_uint64.from_address(cpu + ENV_OF_CPU).value


def restrict_features(env: int, state_size: int, umip: bool) -> None:
    """Take long mode and RDRAND out of the CPU: a 32-bit machine, and a deterministic one.  Raises UnknownEngine.

    With ``umip`` CPUID tells of UMIP, which ``native/system.S`` does.
    """
    for offset, measured, without, more in (
        (FEATURES_1_ECX, MEASURED_1_ECX, RDRAND, 0),
        (FEATURES_7_ECX, 0, 0, UMIP if umip else 0),
        (FEATURES_EXTENDED_EDX, MEASURED_EXTENDED_EDX, LONG_MODE, 0),
    ):
        word = ctypes.c_uint32.from_address(env + state_size + offset)
        if word.value != measured:
            raise UnknownEngine(f"the engine's CPUID word at {offset} is {word.value:#x}, not {measured:#x}")
        word.value = measured & ~without | more

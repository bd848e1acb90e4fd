"""The engine's shared library through plain ctypes prototypes.

The stock binding costs 50 ms to import and 1.5 µs a register; the few functions used here are declared by hand,
and their constants are compared with the installed package's by ``tests/engine/test_library.py``.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path

from sandbox.x86.errors import SandboxError

ENGINE_VERSION = (2, 1, 4)

ARCH_X86, MODE_32 = 4, 4
PROT_EXEC, PROT_ALL = 4, 7

HOOK_INTR, HOOK_INSN, HOOK_CODE, HOOK_BLOCK = 1, 2, 4, 8
HOOK_MEM_UNMAPPED, HOOK_MEM_FETCH_PROT = 16 | 32 | 64, 512
MEM_WRITE_UNMAPPED, MEM_FETCH_UNMAPPED, MEM_FETCH_PROT = 20, 21, 24

INSN_IN, INSN_OUT, INSN_RDTSC, INSN_RDTSCP = 218, 500, 608, 609

ERR_OK, ERR_READ_UNMAPPED, ERR_WRITE_UNMAPPED, ERR_FETCH_UNMAPPED = 0, 6, 7, 8
ERR_INSN_INVALID, ERR_FETCH_PROT = 10, 14

NO_ADDRESS = 2**64 - 1

CTL_USE_EXITS, CTL_TB_REMOVE_CACHE, CTL_TB_FLUSH, CTL_TLB_FLUSH, CTL_TCG_BUFFER_SIZE = 4, 9, 10, 11, 13

REG_EFLAGS, REG_CR0, REG_CR2, REG_CR3, REG_CR4 = 25, 50, 52, 53, 54
REG_EAX, REG_EBP, REG_EBX, REG_ECX, REG_EDI, REG_EDX, REG_EIP, REG_ESI, REG_ESP = 19, 20, 21, 22, 23, 24, 26, 29, 30
REG_IDTR, REG_GDTR, REG_LDTR, REG_TR, REG_MSR = 242, 243, 244, 245, 248
REG_XMM0, REG_FP0, REG_FPSW, REG_FPCW, REG_FPTAG, REG_MXCSR = 122, 82, 31, 246, 247, 249
REG_DR0, REG_DR7 = 66, 73

MmioRead = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p)
MmioWrite = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p)
PortRead = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p)
PortWrite = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)
TimeStamp = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
MemoryEvent = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_void_p,
)


class EngineError(SandboxError):
    """The engine did something that this room does not know how to answer: our fault, or an unknown build."""

    exit_status = 3


class UnknownEngine(EngineError):
    """The installed engine is not one whose behaviour was verified."""


class DescriptorTable(ctypes.Structure):
    """A segment or table register as the engine's register calls exchange it."""

    _fields_ = (
        ("selector", ctypes.c_uint16),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class Msr(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint32), ("value", ctypes.c_uint64))


_P, _U64, _INT, _SIZE = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_size_t
_PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "uc_version": (ctypes.c_uint, (_P, _P)),
    "uc_strerror": (ctypes.c_char_p, (_INT,)),
    "uc_open": (_INT, (_INT, _INT, _P)),
    "uc_close": (_INT, (_P,)),
    "uc_reg_read": (_INT, (_P, _INT, _P)),
    "uc_reg_write": (_INT, (_P, _INT, _P)),
    "uc_vmem_translate": (_INT, (_P, _U64, ctypes.c_uint32, _P)),
    "uc_mem_read": (_INT, (_P, _U64, _P, _U64)),
    "uc_mem_map_ptr": (_INT, (_P, _U64, _SIZE, ctypes.c_uint32, _P)),
    "uc_mem_unmap": (_INT, (_P, _U64, _U64)),
    "uc_mmio_map": (_INT, (_P, _U64, _SIZE, MmioRead, _P, MmioWrite, _P)),
    "uc_emu_start": (_INT, (_P, _U64, _U64, _U64, _SIZE)),
    "uc_emu_stop": (_INT, (_P,)),
    "uc_context_alloc": (_INT, (_P, _P)),
    "uc_context_free": (_INT, (_P,)),
    "uc_context_size": (_SIZE, (_P,)),
    "uc_context_save": (_INT, (_P, _P)),
    "uc_context_restore": (_INT, (_P, _P)),
    "uc_context_reg_read": (_INT, (_P, _INT, _P)),
    "uc_context_reg_write": (_INT, (_P, _INT, _P)),
    "uc_hook_add": (_INT, (_P, _P, _INT, _P, _P, _U64, _U64)),
    "uc_hook_del": (_INT, (_P, _SIZE)),
    "uc_ctl": (_INT, (_P, _INT)),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded engine with prototypes set.

    Raises UnknownEngine when it is missing, or of a version that was not measured.
    """
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise UnknownEngine("the unicorn package is not installed", "pip install unicorn==2.1.4")
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    names = {"darwin": "libunicorn.2.dylib", "win32": "unicorn.dll"}
    path = folder / names.get(sys.platform, "libunicorn.so.2")
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnknownEngine("the engine's library cannot be loaded", str(error)) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(found, name)
        function.restype = result
        function.argtypes = arguments
    combined = found.uc_version(None, None)
    version = (combined >> 24 & 0xFF, combined >> 16 & 0xFF, combined >> 8 & 0xFF)
    if version != ENGINE_VERSION:
        here, measured = (".".join(map(str, each)) for each in (version, ENGINE_VERSION))
        raise UnknownEngine(
            f"unicorn {here} is installed; only {measured} was measured",
            "The sandbox depends on behaviour that no version promises. pip install unicorn==2.1.4",
        )
    return found


def check(error: int, doing: str) -> None:
    """Raise EngineError when the engine answered anything but OK."""
    if error:
        text = library().uc_strerror(error).decode()
        raise EngineError(f"the engine refused {doing}: {text}")


def control(kind: int, arguments: int, direction: int) -> int:
    """The request word of ``uc_ctl``: type, number of arguments, and 1 write, 2 read."""
    return kind | arguments << 26 | direction << 30


def address_of(name: str) -> int:
    """The host address of a library function, for native hooks."""
    return ctypes.cast(getattr(library(), name), ctypes.c_void_p).value or 0

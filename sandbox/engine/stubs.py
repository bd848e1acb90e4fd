"""Native hooks: a few bytes of host code that count, stop and capture without entering Python.

The source is ``native/stubs.S``; on hosts other than x86-64 ctypes callbacks do the same work, slower.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sandbox.engine.library import address_of, library

REASON_NONE, REASON_TRAP, REASON_BUDGET, REASON_STEPS, REASON_BREAKPOINT = range(5)

_CODE = bytes.fromhex(
    "488329017801c3c7412402000000ff610866662e0f1f8400000000000f1f400048836928017801c3c7412403000000ff"
    "610866662e0f1f8400000000000f1f00483b7130750948c74130ffffffffc3c7412404000000ff61080f1f8000000000"
    "534883ec10897220c74224010000004889d348893c24488b7218ff5210488b3c24ff53084883c4105bc3660f1f440000"
    "488b82a8000000483b05d20000000f82ad000000483b05cd0000000f83a00000004531db0fb6084189c94181e1f00000"
    "004183f94075094189cb48ffc00fb60881f9f700000075790fb648014189c94183e1384183f93875684883c0024189c9"
    "41c1e9064183f903742b83e10783f90475090fb60848ffc083e1074183f901750548ffc0eb0f4183f902740583f90575"
    "044883c004488982a8000000b80000008041f7c308000000740448c1e0204889829000000048c7828800000000000000"
    "c3488b05280000004883f8017602ffe0bf0800000031f6ff251b0000000f1f0000000000000000000000000000000000"
    "00000000000000000000000000000000"
)
OFFSETS = {"block": 0x00, "steps": 0x20, "breakpoint": 0x40, "interrupt": 0x60, "divide_error": 0x90}
_LIBRARY_FIRST = 0x170


class HookPad(ctypes.Structure):
    """What the hooks of one CPU share with Python; the layout is fixed by ``native/stubs.S``."""

    _fields_ = (
        ("budget", ctypes.c_int64),
        ("stop", ctypes.c_void_p),
        ("save", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("vector", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("steps", ctypes.c_int64),
        ("skip", ctypes.c_uint64),
    )


class _SigAction(ctypes.Structure):
    """``struct sigaction`` of x86-64 glibc."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def native_host() -> bool:
    """True where the stubs' machine code and signal frame layout are the host's."""
    return platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux"


@functools.cache
def _code_page() -> tuple[mmap.mmap, int]:
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CODE)
    return page, ctypes.addressof(ctypes.c_char.from_buffer(page))


def stub_bytes() -> bytes:
    """The committed host code, for the test that assembles its source."""
    return _CODE


def stub_address(name: str) -> int:
    """Host address of a stub."""
    return _code_page()[1] + OFFSETS[name]


def _engine_text() -> tuple[int, int]:
    """First and end host address of the engine's code, from this process's own map."""
    inside = address_of("uc_emu_start")
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if first <= inside < end:
            return first, end
    return 0, 0


def guard_division() -> None:
    """Install (again, if somebody replaced it) the SIGFPE handler that turns INT_MIN / -1 into the guest's #DE.

    A SIGFPE from anywhere else than the engine's own division goes to the handler that was there before.
    """
    if not native_host():
        return
    libc = ctypes.CDLL(None)
    handler = stub_address("divide_error")
    current = _SigAction()
    libc.sigaction(int(signal.SIGFPE), None, ctypes.byref(current))
    if current.handler == handler:
        return
    page, base = _code_page()
    data = (ctypes.c_uint64 * 4).from_address(base + _LIBRARY_FIRST)
    if not data[0]:
        data[0], data[1] = _engine_text()
    data[2] = current.handler or 0
    data[3] = ctypes.cast(libc.signal, ctypes.c_void_p).value or 0
    action = _SigAction(handler=handler, flags=4 | 0x08000000 | 0x40000000)
    libc.sigaction(int(signal.SIGFPE), ctypes.byref(action), None)


class PythonHooks:
    """The same hooks as ctypes callbacks, for hosts without native stubs."""

    def __init__(self, pad: HookPad) -> None:
        engine = library()
        at_code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
        at_interrupt = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)

        def block(uc: int, address: int, size: int, data: int) -> None:
            pad.budget -= 1
            if pad.budget < 0:
                pad.reason = REASON_BUDGET
                engine.uc_emu_stop(uc)

        def steps(uc: int, address: int, size: int, data: int) -> None:
            pad.steps -= 1
            if pad.steps < 0:
                pad.reason = REASON_STEPS
                engine.uc_emu_stop(uc)

        def breakpoint_(uc: int, address: int, size: int, data: int) -> None:
            if pad.skip == address:
                pad.skip = 2**64 - 1
                return
            pad.reason = REASON_BREAKPOINT
            engine.uc_emu_stop(uc)

        def interrupt(uc: int, vector: int, data: int) -> None:
            pad.vector, pad.reason = vector, REASON_TRAP
            engine.uc_context_save(uc, pad.context)
            engine.uc_emu_stop(uc)

        self._callbacks: dict[str, Callable[..., None]] = {
            "block": at_code(block),
            "steps": at_code(steps),
            "breakpoint": at_code(breakpoint_),
            "interrupt": at_interrupt(interrupt),
        }

    def address(self, name: str) -> int:
        return ctypes.cast(self._callbacks[name], ctypes.c_void_p).value or 0  # type: ignore[arg-type]

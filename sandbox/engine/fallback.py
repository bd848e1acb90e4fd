"""The hooks of ``native/stubs.S`` as ctypes callbacks, for hosts without native stubs.

Slower by a microsecond a hook, and with less protection: nothing stands between the engine's ``abort`` or division
and this process, debug registers are the engine's own business, and a refused IN or OUT stops at the end of its
block, so that the instructions behind it in that block have run.  Run untrusted code in a worker there.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from sandbox.engine.context import BLOB_HEADER, CS_BASE, EIP, IS_SOFTWARE32, OLD_EXCEPTION32
from sandbox.engine.library import library
from sandbox.engine.stubs import (
    REASON_BLOCKS,
    REASON_BREAKPOINT,
    REASON_FETCH,
    REASON_NONE,
    REASON_PAUSED,
    REASON_STEPS,
    REASON_TRAP,
    HookPad,
)

NO_ADDRESS = 2**64 - 1
_PAGE_FAULT = 14
_LONGEST_RUN = 0.1
"""Seconds after which a run is paused, as ``sandbox.engine.ticks`` does it natively."""


class PythonHooks:
    """The hooks of one CPU, and ``enter``, which runs it."""

    def __init__(self, pad: HookPad) -> None:
        engine = library()
        at_code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
        at_interrupt = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
        self._pad = pad
        self._look_at = 0.0

        def block(uc: int, address: int, size: int, data: int) -> None:
            before_first, before_end = pad.first, pad.end
            pad.first, pad.end = address, address + size
            if before_end == address or (before_first <= address and address + size < before_end):
                if before_end != address:
                    pad.steps += 1
                pad.fuel -= 1
                spent = pad.fuel < 0
            else:
                pad.blocks -= 1
                if pad.blocks < 0:
                    pad.reason = REASON_BLOCKS
                    engine.uc_emu_stop(uc)
                    return
                spent = pad.fuel <= 0
            if spent or time.monotonic() > self._look_at:
                pad.reason = REASON_PAUSED
                engine.uc_emu_stop(uc)

        def steps(uc: int, address: int, size: int, data: int) -> None:
            pad.steps -= 1
            if pad.steps < 0:
                pad.reason = REASON_STEPS
                engine.uc_emu_stop(uc)

        def breakpoint_(uc: int, address: int, size: int, data: int) -> None:
            if pad.skip == address:
                pad.skip = NO_ADDRESS
                return
            pad.reason = REASON_BREAKPOINT
            engine.uc_emu_stop(uc)

        def interrupt(uc: int, vector: int, data: int) -> None:
            if pad.refused:
                engine.uc_emu_stop(uc)
                return
            pad.vector, pad.reason = vector, REASON_TRAP
            engine.uc_emu_stop(uc)

        self._callbacks: dict[str, Callable[..., None]] = {
            "block": at_code(block),
            "steps": at_code(steps),
            "breakpoint": at_code(breakpoint_),
            "interrupt": at_interrupt(interrupt),
        }

    def address(self, name: str) -> int:
        """Host address of a hook."""
        return ctypes.cast(self._callbacks[name], ctypes.c_void_p).value or 0  # type: ignore[arg-type]

    def enter(self, _pad: int) -> int:
        """Put the context into the engine, run, take the state back.  0: an exception was captured."""
        pad, engine = self._pad, library()
        engine.uc_context_restore(pad.engine, pad.context)
        pad.first, pad.end, pad.behind = NO_ADDRESS, pad.behind, NO_ADDRESS
        self._look_at = time.monotonic() + _LONGEST_RUN
        pad.fuel, pad.reason, pad.refused, pad.stopping = pad.share, REASON_NONE, 0, 0
        pad.error = engine.uc_emu_start(pad.engine, self._word(8 * EIP), 0, 0, 0)
        if not pad.refused:
            engine.uc_context_save(pad.engine, pad.context)
        ctypes.c_uint32.from_address(pad.context + BLOB_HEADER + 4 * OLD_EXCEPTION32).value = 0xFFFFFFFF
        running = pad.first <= self._word(8 * CS_BASE) + self._word(8 * EIP) < pad.end
        software = self._word(4 * IS_SOFTWARE32) & 0xFFFFFFFF
        if pad.reason == REASON_TRAP and pad.vector == _PAGE_FAULT and not software and not running:
            pad.reason = REASON_FETCH
        return int(pad.reason != REASON_TRAP or pad.error or pad.refused)

    def _word(self, offset: int) -> int:
        return ctypes.c_uint64.from_address(self._pad.context + BLOB_HEADER + offset).value

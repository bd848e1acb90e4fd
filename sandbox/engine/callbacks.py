"""What a CPU is wired to: RAM, devices in memory, ports, the time-stamp counter; and what their callbacks raise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Self

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine import mends, stubs
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import PortDenied
from sandbox.engine.handle import Handle
from sandbox.engine.library import library

PortReader = Callable[[int, int], int]
PortWriter = Callable[[int, int, int], None]

_NONE32 = 0xFFFFFFFF


def inside_iopl(cpu: Callbacks, port: int, size: int) -> bool:
    """The gate of a CPU without an IO bitmap: CPL not above IOPL (SDM 1, 19.5.1)."""
    return cpu.context.cpl <= cpu.context.eflags >> 12 & 3


class Callbacks:
    """The part of a Cpu that devices see."""

    handle: Handle
    context: CpuContext
    port_gate: Callable[[Self, int, int], bool]
    """Whether IN or OUT may go through at CPL 1 to 3: (CPU, port, size)."""
    time_stamp: Callable[[Self], int]
    """What RDTSC and RDTSCP read."""
    _words: memoryview

    def __init__(self, time_stamp: Callable[[Self], int]) -> None:
        self.port_gate = inside_iopl
        self.time_stamp = time_stamp
        self._unanswered: tuple[int, bool, int] | None = None
        self._denied: PortDenied | None = None
        self._callback_error: BaseException | None = None

    def map_ram(self, physical: int, size: int, host_address: int) -> None:
        """Back a physical range (bytes, page-aligned) with host memory that outlives this CPU."""
        self.handle.map_ram(physical, size, host_address)

    def unmap_ram(self, physical: int, size: int) -> None:
        """Take back what ``map_ram`` gave, with the same bounds."""
        self.handle.unmap_ram(physical, size)

    def map_mmio(
        self, physical: int, size: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """Let a device answer a physical range: ``read(offset, size)``, ``write(offset, size, value)``."""

        def on_read(uc: int, offset: int, width: int, data: int) -> int:
            return int(self._guard(read, 0, offset, width))

        def on_write(uc: int, offset: int, width: int, value: int, data: int) -> None:
            self._guard(write, 0, offset, width, value)

        self.handle.map_mmio(physical, size, lib.MmioRead(on_read), lib.MmioWrite(on_write))

    def connect_ports(self, read: PortReader, write: PortWriter) -> None:
        """Let a bus answer IN and OUT: ``read(port, size)``, ``write(port, size, value)``.

        ``port_gate`` is asked before an access at CPL 1 to 3; its refusal ends the run with PortDenied.
        """

        def on_read(uc: int, port: int, width: int, data: int) -> int:
            if not self._allows(port, width, False):
                return 0
            value = int(self._guard(read, _NONE32, port, width))
            self._refuse_if_failed()
            return value

        def on_write(uc: int, port: int, width: int, value: int, data: int) -> None:
            if self._allows(port, width, True):
                self._guard(write, 0, port, width, value)
                self._refuse_if_failed()

        self.handle.add_port_callbacks(lib.PortRead(on_read), lib.PortWrite(on_write))

    def _allows(self, port: int, width: int, write: bool) -> bool:
        state = self.context
        library().uc_context_save(self.handle.uc, state.handle)
        state.longs[ctx.OLD_EXCEPTION32] = _NONE32
        state.eflags = state.eflags  # inside a run the arithmetic flags are apart from EFLAGS
        if state.longs[ctx.HFLAGS32] & 3 == 0 or self._guard(self.port_gate, False, self, port, width):
            return True
        self._denied = PortDenied(state.eip, port, width, write)
        self._refuse()
        return False

    def _refuse_if_failed(self) -> None:
        if self._callback_error is not None:
            self._refuse()

    def _refuse(self) -> None:
        self._words[stubs.PAD_REFUSED] = 1
        if not self.handle.native:
            library().uc_emu_stop(self.handle.uc)

    def _guard(self, function: Callable[..., int | bool | None], default: int, *arguments: object) -> int:
        """Run device code; what it raises comes out of ``run`` instead of dying in a C callback."""
        try:
            return function(*arguments) or 0
        except BaseException as error:
            self._callback_error = error
            library().uc_emu_stop(self.handle.uc)
            return default
        finally:
            mends.clear()

    def _connect_time_stamp(self) -> None:
        engine, uc = library(), self.handle.uc

        def read(extra: tuple[tuple[int, int], ...]) -> int:
            value = self._guard(self.time_stamp, 0, self)
            for register, word in ((lib.REG_EAX, value), (lib.REG_EDX, value >> 32), *extra):
                engine.uc_reg_write(uc, register, ctypes.byref(ctypes.c_uint64(word & _NONE32)))
            return 1

        self.handle.add_callback(lib.HOOK_INSN, lib.TimeStamp(lambda _uc, _data: read(())), lib.INSN_RDTSC)
        self.handle.add_callback(
            lib.HOOK_INSN, lib.TimeStamp(lambda _uc, _data: read(((lib.REG_ECX, 0),))), lib.INSN_RDTSCP
        )

    def _on_unanswered(self, uc: int, kind: int, address: int, size: int, value: int, data: int) -> bool:
        self._unanswered = (address, kind == lib.MEM_WRITE_UNMAPPED, size)
        return False

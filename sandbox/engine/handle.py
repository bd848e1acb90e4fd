"""One engine handle: opening, hooks, memory, and the pad through which native hooks speak to Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from sandbox.engine import clockcode, crashdump, internals, mends, stubs, system, watchcode
from sandbox.engine import library as lib
from sandbox.engine.fallback import PythonHooks
from sandbox.engine.library import check, control, library
from sandbox.x86.paging import PAGE_SIZE

TCG_BUFFER_BYTES = 16 << 20
PHYSICAL_END = 1 << 52
EVERY_ADDRESS = (1, 0)
"""The engine's way to say all: a range that ends before it begins."""
_Enter = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class Handle:
    """An open engine with the block, interrupt and memory hooks in place, ready to ``enter``."""

    enter: Callable[[int], int]
    """Run from the pad's context and save there; 0 if a plain exception was captured."""

    def __init__(self, on_unanswered: object) -> None:
        engine = library()
        self.native = stubs.native_host()
        if self.native:
            stubs.guard_division()
            stubs.guard_process()
        mends.install()
        system.install()
        self.uc = ctypes.c_void_p()
        check(engine.uc_open(lib.ARCH_X86, lib.MODE_32, ctypes.byref(self.uc)), "a new CPU")
        self.control(lib.CTL_TCG_BUFFER_SIZE, ctypes.c_uint32(TCG_BUFFER_BYTES))
        self.control(lib.CTL_USE_EXITS, ctypes.c_int(1))
        self.pad = _new_pad(self.uc)
        self.pad_address = ctypes.addressof(self.pad)
        self.words = memoryview(self.pad).cast("B").cast("q")
        self.longs = memoryview(self.pad).cast("B").cast("I")
        self._keep: list[object] = [on_unanswered]
        self._on_unanswered = ctypes.cast(on_unanswered, ctypes.c_void_p)  # type: ignore[arg-type]
        self._answered: list[tuple[int, int]] = []
        self._gap_hooks: list[int] = []
        self._python_hooks = None if self.native else PythonHooks(self.pad)
        if self._python_hooks is None:
            self.enter = _Enter(stubs.stub_address("enter"))
        else:
            self.enter = self._python_hooks.enter
        if mends.chosen() == mends.STOCK or clockcode.install() is not None:
            self.add_native_hook(lib.HOOK_BLOCK, "block")
        self.add_native_hook(lib.HOOK_INTR, "interrupt")
        self._watch_gaps()
        self._code = (ctypes.c_uint8 * 16)()
        self._read_debug: Callable[..., int] | None = None
        self.ram: list[tuple[int, int, int]] = []
        """What backs physical memory: (physical, size, host address)."""
        self.state_size = 0
        self.before_close: list[Callable[[], object]] = []
        """Called while the engine is still there, by whoever has its addresses."""

    def initialize(self, state_size: int) -> None:
        """Once the engine has made its CPU: link the pad to it and fix its features."""
        self.state_size = state_size
        crashdump.register(self)
        if self.native:
            self.pad.cpu, self.pad.env = internals.locate(self.uc.value or 0)
            internals.restrict_features(self.pad.env, state_size, umip=bool(system.install().helpers))
            self._read_debug = internals.memory_reader()
            watchcode.install()
            mends.attach(self.pad.cpu)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Release the engine; contexts made from it stay readable."""
        uc, self.uc = getattr(self, "uc", None), ctypes.c_void_p()
        if uc:
            for forget in getattr(self, "before_close", ()):
                forget()
            library().uc_close(uc)

    def control(self, kind: int, *arguments: object) -> None:
        """A write request of ``uc_ctl``.  Raises EngineError."""
        check(library().uc_ctl(self.uc, control(kind, len(arguments), 1), *arguments), f"control {kind}")

    def read_code(self, linear: int, size: int) -> bytes:
        """Up to ``size`` bytes of guest memory at a linear address, under the state that ran last."""
        if self._read_debug is not None:
            first = min(size, PAGE_SIZE - linear % PAGE_SIZE)
            for length in (size, first):
                if not self._read_debug(self.pad.cpu, linear, self._code, length, False):
                    return bytes(self._code[:length])
            return b""
        read = bytearray()
        for address in range(linear, linear + size):
            physical, byte = ctypes.c_uint64(), ctypes.c_uint8()
            if library().uc_vmem_translate(self.uc, address, lib.PROT_EXEC, ctypes.byref(physical)):
                break
            if library().uc_mem_read(self.uc, physical.value, ctypes.byref(byte), 1):
                break
            read.append(byte.value)
        return bytes(read)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def add_native_hook(self, kind: int, name: str, first: int = 1, last: int = 0) -> int:
        """Install a stub (or its stand-in) over a range of linear addresses.  Returns the hook's handle."""
        if self._python_hooks is None:
            address = stubs.stub_address(name)
        else:
            address = self._python_hooks.address(name)
        return self._add_hook(kind, ctypes.c_void_p(address), first, last)

    def add_hook_at(self, kind: int, address: int) -> int:
        """Install host code everywhere.  Returns the hook's handle."""
        return self._add_hook(kind, ctypes.c_void_p(address), *EVERY_ADDRESS)

    def add_callback(self, kind: int, callback: object, *extra: int) -> None:
        """Install a ctypes callback everywhere."""
        self._keep.append(callback)
        self._add_hook(kind, ctypes.cast(callback, ctypes.c_void_p), *EVERY_ADDRESS, *extra)  # type: ignore[arg-type]

    def remove_hook(self, hook: int) -> None:
        check(library().uc_hook_del(self.uc, hook), "to remove a hook")

    def add_port_callbacks(self, read: object, write: object) -> None:
        """Answer IN and OUT; on native hosts through stubs that can turn the instruction into #GP."""
        self._keep.extend((read, write))
        targets = [ctypes.cast(each, ctypes.c_void_p) for each in (read, write)]  # type: ignore[arg-type]
        if self.native:
            self.pad.read_port, self.pad.write_port = (target.value or 0 for target in targets)
            targets = [ctypes.c_void_p(stubs.stub_address(name)) for name in ("read_port", "write_port")]
        for target, instruction in zip(targets, (lib.INSN_IN, lib.INSN_OUT), strict=True):
            self._add_hook(lib.HOOK_INSN, target, *EVERY_ADDRESS, instruction)

    def _add_hook(self, kind: int, target: ctypes.c_void_p, first: int, last: int, *extra: int) -> int:
        handle = ctypes.c_size_t()
        rest = [ctypes.c_int(each) for each in extra]
        check(
            library().uc_hook_add(
                self.uc, ctypes.byref(handle), kind, target, ctypes.byref(self.pad), first, last, *rest
            ),
            f"hook {kind}",
        )
        return handle.value

    # -- memory --------------------------------------------------------------------------------------------------

    def map_ram(self, physical: int, size: int, host_address: int) -> None:
        """Back a physical range (bytes, page-aligned) with host memory that outlives the handle."""
        check(
            library().uc_mem_map_ptr(self.uc, physical, size, lib.PROT_ALL, host_address),
            f"RAM at {physical:#x}",
        )
        self._answered.append((physical, physical + size))
        self.ram.append((physical, size, host_address))
        self._watch_gaps()
        crashdump.register(self)

    def unmap_ram(self, physical: int, size: int) -> None:
        """Take back what ``map_ram`` gave."""
        check(library().uc_mem_unmap(self.uc, physical, size), f"to unmap {physical:#x}")
        self._answered.remove((physical, physical + size))
        self.ram = [each for each in self.ram if each[0] != physical]
        self._watch_gaps()

    def map_mmio(self, physical: int, size: int, read: object, write: object) -> None:
        """Let two ctypes callbacks answer a physical range."""
        self._keep.extend((read, write))
        check(
            library().uc_mmio_map(self.uc, physical, size, read, None, write, None),
            f"a device at {physical:#x}",
        )
        self._add_hook(lib.HOOK_MEM_FETCH_PROT, self._on_unanswered, physical, physical + size - 1)
        self._answered.append((physical, physical + size))
        self._watch_gaps()

    def _watch_gaps(self) -> None:
        """Hook what nobody answers, and only that: a memory hook over RAM makes every store there 18 times slower."""
        for hook in self._gap_hooks:
            self.remove_hook(hook)
        first, self._gap_hooks = 0, []
        for start, end in [*sorted(self._answered), (PHYSICAL_END, PHYSICAL_END)]:
            if first < start:
                self._gap_hooks.append(self._add_hook(lib.HOOK_MEM_UNMAPPED, self._on_unanswered, first, start - 1))
            first = max(first, end)


def _new_pad(uc: ctypes.c_void_p) -> stubs.HookPad:
    """A pad with the engine's functions that the stubs call, and no addresses seen yet."""
    return stubs.HookPad(
        engine=uc.value,
        stop=lib.address_of("uc_emu_stop"),
        save=lib.address_of("uc_context_save"),
        restore=lib.address_of("uc_context_restore"),
        start=lib.address_of("uc_emu_start"),
        skip=lib.NO_ADDRESS,
        behind=lib.NO_ADDRESS,
        number=stubs.NOBODYS,
        share=stubs.FUEL_OF_A_RUN,
    )

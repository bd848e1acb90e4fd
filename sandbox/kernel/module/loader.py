"""Modules: relocatable ELF objects, loaded into vmalloc space and run there (MM 8, post 002).

The loader lays the allocated sections out in one area, code first, finds every undefined symbol among the exports and
the symbols of modules that are there already, and relocates.  ``init_module`` runs on the CPU; when it gives 0, the
module stays until ``cleanup_module``.  Its exception table counts as long as it is there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBUSY, EEXIST, EINVAL, ENOENT, ENOEXEC, ENOMEM, ERESTARTSYS
from sandbox.kernel.arch import extable
from sandbox.kernel.base.cmdline import parameter
from sandbox.kernel.base.events import ModuleChange
from sandbox.kernel.module.entry import GuestEntry
from sandbox.machine.memory import Reason
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

if TYPE_CHECKING:
    from sandbox.image.relocatable import Relocatable, Symbol
    from sandbox.image.symbols import SymbolTable
    from sandbox.kernel.kernel import Kernel

AREA = "module"
TAINT_OOT_MODULE = 1 << 12
"""The kind of a module's area."""
USE_COUNT = "mod_use_count_"
"""A word that a module may define; otherwise the kernel counts."""


class ModuleError(SandboxError):
    """A module that cannot be loaded, or unloaded now.  ``errno`` is what the system call gives."""

    exit_status = 2

    def __init__(self, summary: str, errno: int = ENOEXEC, detail: str = "") -> None:
        super().__init__(summary, detail)
        self.errno = errno


class InitFailed(ModuleError):
    """``init_module`` gave ``value``, which is not 0."""

    exit_status = 1

    def __init__(self, name: str, value: int) -> None:
        super().__init__(f"{name}: init_module gave {value}", -value if 0 < -value < ERESTARTSYS else EINVAL)
        self.value = value


@dataclass(slots=True)
class Module:
    """A module in memory.  Addresses are linear, ``size`` is of the whole area in bytes."""

    name: str
    base: int
    size: int
    symbols: dict[str, int]
    exported: dict[str, int]
    ex_table: tuple[int, int] = (0, 0)
    """Linear address and entries of its exception table."""
    uses: int = 0
    """What ``mod_inc_use_count`` has added up."""
    live: bool = False
    """Its init has succeeded and its cleanup has not begun."""
    needs: list[Module] = field(default_factory=list)
    sections: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(linear address, bytes) by name."""
    file: bytes = b""
    """The object file, for who debugs it."""

    def holds(self, address: int) -> bool:
        return self.base <= address < self.base + self.size


class Modules:
    """What is loaded, in the order of loading."""

    def __init__(self, kernel: Kernel, entry: GuestEntry) -> None:
        self._kernel, self._entry = kernel, entry
        self.exported: dict[str, int] = {}
        """Linear addresses of what the kernel exports, by name."""
        self.loaded: list[Module] = []
        self.tainted: list[str] = []
        """Names of all that have run: what they did to the kernel's memory is anybody's guess."""
        self._left_tables: list[tuple[int, tuple[int, ...]]] = []
        """Exception tables that were left behind on purpose."""

    # -- loading and unloading -----------------------------------------------------------------------------------

    def load(self, name: str, data: bytes, options: Sequence[str] = ()) -> Module:
        """Load an object file and run its ``init_module``.

        ``options`` set words of the module, as insmod does: ``irq=5``, ``io=0x300,0x320``.  Raises ImageError for a
        bad file, ModuleError for one that cannot be linked, InitFailed when its init says so.
        """
        from sandbox.image.relocatable import relocatable

        kernel = self._kernel
        if self.find(name) is not None:
            raise ModuleError(f"{name}: a module of that name is loaded", EEXIST)
        file = relocatable(data, name)
        module, image = self._lay_out(name, file)
        try:
            self._relocate(module, file, image)
            _set_options(module, file, options, image)
        except BaseException:
            kernel.vmalloc.release(module.base, [AREA])
            raise
        module.file = data
        self._store(module, image)
        for zone in kernel.pgdat.zones:
            # Guest code may read mem_map: no frame may look reserved only because nobody has needed it yet.
            zone.publish()
        self.loaded.append(module)
        if name not in self.tainted:
            self.tainted.append(name)
            self._kernel.tainted |= TAINT_OOT_MODULE
        self._tell("load", module)
        status = self._entry.run_in_task(module.symbols["init_module"])
        if status:
            self._forget(module)
            raise InitFailed(name, status - (1 << 32) if status >> 31 else status)
        module.live = True
        return module

    def unload(self, name: str) -> None:
        """Run ``cleanup_module`` and give the memory back.  Raises ModuleError: not loaded, or in use."""
        module = self.find(name)
        if module is None:
            raise ModuleError(f"{name}: no such module", ENOENT)
        if not module.live:
            raise ModuleError(f"{name}: its init or its cleanup has not ended", EBUSY)
        uses = self.use_count(module)
        if uses and not self._kernel.broken("no-use-count"):
            raise ModuleError(f"{name}: in use, count {uses}", EBUSY)
        module.live = False
        if "cleanup_module" in module.symbols:
            self._entry.run_in_task(module.symbols["cleanup_module"])
        self._forget(module)

    def use_count(self, module: Module) -> int:
        """Its own word if it has one, what it has counted, and the modules that need it."""
        own = 0
        if USE_COUNT in module.symbols:
            own = self._kernel.peek.word(module.symbols[USE_COUNT])
        return own + module.uses + sum(module in other.needs for other in self.loaded)

    def use(self, address: int, change: int) -> None:
        """The module that holds an address is in use once more or once less."""
        module = self.at(address)
        if module is not None:
            module.uses = max(0, module.uses + change)

    def _forget(self, module: Module) -> None:
        kernel = self._kernel
        if kernel.broken("no-extable-unload"):
            self._left_tables.append((module.base, self._fixups(module)))
        self.loaded.remove(module)
        self._tell("unload", module)
        kernel.vmalloc.release(module.base, [AREA])

    # -- linking -------------------------------------------------------------------------------------------------

    def _lay_out(self, name: str, file: Relocatable) -> tuple[Module, dict[int, tuple[int, bytearray]]]:
        """Give every allocated section its place, and the module its memory: addresses and bytes by section."""
        entry = file.symbol("init_module")
        if entry is None or entry.undefined or entry.section is None:
            raise ModuleError(f"{name}: it has no init_module")
        places, boundary, at = _place_sections(file)
        if entry.section not in places:
            raise ModuleError(f"{name}: its init_module is in no section that is loaded")
        commons, at = _place_commons(name, file, at)
        size = max(PAGE_SIZE, -(-at // PAGE_SIZE) * PAGE_SIZE)
        base = self._allocate(name, size, boundary)
        image = {
            index: (base + place, bytearray(file.sections[index].data.ljust(file.sections[index].size, b"\0")))
            for index, place in places.items()
        }
        module = Module(name, base, size, *self._symbols(file, places, commons, base))
        for index, place in places.items():
            section = file.sections[index]
            module.sections[section.name] = (base + place, section.size)
            if section.name == "__ex_table":
                module.ex_table = (base + place, section.size // 8)
        return module, image

    def _allocate(self, name: str, size: int, boundary: int) -> int:
        """An area whose pages below ``boundary`` may be executed.  Raises ModuleError(ENOMEM)."""
        kernel = self._kernel
        base = 0
        if size <= kernel.pgdat.total_frames * PAGE_SIZE:
            runs = [page * PAGE_SIZE < boundary for page in range(size // PAGE_SIZE)]
            base = kernel.vmalloc.vmalloc(size, AREA, runs)
        if not base:
            raise ModuleError(f"{name}: no memory for {size} bytes", ENOMEM)
        return base

    def _symbols(
        self, file: Relocatable, places: dict[int, int], commons: dict[str, int], base: int
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Linear addresses of all that the module defines, and of what others may name, by name."""
        symbols: dict[str, int] = {}
        exported: dict[str, int] = {}
        for symbol in file.symbols:
            address = self._defined(symbol, places, commons, base)
            if address is not None and symbol.name:
                if symbol.is_global or symbol.name not in symbols:
                    symbols[symbol.name] = address
                if symbol.is_global:
                    exported[symbol.name] = address
        return symbols, exported

    @staticmethod
    def _defined(symbol: Symbol, places: dict[int, int], commons: dict[str, int], base: int) -> int | None:
        if symbol.absolute:
            return symbol.value
        if symbol.common:
            return base + commons[symbol.name]
        if symbol.section is not None and symbol.section in places:
            return base + places[symbol.section] + symbol.value
        return None

    def _relocate(self, module: Module, file: Relocatable, image: dict[int, tuple[int, bytearray]]) -> None:
        places = {index: linear - module.base for index, (linear, _) in image.items()}
        missing: list[str] = []
        left_out = self._kernel.broken("no-relocate")
        for relocation in file.relocations:
            if relocation.section not in image or left_out:
                continue
            symbol = file.symbols[relocation.symbol]
            value = self._value(module, file, relocation.symbol, places)
            if value is None:
                if symbol.name not in missing:
                    missing.append(symbol.name)
                continue
            linear, data = image[relocation.section]
            offset, width = relocation.offset, relocation.width
            addend = int.from_bytes(data[offset : offset + width], "little", signed=True)
            found = value + addend - (linear + offset if relocation.relative else 0)
            if width < 4 and not -(1 << 8 * width - 1) <= found < 1 << 8 * width:
                raise ModuleError(f"{module.name}: {symbol.name!r} does not fit in {width} bytes")
            data[offset : offset + width] = (found & (1 << 8 * width) - 1).to_bytes(width, "little")
        if missing:
            raise ModuleError(
                f"{module.name}: unresolved symbol{'s' * (len(missing) > 1)} {', '.join(missing)}", ENOENT
            )

    def _value(self, module: Module, file: Relocatable, number: int, places: dict[int, int]) -> int | None:
        """The address that a symbol of the object stands for, None for one that nobody has."""
        symbol = file.symbols[number]
        if symbol.absolute:
            return symbol.value
        if symbol.section is not None:
            if symbol.section not in places:
                raise ModuleError(f"{module.name}: a relocation to {symbol.name!r}, which is not loaded")
            return module.base + places[symbol.section] + symbol.value
        if symbol.common:
            return module.symbols[symbol.name]
        found = self.exported.get(symbol.name)
        if found is not None:
            return found
        for other in reversed(self.loaded):
            if symbol.name in other.exported:
                if other not in module.needs:
                    module.needs.append(other)
                return other.exported[symbol.name]
        return 0 if symbol.weak else None

    def _store(self, module: Module, image: dict[int, tuple[int, bytearray]]) -> None:
        """Bring the bytes in, page by page, as a loader's image; the exception table is sorted on the way."""
        kernel = self._kernel
        whole = bytearray(module.size)
        for linear, data in image.values():
            whole[linear - module.base : linear - module.base + len(data)] = data
        start, count = module.ex_table
        if count and not kernel.broken("no-extable-sort"):
            at = start - module.base
            pairs = sorted(struct.iter_unpack("<II", whole[at : at + 8 * count]))
            whole[at : at + 8 * count] = b"".join(struct.pack("<II", *pair) for pair in pairs)
        area = kernel.vmalloc.find(module.base)
        assert area is not None
        for number, pfn in enumerate(area.frames):
            kernel.memory.host_write(pfn << 12, whole[number * PAGE_SIZE : (number + 1) * PAGE_SIZE], Reason.IMAGE)
            kernel.code.host_wrote(pfn)

    # -- looking -------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Module | None:
        return next((module for module in self.loaded if module.name == name), None)

    def at(self, address: int) -> Module | None:
        """The module that holds a linear address."""
        return next((module for module in self.loaded if module.holds(address)), None)

    def symbols_of(self, module: Module) -> SymbolTable:
        from sandbox.image.symbols import SymbolTable

        return SymbolTable({name: at for name, at in module.symbols.items() if module.holds(at)})

    def search_fixup(self, eip: int) -> int | None:
        """The fixup that some module has for an instruction that may fault, by binary search in its table."""
        for module in self.loaded:
            found = extable.search(self._fixups(module), eip) if module.ex_table[1] else None
            if found is not None:
                return found
        for _, words in self._left_tables:
            found = extable.search(words, eip)
            if found is not None:
                return found
        return None

    def _fixups(self, module: Module) -> tuple[int, ...]:
        start, count = module.ex_table
        return struct.unpack(f"<{2 * count}I", self._kernel.peek.peek(None, start, 8 * count))

    def _tell(self, what: str, module: Module) -> None:
        kernel = self._kernel
        if kernel.bus.active:
            kernel.bus.emit(
                ModuleChange(kernel.clock.now, kernel.this_cpu.index, what, module.name, module.base, module.size)
            )


def _place_sections(file: Relocatable) -> tuple[dict[int, int], int, int]:
    """Offsets by section number, executable ones first, then a new page for the rest; where that begins and ends."""
    places: dict[int, int] = {}
    at = boundary = 0
    for executable in (True, False):
        for section in file.sections:
            if section.allocated and section.executable is executable and section.size:
                at = -(-at // section.align) * section.align
                places[section.index] = at
                at += section.size
        if executable:
            at = boundary = -(-at // PAGE_SIZE) * PAGE_SIZE
    return places, boundary, at


def _place_commons(module: str, file: Relocatable, at: int) -> tuple[dict[str, int], int]:
    """Offsets of common symbols from ``at`` on, by name, which alone says what is the same, and where they end."""
    commons: dict[str, int] = {}
    for symbol in file.symbols:
        if symbol.common and not symbol.name:
            raise ModuleError(f"{module}: a common symbol without a name")
        if symbol.common and symbol.name not in commons:
            align = max(symbol.value, 1)
            at = -(-at // align) * align
            commons[symbol.name] = at
            at += symbol.size
    return commons, at


def _set_options(
    module: Module, file: Relocatable, options: Sequence[str], image: dict[int, tuple[int, bytearray]]
) -> None:
    """Store ``name=number,number`` into the module's variable of that name.  Raises ModuleError."""
    for option in options:
        name, equals, text = option.partition("=")
        symbol = file.symbol(name)
        if not equals or symbol is None or symbol.section not in image or file.sections[symbol.section].executable:
            what = "; options of ours stand in front of the parameters" if name.startswith("--") else ""
            raise ModuleError(f"{module.name}: no parameter is called {name!r}{what}", EINVAL)
        values = text.split(",")
        size = symbol.size or 4 * len(values)
        width = size if size < 4 else 4
        linear, section = image[symbol.section]
        at = module.symbols[name] - linear
        if len(values) * width > size or at + size > len(section):
            raise ModuleError(f"{module.name}: {option!r} is more than the parameter holds ({size} bytes)", EINVAL)
        try:
            numbers = [parameter(each) for each in values]
        except ValueError:
            raise ModuleError(f"{module.name}: {option!r}: not a number", EINVAL) from None
        if not all(-(1 << 8 * width - 1) <= number < 1 << 8 * width for number in numbers):
            raise ModuleError(f"{module.name}: {option!r}: a parameter of {width} bytes does not hold it", EINVAL)
        data = b"".join((number & (1 << 8 * width) - 1).to_bytes(width, "little") for number in numbers)
        section[at : at + len(data)] = data


def modinfo_name(data: bytes) -> str:
    """``name=`` of the section .modinfo, empty when there is none.  Raises ImageError."""
    from sandbox.image.relocatable import relocatable

    for section in relocatable(data, "module").sections:
        if section.name == ".modinfo":
            for line in section.data.split(b"\0"):
                if line.startswith(b"name="):
                    return line[5:].decode("latin-1")
    return ""

"""What a stopped guest has in its memory, and what is known of it by name: looked at from outside, without effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from sandbox.debug.walked import Read, Walked
from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.image.disassemble import Instruction, disassemble
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.x86.descriptors import FLAG_BIG
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE
from sandbox.x86.walk import Access, Walk, walk

if TYPE_CHECKING:
    from sandbox.debug.lines import Line, LineTable
    from sandbox.debug.unwind import Unwinder

LONGEST = 15
WRAP = 0xFFFFFFFF


class Refused(SandboxError):
    """A command that cannot be carried out: why, in one line."""

    exit_status = 2


class Looked(ABC):
    """A machine as the present CPU sees it."""

    kind: str
    """``program``, ``module`` or ``rom``."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name, self.machine = name, machine
        self.viewed_cpu = 0
        self._walked = Walked(self._entry)

    @property
    def cpu(self) -> Cpu:
        """The CPU that is looked at."""
        return self.machine.cpus[self.viewed_cpu]

    @property
    def context(self) -> CpuContext:
        """The registers that are looked at; those of a task that waits are what it goes on with."""
        return self.cpu.context

    @property
    def cr3(self) -> int:
        """The root of the tables by which linear addresses are looked at."""
        return self.context.cr3

    def _entry(self, physical: int, size: int) -> int:
        memory = self.machine.memory
        at = memory.host_index(physical)
        return int.from_bytes(memory.bytes[at : at + size], "little")

    def walk(
        self,
        linear: int,
        access: Access = Access(),  # noqa: B008
        cr3: int | None = None,
        read: Read | None = None,
    ) -> Walk:
        """The walk of an address by the manual, read from outside.  Raises Refused where a table is not in RAM.

        ``read`` takes down the entries, by physical address and size.
        """
        state, memory = self.context, self.machine.memory

        def entry(physical: int, size: int) -> int:
            if not memory.is_ram(physical, size):
                raise Refused(f"the walk of {linear:08x} comes to a table at {physical:#x}, where no RAM is")
            value = self._entry(physical, size)
            if read is not None:
                read[physical, size] = value
            return value

        root = self.cr3 if cr3 is None else cr3
        return walk(entry, root, linear & WRAP, access, cr0=state.cr0, cr4=state.cr4, efer=state.efer)

    def translate(self, linear: int, cr3: int | None = None) -> int | None:
        """The physical address behind a linear one, None where nothing is mapped or no RAM answers.

        A walk comes to what it came to before where the registers and all entries that it read are what they were.
        """
        state = self.context
        page, offset = linear & WRAP & PAGE_MASK, linear % PAGE_SIZE
        key = self.cr3 if cr3 is None else cr3, page, state.cr0, state.cr4, state.efer
        try:
            frame = self._walked.frame(key, lambda read: self._frame(page, key[0], read))
        except Refused:
            return None
        return None if frame is None else frame + offset

    def _frame(self, page: int, cr3: int, read: Read) -> int | None:
        found = self.walk(page, cr3=cr3, read=read).physical
        return found if found is not None and self.machine.memory.is_ram(found) else None

    def read(self, linear: int, size: int, cr3: int | None = None) -> bytes:
        """Bytes at a linear address; short where nothing is mapped."""
        memory, found = self.machine.memory, b""
        while size > 0:
            physical = self.translate(linear, cr3)
            if physical is None:
                break
            take = min(size, PAGE_SIZE - linear % PAGE_SIZE)
            at = memory.host_index(physical)
            found += bytes(memory.bytes[at : at + take])
            linear, size = linear + take & WRAP, size - take
        return found

    def read_physical(self, physical: int, size: int) -> bytes:
        """Bytes at a physical address; short where RAM ends."""
        memory = self.machine.memory
        while size and not memory.is_ram(physical, size):
            size -= 1 if size <= PAGE_SIZE else size - PAGE_SIZE
        at = memory.host_index(physical) if size else 0
        return bytes(memory.bytes[at : at + size])

    def write(self, linear: int, data: bytes) -> None:
        """Set bytes at a linear address, whatever its protection.  Raises Refused where nothing is mapped."""
        found = []
        for at in pieces(linear, len(data)):
            physical = self.translate(at[0])
            if physical is None:
                raise Refused(f"nothing is mapped at {at[0]:08x}")
            found.append((physical, at[1]))
        for physical, size in found:
            self.write_physical(physical, data[:size])
            data = data[size:]

    def write_physical(self, physical: int, data: bytes) -> None:
        """Set bytes of RAM; what was translated from them is dropped.  Raises Refused where no RAM is."""
        if not self.machine.memory.is_ram(physical, max(len(data), 1)):
            raise Refused(f"no RAM at physical {physical:#x}")
        self.machine.memory.host_write(physical, data, Reason.DEBUGGER)
        for cpu in self.machine.cpus:
            cpu.drop_all_code()

    def code(self, linear: int, count: int) -> list[Instruction]:
        """Up to ``count`` instructions from a linear address on, as wide as CS makes them."""
        wide = self.context.segment("cs").flags & FLAG_BIG
        return disassemble(self.read(linear, LONGEST * count), linear, count, 32 if wide else 16)

    def line_tables(self) -> Iterator[LineTable]:
        """Of what runs here and was compiled with line numbers."""
        return iter(())

    def source_at(self, linear: int) -> Line | None:
        """The source line of an address."""
        return next((line for table in self.line_tables() if (line := table.at(linear)) is not None), None)

    def line_begins(self, linear: int) -> bool:
        """The code of a source line begins at this very address."""
        return any(table.begins(linear) for table in self.line_tables())

    def line_address(self, name: str, number: int) -> int:
        """Where the code of a line begins.  Raises Refused."""
        tables = list(self.line_tables())
        found = next((at for table in tables if (at := table.address(name, number)) is not None), None)
        if found is None:
            known = any(table.knows(name) for table in tables)
            why = "no code from this line on" if known else "no line numbers of this file: compile with -g"
            raise Refused(f"{name}:{number}: {why}")
        return found

    def frame_info(self) -> Unwinder | None:
        """The call frame information of what is looked at."""
        return None

    @abstractmethod
    def address_of(self, name: str) -> int | None:
        """The linear address of a symbol, None when nobody knows it."""

    @abstractmethod
    def name_of(self, linear: int) -> str:
        """``name+0x10`` of what lies at a linear address, empty when nobody knows."""

    @abstractmethod
    def symbol_names(self) -> list[str]:
        """All symbols, for completion."""

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raises Refused: this kind of target has no such thing."""
        raise Refused(f"{self.name}: a {self.kind}; {what}: {why}")


def pieces(linear: int, size: int) -> list[tuple[int, int]]:
    """(linear address, bytes) page by page."""
    found = []
    while size > 0:
        take = min(size, PAGE_SIZE - linear % PAGE_SIZE)
        found.append((linear & WRAP, take))
        linear, size = linear + take, size - take
    return found

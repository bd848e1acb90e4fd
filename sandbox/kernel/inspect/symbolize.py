"""Looking at a kernel without touching it: memory through the tables, names for addresses, who is where."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.module.hypercall import BadPointer

if TYPE_CHECKING:
    from sandbox.image.symbols import SymbolTable
    from sandbox.kernel.arch.cpu import KernelCpu
    from sandbox.kernel.arch.vmlinux import KernelImage
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.mm.mm import Mm
    from sandbox.kernel.mm.pgtable import PageTables
    from sandbox.kernel.module.loader import Modules
    from sandbox.kernel.task.task import Task
    from sandbox.kernel.vfs.inode import Inode
    from sandbox.machine.memory import PhysicalMemory


class Looking:
    """The part of a Kernel that has no side effects."""

    memory: PhysicalMemory
    tables: PageTables
    kernel_pgd: int
    cpus: list[KernelCpu]
    image: KernelImage
    modules: Modules

    def __init__(self) -> None:
        self._symbols: dict[Inode, SymbolTable] = {}

    def where(self) -> str:
        """One line a task that could run, for reports of limits."""
        lines = []
        for cpu in self.cpus:
            task = cpu.current
            if cpu.module_calls:
                lines.append(f"CPU {cpu.index}: guest kernel code at {self.kernel_symbol(cpu.vcpu.context.eip)}")
            elif task is not None:
                lines.append(
                    f"CPU {cpu.index}: task {task.pid} ({task.comm}) at eip {task.context.eip:#010x}"
                    f"{self.user_symbol(task, task.context.eip)}"
                )
        return "\n".join(lines)

    def peek(self, mm: Mm | None, linear: int, size: int) -> bytes:
        """Bytes at a linear address through the tables, by no access of the CPU; short where nothing is mapped."""
        tables, memory = self.tables, self.memory
        pgd = self.kernel_pgd if mm is None else mm.pgd
        found = b""
        while size:
            entry = tables.lookup_pte(pgd, linear & 0xFFFFFFFF)
            if not entry & 1:
                break
            offset = linear & 0xFFF
            if entry & 0x80 and linear >= PAGE_OFFSET:
                physical = (entry & tables.entry_mask & -tables.large_page) + (linear & tables.large_page - 1)
            else:
                physical = (tables.pte_pfn(entry) << 12) + offset
            take = min(size, PAGE_SIZE - offset)
            at = memory.host_index(physical)
            found += bytes(memory.bytes[at : at + take])
            linear += take
            size -= take
        return found

    def instruction_length(self, mm: Mm, linear: int) -> int:
        """Bytes of the instruction at a linear address, 1 when there is none."""
        from sandbox.image.disassemble import disassemble

        decoded = disassemble(self.peek(mm, linear, 15), linear, 1)
        return len(decoded[0].raw) if decoded else 1

    def walk_text(self, mm: Mm, linear: int, error_code: int) -> str:
        """The walk of an address, level by level, as lines."""
        from sandbox.kernel.inspect.ptdump import walk_lines

        return "\n".join("  " + line for line in walk_lines(cast("Kernel", self), mm.cr3, linear, error_code))

    def user_symbol(self, task: Task, linear: int) -> str:
        """`` <name+0x10>`` when the program's symbols know the address, else nothing."""
        table = self.program_symbols(task)
        name = table.find(linear) if table is not None else None
        return f" <{name}>" if name else ""

    def program_symbols(self, task: Task) -> SymbolTable | None:
        """The symbols of the program that a task runs, if its file has any."""
        from sandbox.image.elf import symbols

        if task.exe_inode is None:
            return None
        found = self._symbols.get(task.exe_inode)
        if found is None:
            found = self._symbols[task.exe_inode] = symbols(read_all(task.exe_inode))
        return found

    @property
    def image_symbols(self) -> SymbolTable:
        """The kernel's own symbols."""
        from sandbox.image.symbols import SymbolTable

        return SymbolTable(self.image.symbols)

    def kernel_string(self, linear: int, limit: int = 4096) -> bytes:
        """The string at a kernel address, without its NUL; as far as it is mapped, ``limit`` bytes at most.

        Raises BadPointer where nothing is.
        """
        if not self.peek(None, linear, 1):
            raise BadPointer(f"a string at {linear:#010x}, where nothing is mapped")
        found = b""
        while len(found) < limit:
            size = min(PAGE_SIZE - (linear & PAGE_SIZE - 1), limit - len(found))
            piece = self.peek(None, linear, size)
            text, nul, _ = piece.partition(b"\0")
            found += text
            if nul or len(piece) < size:
                break
            linear += size
        return found

    def kernel_symbol(self, linear: int) -> str:
        """``name+0x10 [module]`` for an address of the kernel's image or of a module, else the address."""
        module = self.modules.at(linear)
        table = self.image_symbols if module is None else self.modules.symbols_of(module)
        name = table.find(linear) if module is not None or linear >= PAGE_OFFSET else None
        if name is None:
            return f"{linear:#010x}"
        return name if module is None else f"{name} [{module.name}]"

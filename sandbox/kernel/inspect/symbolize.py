"""Names for addresses, of programs, modules and the kernel's image; and who is where."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.inspect.mapped import Mapped, MappedFiles
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.image.symbols import SymbolTable


class Symbols:
    """What is known of addresses on one machine.  Looking has no effect."""

    def __init__(self, kernel: Kernel, modules: Modules) -> None:
        self._kernel, self._modules = kernel, modules
        self._programs: dict[Inode, SymbolTable] = {}
        self.files = MappedFiles()

    def where(self) -> str:
        """One line a task that could run, for reports of limits."""
        lines = []
        for cpu in self._kernel.cpus:
            task = self._kernel.sched.task_of(cpu)
            if cpu.module_calls:
                lines.append(f"CPU {cpu.index}: guest kernel code at {self.kernel_symbol(cpu.vcpu.context.eip)}")
            elif task is not None:
                lines.append(
                    f"CPU {cpu.index}: task {task.pid} ({task.comm}) at eip {task.context.eip:#010x}"
                    f"{self.user_symbol(task, task.context.eip)}"
                )
        return "\n".join(lines)

    def instruction_length(self, mm: Mm, linear: int) -> int:
        """Bytes of the instruction at a linear address, 1 when there is none."""
        from sandbox.image.disassemble import disassemble

        decoded = disassemble(self._kernel.peek.peek(mm, linear, 15), linear, 1)
        return len(decoded[0].raw) if decoded else 1

    def user_symbol(self, task: Task, linear: int) -> str:
        """`` <name+0x10>`` when the symbols of a file that the task executes know the address, else nothing."""
        name = self.name_in(self.files_of(task, linear), linear)
        return f" <{name}>" if name else ""

    def files_of(self, task: Task, linear: int | None = None) -> list[Mapped]:
        """What a task executes, the program first; with an address only the file whose code is there, if one is.

        Of a task whose memory is gone it is the program, where it was linked to.
        """
        mm, program = task.mm, task.exe_inode
        vma = None if mm is None or linear is None else mm.vmas.find(linear)
        here = self.files.at(vma) if vma is not None and linear is not None and vma.start <= linear else None
        if here is not None:
            return [here]
        found = [] if mm is None else self.files.of(mm, program)
        if program is not None and not any(each.inode is program for each in found):
            found.insert(0, Mapped(program, 0, 0, 0))
        return found

    def name_in(self, files: Sequence[Mapped], linear: int) -> str:
        """``name+0x10`` of an address in one of these files, empty where none knows it."""
        found = (self.symbols_of(each.inode).find(linear - each.bias) for each in files)
        return next((name for name in found if name), "")

    def program_symbols(self, task: Task) -> SymbolTable | None:
        """The symbols of the program that a task runs, as they are in its file, if that has any."""
        return None if task.exe_inode is None else self.symbols_of(task.exe_inode)

    def symbols_of(self, inode: Inode) -> SymbolTable:
        """The symbols of a file, by its own addresses."""
        from sandbox.image.elf import symbols

        found = self._programs.get(inode)
        if found is None:
            found = self._programs[inode] = symbols(read_all(inode))
        return found

    @cached_property
    def image_symbols(self) -> SymbolTable:
        """The kernel's own symbols."""
        from sandbox.image.symbols import SymbolTable

        known = self._kernel.image.symbols
        ends = sorted(known[name] for name in ("kernel_end", "init_end"))
        last = {name: next((end for end in ends if at <= end), at) for name, at in known.items()}
        return SymbolTable(known, ends=last)

    def in_module(self, linear: int) -> bool:
        """A module holds the address."""
        return self._modules.at(linear) is not None

    def kernel_symbol(self, linear: int) -> str:
        """``name+0x10 [module]`` for an address of the kernel's image or of a module, else the address."""
        module = self._modules.at(linear)
        table = self.image_symbols if module is None else self._modules.symbols_of(module)
        name = table.find(linear) if module is not None or linear >= PAGE_OFFSET else None
        if name is None:
            return f"{linear:#010x}"
        return name if module is None else f"{name} [{module.name}]"

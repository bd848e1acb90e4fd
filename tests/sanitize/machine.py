"""A CPU with a few pages under a sanitizer, and the tables edited by hand: nobody else knows of the edits."""

from __future__ import annotations

from functools import cache

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Halt, Trap
from sandbox.image.assemble import assemble_text
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.sanitize.tlb import NoKernel, TlbSanitizer
from sandbox.x86.masks import CR0_PAGED, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SSE
from sandbox.x86.paging import RW, US, A, D, P

RAM = 4 << 20
ROOT, DIRECTORY, TABLE, CODE_TABLE, CODE = 0x100000, 0x101000, 0x102000, 0x103000, 0x104000
FRAMES = tuple(0x200000 + number * 0x1000 for number in range(8))
"""Physical; the first word of each is its number + 1."""
CODE_LINEAR, DATA_LINEAR = 0x200000, 0x400000
PAGES = 6


@cache
def _assembled(code: str) -> bytes:
    """Assembler and linker take as long as a thousand instructions' runs."""
    return assemble_text(f"{code}\nhlt\n", CODE_LINEAR)


class Bench:
    """CPUs in ring 0 over one memory; page n lies at DATA_LINEAR + n * 4096.

    Both formats: the code's table covers 0x200000, the data's 0x400000 (PAE) or both are one (two-level).
    """

    def __init__(self, pae: bool = True, cpus: int = 1) -> None:
        self.pae, self.width = pae, 8 if pae else 4
        self.memory = PhysicalMemory(RAM)
        self.cpus = [Cpu(index) for index in range(cpus)]
        self.places: list[int] = []
        self.world = NoKernel()
        self._build()
        for cpu in self.cpus:
            self.memory.map_into(cpu)
            state = cpu.context
            state.cr0, state.cr3 = CR0_PAGED, ROOT
            state.cr4 = CR4_SSE | CR4_PSE | CR4_PGE | (CR4_PAE if pae else 0)
        self.tlb = TlbSanitizer(self.cpus, self.memory, self.world, self._take)
        for shadow, cpu in zip(self.tlb.shadows, self.cpus, strict=True):
            shadow.cr3, shadow.cr4 = ROOT, cpu.context.cr4
        for number, frame in enumerate(FRAMES):
            self.write(frame, number + 1, 4)

    def _build(self) -> None:
        if self.pae:
            self.write(ROOT, DIRECTORY | P, 8)
            self.write(DIRECTORY + 8, CODE_TABLE | P | RW | US | A, 8)
            self.write(DIRECTORY + 16, TABLE | P | RW | US | A, 8)
            self.write(CODE_TABLE, CODE | P | RW | A | D, 8)
        else:
            self.write(ROOT, CODE_TABLE | P | RW | US | A, 4)
            self.write(ROOT + 4, TABLE | P | RW | US | A, 4)
            self.write(CODE_TABLE + 4 * 0x200, CODE | P | RW | A | D, 4)

    def _take(self) -> list[int]:
        places, self.places = self.places, []
        return places

    def close(self) -> None:
        for cpu in self.cpus:
            cpu.close()

    def write(self, physical: int, value: int, width: int) -> None:
        self.memory.host_write(physical, value.to_bytes(width, "little"), Reason.PROCESSOR)

    def place(self, page: int) -> int:
        """Physical address of a page's entry."""
        return TABLE + page * self.width

    def entry(self, page: int) -> int:
        return self.memory.read_entry(self.place(page), self.width)

    def set_entry(self, page: int, entry: int) -> None:
        """Edit a table, without any flush."""
        self.write(self.place(page), entry, self.width)
        self.places.append(self.place(page))

    def run(self, code: str, cpu: int = 0, settle: bool = True, eax: int = 0) -> int | None:
        """Run Intel-syntax text to its HLT; EAX, or None for a page fault.

        Without ``settle`` the sanitizer is asked nothing: a flush may be going on.
        """
        self.memory.host_write(CODE, _assembled(code), Reason.IMAGE)
        vcpu = self.cpus[cpu]
        vcpu.drop_all_code()
        vcpu.context.eip, vcpu.context.eax = CODE_LINEAR, eax
        if settle:
            self.tlb.settle()
        exit_ = vcpu.run(100)
        if settle:
            self.tlb.settle()
        if isinstance(exit_, Halt):
            return vcpu.context.eax & 0xFFFFFFFF
        assert isinstance(exit_, Trap) and exit_.vector == 14, exit_
        return None

    def load(self, page: int, cpu: int = 0) -> int | None:
        return self.run(f"mov eax, dword ptr [{DATA_LINEAR + page * 4096:#x}]", cpu)

    def store(self, page: int, value: int, cpu: int = 0) -> bool:
        """At offset 4; False for a fault."""
        at = DATA_LINEAR + page * 4096 + 4
        return self.run(f"mov dword ptr [{at:#x}], eax", cpu, eax=value) is not None

    def invlpg(self, page: int, cpu: int = 0) -> None:
        self.run(f"invlpg [{DATA_LINEAR + page * 4096:#x}]", cpu)

    def load_cr3(self, cpu: int = 0) -> None:
        self.run("mov eax, cr3\nmov cr3, eax", cpu)

    def toggle_pge(self, cpu: int = 0) -> None:
        """Off and on again."""
        self.run("mov eax, cr4\nxor eax, 0x80\nmov cr4, eax\nxor eax, 0x80\nmov cr4, eax", cpu)

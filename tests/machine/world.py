"""A small world for deliveries: descriptor tables, stacks and handlers in RAM, and a CPU's saved state over it.

::

    0x1000 GDT   0x2000 IDT   0x3000 TSS   0x4000 LDT
    0x7000-0x7FFF ring-0 stack (esp0 0x8000)   0x9000-0x9FFF ring-3 stack   0xA000-0xAFFF ring-1 stack
"""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.machine.delivery import Delivered, Interruption, Source, deliver
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.descriptors import Gate, GateKind, SegmentDescriptor

GDT, IDT, TSS, LDT = 0x1000, 0x2000, 0x3000, 0x4000
CODE0, DATA0, CODE3, DATA3, TSS_SELECTOR, CODE1, DATA1, CONFORMING, SPARE = (
    8,
    0x10,
    0x1B,
    0x23,
    0x28,
    0x31,
    0x39,
    0x40,
    0x48,
)
ESP0, ESP1, ESP3 = 0x8000, 0xB000, 0xA000
FLAT = {
    CODE0: 0x00CF9A00,
    DATA0: 0x00CF9200,
    CODE3: 0x00CFFA00,
    DATA3: 0x00CFF200,
    CODE1: 0x00CFBA00,
    DATA1: 0x00CFB200,
    CONFORMING: 0x00CF9E00,
}
HANDLER = 0x00123456


class World:
    """Memory and one CPU state, in ring 0 with interrupts on."""

    def __init__(self, cpu: Cpu) -> None:
        self.memory = PhysicalMemory(16 << 20)
        self.context: CpuContext = cpu.context
        state = self.context
        cpu.reset()
        for selector, flags in FLAT.items():
            self.descriptor(selector, SegmentDescriptor(0, 0xFFFFFFFF, flags))
        self.put(TSS + 4, 4, ESP0)
        self.put(TSS + 8, 2, DATA0)
        self.put(TSS + 12, 4, ESP1)
        self.put(TSS + 16, 2, DATA1)
        state.set_segment("gdtr", 0, GDT, 0x4F, 0)
        state.set_segment("idtr", 0, IDT, 0x7FF, 0)
        state.set_segment("tr", TSS_SELECTOR, TSS, 103, 0x8900)
        self.ring(0)
        for vector in range(0x30):
            self.gate(vector)

    def ring(self, ring: int, esp: int = 0) -> None:
        """Put the CPU into flat segments of a ring."""
        code, data = {0: (CODE0, DATA0), 1: (CODE1, DATA1), 3: (CODE3, DATA3)}[ring]
        state = self.context
        state.set_segment("cs", code, 0, 0xFFFFFFFF, FLAT[code] | 0x100)
        state.set_segment("ss", data, 0, 0xFFFFFFFF, FLAT[data] | 0x100)
        state.esp = esp or {0: ESP0 - 0x100, 1: ESP1 - 0x100, 3: ESP3 - 0x100}[ring]
        state.eip = 0x00100010
        state.eflags = 0x202

    def put(self, physical: int, size: int, value: int) -> None:
        self.memory.host_write(physical, value.to_bytes(size, "little"), Reason.IMAGE)

    def get(self, physical: int, size: int = 4) -> int:
        return int.from_bytes(self.memory.read(physical, size), "little")

    def descriptor(self, selector: int, segment: SegmentDescriptor) -> None:
        self.put((LDT if selector & 4 else GDT) + (selector & 0xFFF8), 8, segment.encode())

    def gate(
        self,
        vector: int,
        selector: int = CODE0,
        offset: int = HANDLER,
        kind: GateKind = GateKind.INTERRUPT,
        bits: int = 32,
        dpl: int = 0,
        present: bool = True,
    ) -> None:
        self.put(IDT + vector * 8, 8, Gate(kind, bits, selector, offset, dpl, present).encode())

    def stack(self, count: int, width: int = 4) -> list[int]:
        """What ``count`` pops of ``width`` bytes would give."""
        base = self.context.segment("ss").base + self.context.esp
        return [self.get(base + width * number, width) for number in range(count)]

    # -- what happens

    def exception(self, vector: int, code: int | None = None, address: int = 0, *switches: str) -> Delivered:
        eip = self.context.eip
        return self.deliver(Interruption(vector, Source.EXCEPTION, eip, eip, code, address), *switches)

    def software(self, vector: int, *switches: str) -> Delivered:
        """INT n at EIP."""
        eip = self.context.eip
        return self.deliver(Interruption(vector, Source.SOFTWARE, eip + 2, eip), *switches)

    def external(self, vector: int, *switches: str) -> Delivered:
        eip = self.context.eip
        return self.deliver(Interruption(vector, Source.EXTERNAL, eip, eip), *switches)

    def deliver(self, what: Interruption, *switches: str) -> Delivered:
        return deliver(self.memory, self.context, what, frozenset(switches))

    def page(self, *absent: int, supervisor: tuple[int, ...] = (), read_only: tuple[int, ...] = ()) -> None:
        """Two-level paging on: the first 4 MB identity-mapped for everybody, A and D clear, but for these pages."""
        self.put(0x10000, 4, 0x11007)
        for number in range(1024):
            address = number << 12
            bits = 7
            if address in supervisor:
                bits &= ~4
            if address in read_only:
                bits &= ~2
            self.put(0x11000 + number * 4, 4, 0 if address in absent else address | bits)
        self.context.cr3 = 0x10000
        self.context.cr0 = 0x80010033

    def entry(self, linear: int) -> int:
        """The page-table entry that ``page`` made."""
        return self.get(0x11000 + (linear >> 12) * 4)

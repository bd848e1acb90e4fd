"""Interrupt and exception delivery through the guest's own IDT (SDM 2A, INT n; SDM 3A, chapter 6).

The engine stops at every exception and delivers none.  Here is what a processor does then: the gate and its checks, the
change of stack through the TSS, the pushes, the new flags; and when one of these faults, the next exception, the double
fault, the shutdown.  Nothing of the CPU's state changes before everything has succeeded.  Descriptors and stacks are
reached with plain page walks (``sandbox.machine.system_access``); task gates are not modelled.
"""

from __future__ import annotations

from enum import Enum

from sandbox.engine.context import CpuContext
from sandbox.machine.memory import PhysicalMemory
from sandbox.machine.system_access import ProcessorFault, SystemAccess
from sandbox.records import dataclass
from sandbox.x86.descriptors import (
    DESCRIPTOR_BYTES,
    FLAG_ACCESSED,
    TYPE_TSS32,
    TYPE_TSS32_BUSY,
    Gate,
    GateKind,
    SegmentDescriptor,
    Selector,
)
from sandbox.x86.errors import SandboxError
from sandbox.x86.masks import AC, CR0_PE, IF, NT, RF, TF, VM
from sandbox.x86.tss import stack_slot
from sandbox.x86.vectors import Vector, describe, makes_double_fault

_IN_IDT, _EXT = 2, 1
_NOT_FAULTS = frozenset({Vector.DB, Vector.NMI, Vector.BP, Vector.OF, Vector.DF, Vector.MC})
_DATA_SEGMENTS = ("gs", "fs", "ds", "es")


class NotModelled(SandboxError):
    """The guest asks for something that a processor has and this machine has not."""

    exit_status = 3


class Source(Enum):
    """Where an interruption comes from: it decides on DPL checks, the EXT bit and the error code."""

    EXCEPTION = "exception"
    SOFTWARE = "software"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Interruption:
    """What is to be delivered.

    ``eip`` is where the handler will return to, ``restart`` the instruction itself: they differ for INT n.
    ``error_code`` is None where the vector pushes none; ``address`` (linear) counts for #PF; ``why`` is one line.
    """

    vector: int
    source: Source
    eip: int
    restart: int
    error_code: int | None = None
    address: int = 0
    why: str = ""

    def line(self) -> str:
        """``#PF page fault(0x2) at 0x00001000: IDT entry ...``"""
        code = "" if self.error_code is None else f", error code {self.error_code:#x}"
        what = describe(self.vector) if self.source is Source.EXCEPTION else f"{self.source.value} interrupt"
        if self.source is not Source.EXCEPTION:
            what += f" {self.vector:#x}"
        return f"{what}{code}, at EIP {self.restart:#010x}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class Delivered:
    """How it went: ``chain`` holds what was tried, the last of which arrived."""

    chain: tuple[Interruption, ...]
    from_cs: int
    from_cpl: int
    to_cpl: int


class Shutdown(Exception):
    """A fault while a double fault was being delivered: the processor stops for good."""

    def __init__(self, chain: tuple[Interruption, ...]) -> None:
        super().__init__("triple fault")
        self.chain = chain


def deliver(
    memory: PhysicalMemory,
    context: CpuContext,
    first: Interruption,
    switches: frozenset[str] = frozenset(),
) -> Delivered:
    """Enter the guest's handler, or the one for the fault that this causes (SDM 3A, 6.15, table 6-5).

    ``switches`` leave out steps: see ``sandbox.machine.switches``.
    Raises Shutdown for a triple fault and NotModelled for a task gate.
    """
    chain = [first]
    from_cs, from_cpl = context.segment("cs").selector, context.cpl
    if first.vector == Vector.PF and first.source is Source.EXCEPTION:
        context.cr2 = first.address
    while True:
        now = chain[-1]
        try:
            _Delivery(memory, context, now, switches).run()
        except ProcessorFault as fault:
            if fault.vector == Vector.PF:
                context.cr2 = fault.address
            chain.append(_next(now, fault, tuple(chain)))
            continue
        return Delivered(tuple(chain), from_cs, from_cpl, context.cpl)


def _next(now: Interruption, fault: ProcessorFault, chain: tuple[Interruption, ...]) -> Interruption:
    """What is delivered after a fault in the delivery of ``now``."""
    external = 0 if now.source is Source.SOFTWARE or fault.vector == Vector.PF else _EXT
    code = fault.error_code | external
    met = Interruption(int(fault.vector), Source.EXCEPTION, now.restart, now.restart, code, fault.address, fault.why)
    if now.source is not Source.EXCEPTION:
        return met
    if now.vector == Vector.DF:
        raise Shutdown((*chain, met))
    if makes_double_fault(now.vector, fault.vector):
        why = f"{describe(fault.vector)} while delivering {describe(now.vector)}: {fault.why}"
        return Interruption(int(Vector.DF), Source.EXCEPTION, now.restart, now.restart, 0, 0, why)
    return met


@dataclass(frozen=True, slots=True)
class _Stack:
    """Where to push: the selector and segment to load, the pointer before the first push."""

    selector: int
    segment: SegmentDescriptor
    pointer: int
    user: bool
    fault_code: int

    @property
    def mask(self) -> int:
        return 0xFFFFFFFF if self.segment.big else 0xFFFF


class _Delivery:
    """One attempt at one interruption."""

    def __init__(
        self, memory: PhysicalMemory, context: CpuContext, what: Interruption, switches: frozenset[str]
    ) -> None:
        self._context = context
        self._system = SystemAccess(memory, context, "no-accessed" not in switches)
        self._what = what
        self._switches = switches
        self._eflags = context.eflags
        self._cpl = 3 if self._eflags & VM else context.cpl

    def run(self) -> None:
        """All of it.  Raises ProcessorFault with the state untouched."""
        if not self._context.cr0 & CR0_PE:
            self._real_mode()
            return
        gate = self._gate()
        code, place = self._code_segment(gate.selector, Selector.decode(gate.selector))
        inward = self._goes_inward(gate, code)
        ring = code.dpl if inward else self._cpl
        stack = self._inner_stack(ring) if inward else self._present_stack()
        width = gate.bits // 8
        values = self._frame(inward, width)
        places = self._room(stack, width, len(values))
        if not code.allows(gate.offset, 1):
            raise ProcessorFault(Vector.GP, 0, f"the handler at {gate.offset:#x} is behind its segment's limit")
        for top, value in zip(places, values, strict=True):
            self._system.write(stack.segment.base + top, width, value, "pushing a frame", stack.user)
        self._mark_accessed(gate.selector, code, place)
        self._enter(gate, code, stack, places[-1], ring, inward)

    # -- checks

    def _goes_inward(self, gate: Gate, code: SegmentDescriptor) -> bool:
        """The handler runs in an inner ring, on a stack of its own."""
        inward = not code.conforming and code.dpl < self._cpl
        if self._eflags & VM:
            if not inward or code.dpl:
                raise self._bad(Vector.GP, gate.selector, "a handler for virtual-8086 mode outside ring 0")
        elif not inward and not code.conforming and code.dpl != self._cpl:
            raise self._bad(Vector.GP, gate.selector, "the handler's segment is outside the CPL")
        return inward

    def _room(self, stack: _Stack, width: int, count: int) -> list[int]:
        """Offsets for so many pushes, downwards."""
        places, top = [], stack.pointer
        for _ in range(count):
            top = top - width & stack.mask
            if not stack.segment.allows(top, width):
                raise ProcessorFault(Vector.SS, stack.fault_code, f"no room on the stack at {top:#x}")
            places.append(top)
        return places

    def _bad(self, vector: Vector, selector: int, why: str, in_idt: int = 0) -> ProcessorFault:
        code = selector * 8 | _IN_IDT if in_idt else selector & 0xFFFC
        return ProcessorFault(vector, code, why)

    def _gate(self) -> Gate:
        """The IDT's gate, checked for type, privilege and presence."""
        vector, idtr = self._what.vector, self._context.segment("idtr")
        software = self._what.source is Source.SOFTWARE
        if vector * DESCRIPTOR_BYTES + DESCRIPTOR_BYTES - 1 > idtr.limit:
            raise self._bad(Vector.GP, vector, f"vector {vector:#x} is behind the IDT's limit", 1)
        quad = self._system.read(
            idtr.base + vector * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES, f"reading IDT entry {vector:#x}"
        )
        gate = Gate.decode(quad)
        if gate is None or gate.kind is GateKind.CALL:
            raise self._bad(Vector.GP, vector, f"IDT entry {vector:#x} is no gate for interrupts", 1)
        if software and gate.dpl < self._cpl and "no-gate-check" not in self._switches:
            raise self._bad(Vector.GP, vector, f"INT {vector:#x} from ring {self._cpl}: gate DPL {gate.dpl}", 1)
        if not gate.present:
            raise self._bad(Vector.NP, vector, f"IDT entry {vector:#x} is not present", 1)
        if gate.kind is GateKind.TASK:
            raise NotModelled(
                f"vector {vector:#x} goes through a task gate: task switches are not modelled",
                f"The gate names TSS selector {gate.selector:#x}.  Use an interrupt or trap gate.",
            )
        return gate

    def _descriptor(self, selector: Selector, what: str) -> tuple[SegmentDescriptor, int] | None:
        """A descriptor with its linear address, or None when it is behind its table's limit."""
        table = self._context.segment("ldtr" if selector.local else "gdtr")
        if selector.local and not table.selector & 0xFFFC:
            return None
        at = selector.index * DESCRIPTOR_BYTES
        if at + DESCRIPTOR_BYTES - 1 > table.limit:
            return None
        quad = self._system.read(table.base + at, DESCRIPTOR_BYTES, f"reading {what}")
        return SegmentDescriptor.decode(quad), table.base + at

    def _code_segment(self, value: int, selector: Selector) -> tuple[SegmentDescriptor, int]:
        if selector.null:
            raise ProcessorFault(Vector.GP, 0, "the gate's selector is null")
        found = self._descriptor(selector, f"the handler's segment {value:#x}")
        if found is None:
            raise self._bad(Vector.GP, value, f"the gate's selector {value:#x} is behind its table's limit")
        code = found[0]
        if not code.code or code.dpl > self._cpl:
            raise self._bad(Vector.GP, value, f"selector {value:#x} is no code segment at or inside the CPL")
        if not code.present:
            raise self._bad(Vector.NP, value, f"the handler's segment {value:#x} is not present")
        return found

    # -- stacks

    def _present_stack(self) -> _Stack:
        state = self._context.segment("ss")
        segment = SegmentDescriptor(state.base, state.limit, state.flags)
        return _Stack(state.selector, segment, self._context.esp, self._cpl == 3, 0)

    def _inner_stack(self, ring: int) -> _Stack:
        """The stack that the TSS names for a ring, checked."""
        task = self._context.segment("tr")
        wide = task.flags >> 8 & 15 in (TYPE_TSS32, TYPE_TSS32_BUSY)
        pointer_at, segment_at, size = stack_slot(ring, wide)
        if segment_at + 1 > task.limit:
            raise self._bad(Vector.TS, task.selector, f"the TSS is too short for ring {ring}'s stack")
        pointer = self._system.read(task.base + pointer_at, size, f"reading ESP{ring} from the TSS")
        value = self._system.read(task.base + segment_at, 2, f"reading SS{ring} from the TSS")
        selector = Selector.decode(value)
        if selector.null:
            raise ProcessorFault(Vector.TS, 0, f"SS{ring} in the TSS is null")
        found = self._descriptor(selector, f"the stack segment {value:#x}")
        if found is None or selector.rpl != ring or found[0].dpl != ring or not found[0].writable_data:
            raise self._bad(Vector.TS, value, f"SS{ring} = {value:#x} is no stack for ring {ring}")
        if not found[0].present:
            raise self._bad(Vector.SS, value, f"the stack segment {value:#x} is not present")
        self._mark_accessed(value, *found)
        if "no-stack-switch" in self._switches:
            pointer = self._context.esp
        return _Stack(value, found[0], pointer, ring == 3, value & 0xFFFC)

    def _mark_accessed(self, selector: int, segment: SegmentDescriptor, place: int) -> None:
        if not segment.flags & FLAG_ACCESSED:
            old = self._system.read(place + 5, 1, f"reading descriptor {selector:#x}")
            self._system.write(place + 5, 1, old | 1, f"marking descriptor {selector:#x} accessed")

    # -- the frame

    def _frame(self, inward: bool, width: int) -> list[int]:
        """What is pushed, in order."""
        context, what = self._context, self._what
        values: list[int] = []
        if self._eflags & VM:
            values += [context.segment(name).selector for name in _DATA_SEGMENTS]
        if inward:
            values += [context.segment("ss").selector, context.esp]
        flags = self._eflags
        if what.source is Source.EXCEPTION:
            flags = flags & ~RF if what.vector in _NOT_FAULTS else flags | RF
        values += [flags, context.segment("cs").selector, what.eip]
        if what.error_code is not None and "no-error-code" not in self._switches:
            values.append(what.error_code)
        return [value & (1 << 8 * width) - 1 for value in values]

    def _enter(self, gate: Gate, code: SegmentDescriptor, stack: _Stack, top: int, ring: int, inward: bool) -> None:
        """Everything has been checked and pushed: change the state."""
        context = self._context
        if self._eflags & VM:
            for name in _DATA_SEGMENTS:
                context.set_segment(name, 0, 0, 0, 0)
        flags = self._eflags & ~(TF | NT | RF | VM)
        if gate.kind is GateKind.INTERRUPT and "no-if-clear" not in self._switches:
            flags &= ~IF
        context.eflags = flags
        selector = gate.selector & ~3 | ring
        context.set_segment("cs", selector, code.base, code.limit, code.flags | FLAG_ACCESSED)
        if inward:
            segment = stack.segment
            context.set_segment("ss", stack.selector, segment.base, segment.limit, segment.flags | FLAG_ACCESSED)
        context.esp = context.esp & ~stack.mask | top if not inward else stack.pointer & ~stack.mask | top
        context.eip = gate.offset

    def _real_mode(self) -> None:
        """The interrupt vector table: FLAGS, CS, IP, no error code, no privilege (SDM 3A, 20.1.4)."""
        context, vector = self._context, self._what.vector
        idtr = context.segment("idtr")
        if vector * 4 + 3 > idtr.limit:
            raise ProcessorFault(Vector.GP, 0, f"vector {vector:#x} is behind the vector table's limit")
        entry = self._system.read(idtr.base + vector * 4, 4, f"reading vector {vector:#x}")
        stack, top = context.segment("ss"), context.esp
        for value in (self._eflags, context.segment("cs").selector, self._what.eip):
            top = top - 2 & 0xFFFF
            self._system.write(stack.base + top, 2, value, "pushing a frame")
        context.esp = context.esp & ~0xFFFF | top
        context.eflags = self._eflags & ~(TF | IF | AC | RF)
        code = context.segment("cs")
        context.set_segment("cs", entry >> 16, entry >> 16 << 4, code.limit, code.flags)
        context.eip = entry & 0xFFFF

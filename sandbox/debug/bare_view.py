"""The bare machine's faults for people: the instruction, the walk, and where the guest's own handler is."""

from __future__ import annotations

import re
from typing import Any

from sandbox.debug.operands import located
from sandbox.image.disassemble import Instruction, disassemble
from sandbox.machine.bare import BareMachine
from sandbox.machine.events import Delivery, TrapTaken
from sandbox.machine.outcome import AtBreakpoint
from sandbox.records import dataclass, field
from sandbox.runner.rom import RomSession
from sandbox.x86.descriptors import FLAG_BIG
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.errors import SandboxError
from sandbox.x86.vectors import describe
from sandbox.x86.walk import Access, Walk, walk

_INSTRUCTION = 15
NOT_YET = "not yet: the guest stands before it"


class NoSuchRomFault(SandboxError):
    """The run had fewer page faults than asked for."""

    exit_status = 2


def walk_bare(bare: BareMachine, cpu: int, linear: int, access: Access) -> Walk | None:
    """The walk by the manual with a CPU's control registers; None where a table is not in RAM."""
    state, memory = bare.cpus[cpu].cpu.context, bare.memory

    def read(physical: int, size: int) -> int:
        if not memory.is_ram(physical, size):
            raise LookupError(physical)
        at = memory.host_index(physical)
        return int.from_bytes(memory.bytes[at : at + size], "little")

    try:
        return walk(read, state.cr3, linear, access, cr0=state.cr0, cr4=state.cr4, efer=state.efer)
    except LookupError:
        return None


def instruction_at(bare: BareMachine, cpu: int, eip: int) -> str:
    """The instruction at an offset of CS, as far as it is mapped."""
    decoded = _decoded(bare, cpu, eip)
    return decoded[0].text if decoded else "(not mapped)"


def _decoded(bare: BareMachine, cpu: int, eip: int) -> list[Instruction]:
    segment, memory = bare.cpus[cpu].cpu.context.segment("cs"), bare.memory
    base, code = segment.base, b""
    for at in range(base + eip, base + eip + _INSTRUCTION):
        found = walk_bare(bare, cpu, at & 0xFFFFFFFF, Access(fetch=True))
        if found is None or found.physical is None or not memory.is_ram(found.physical, 1):
            break
        index = memory.host_index(found.physical)
        code += bytes(memory.bytes[index : index + 1])
    return disassemble(code, eip, 1, 32 if segment.flags & FLAG_BIG else 16)


def trap_lines(bare: BareMachine, trap: TrapTaken, columns: int) -> list[str]:
    """The place with its instruction, and what it raised; two lines or more where there are too few columns for one."""
    head = f"{trap.number or '':>5}  {trap.time:>9}  CPU {trap.cpu}  {trap.eip:08x}"
    text = "" if trap.software else instruction_at(bare, trap.cpu, trap.eip)
    told = _raised(bare, trap)
    line = f"{head}  {text:34}  {told}" if text else f"{head}  {told}"
    return [line] if len(line) <= columns else [f"{head}  {text}".rstrip(), " " * 7 + re.sub("  +", "  ", told)]


def _raised(bare: BareMachine, trap: TrapTaken) -> str:
    """A page fault with CR2, the error bits in words and where the walk stops; any other trap by its name."""
    if not trap.number:
        what = f"software interrupt {trap.vector:#x}" if trap.software else describe(trap.vector)
        return what + (f", error code {trap.error_code:#x}" if trap.error_code else "")
    found = walk_bare(bare, trap.cpu, trap.address, Access.of_error_code(trap.error_code))
    words = PageFaultCode(trap.error_code).describe()
    stops = f"{found.levels[-1].name} {found.lines()[-1]}" if found and found.levels else "a table is not in RAM"
    return f"CR2 {trap.address:08x}  {words:26}  {stops}"


def delivery_line(event: Delivery) -> str:
    """Where a vector went."""
    what = describe(event.vector) if event.source == "exception" else f"{event.source} interrupt {event.vector:#x}"
    stack = f", stack {event.esp:08x}" if event.from_cpl != event.to_cpl else ""
    return (
        f"{'':5}  {event.time:>9}  CPU {event.cpu}  {event.from_eip:08x}  {what} to "
        f"{event.to_cs:04x}:{event.to_eip:08x}, ring {event.from_cpl} to {event.to_cpl}{stack}"
    )


@dataclass(slots=True)
class RomExplanation:
    """One page fault of a ROM image, before its handler ran and when the instruction comes again."""

    number: int
    cpu: int = 0
    cpl: int = 0
    eip: int = 0
    linear: int = 0
    """EIP with the base of CS."""
    place: str = ""
    instruction: str = ""
    operands: list[str] = field(default_factory=list)
    address: int = 0
    error_code: int = 0
    handler: str = ""
    before: Walk | None = None
    """None where a table is not in RAM."""
    after: Walk | None = None

    def lines(self) -> list[str]:
        """The whole story, for a terminal."""
        told = [
            f"fault {self.number}: CPU {self.cpu}, ring {self.cpl}, code at {self.eip:08x}{self.place}", "",
            f"    {self.instruction}", *(f"        {each}" for each in self.operands), "",
            f"error     {self.error_code:#06x}  {PageFaultCode(self.error_code).describe()}",
            f"address   {self.address:08x}  in CR2", "", "the walk that failed",
            *(f"    {line}" for line in (self.before.lines() if self.before else ["a table is not in RAM"])), "",
            f"answer    {self.handler or 'none: the processor could not deliver it'}",
        ]  # fmt: skip
        if self.handler == NOT_YET:
            return told
        again = self.after.lines() if self.after else ["the guest did not come back to the instruction"]
        return [*told, "", "the walk afterwards", *(f"    {line}" for line in again)]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        told = {name: getattr(self, name) for name in self.__slots__}
        walks = {name: each.to_dict() for name in ("before", "after") if (each := told[name]) is not None}
        return {**told, **walks}


def explain_rom(session: RomSession, number: int) -> RomExplanation:
    """Run to page fault ``number``, through the guest's handler, and to the instruction again.

    Raises NoSuchRomFault when the run ends before.
    """
    found, bare = RomExplanation(number), session.bare
    place = -1

    def taken(trap: TrapTaken) -> None:
        nonlocal place
        if trap.number == number:
            place = place_of(bare, trap)
            capture(bare, found, trap)

    def delivered(event: Delivery) -> None:
        if place >= 0 and not found.handler:
            found.handler = handler_of(event)
            bare.cpus[event.cpu].cpu.set_breakpoint(place)

    session.machine.bus.subscribe(taken, TrapTaken)
    session.machine.bus.subscribe(delivered, Delivery)
    outcome = session.run()
    if place < 0:
        raise NoSuchRomFault(f"there is no fault {number}: the run had {bare.page_faults}")
    if isinstance(outcome, AtBreakpoint):
        found.after = walk_of(bare, outcome.cpu, found)
    return found


def placed(found: RomExplanation, name: str | None) -> RomExplanation:
    """With the symbol where the instruction is, as far as one is known."""
    found.place = f" <{name}>" if name else ""
    return found


def place_of(bare: BareMachine, trap: TrapTaken) -> int:
    """Linear address of the instruction that faulted."""
    return bare.cpus[trap.cpu].cpu.context.segment("cs").base + trap.eip & 0xFFFFFFFF


def handler_of(event: Delivery) -> str:
    """Who answers, in words."""
    return f"the guest's handler at {event.to_cs:04x}:{event.to_eip:08x}, ring {event.to_cpl}"


def capture(bare: BareMachine, found: RomExplanation, trap: TrapTaken) -> None:
    """A page fault before it is delivered."""
    found.cpu, found.cpl, found.eip, found.address = trap.cpu, trap.cpl, trap.eip, trap.address
    found.error_code, found.instruction = trap.error_code, instruction_at(bare, trap.cpu, trap.eip)
    decoded, found.linear = _decoded(bare, trap.cpu, trap.eip), place_of(bare, trap)
    for each in located(bare.cpus[trap.cpu].cpu.context, decoded[0]) if decoded else ():
        found.operands.append(each.text() + ("  <- faults" if each.holds(trap.address) else ""))
    found.before = walk_of(bare, trap.cpu, found)


def walk_of(bare: BareMachine, cpu: int, found: RomExplanation) -> Walk | None:
    """The walk of the address that faulted, as it is now."""
    return walk_bare(bare, cpu, found.address, Access.of_error_code(found.error_code))

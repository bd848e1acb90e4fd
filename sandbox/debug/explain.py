"""Why an instruction faulted: caught before the kernel answers, and again after it has."""

from __future__ import annotations

from typing import Any

from sandbox.debug.monitor import Watcher
from sandbox.debug.operands import located
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import Trap
from sandbox.image.disassemble import disassemble
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.inspect.ptdump import walk_address
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import active_mm
from sandbox.kernel.task.task import Task
from sandbox.records import dataclass, field
from sandbox.runner.modules import ModuleSession
from sandbox.runner.run import Session
from sandbox.runner.session import MachineSession
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.errors import SandboxError
from sandbox.x86.walk import Access, Walk

RESOLUTIONS = {
    "demand-zero": "do_anonymous_page: a frame was allocated and cleared by the CPU, then mapped writable",
    "zero-page": "do_anonymous_page: the shared zero page was mapped read-only; the first write will give a frame",
    "cow-copy": "do_wp_page: the page has other owners, so the CPU copied it into a new frame; the old one lost a user",
    "cow-reuse": "do_wp_page: this is the only owner left, so the entry became writable where it is",
    "file-read": "do_no_page: the page cache's frame was mapped",
    "file-private": "do_no_page: a write to a private file mapping; the CPU copied the page cache's frame at once",
    "shared-write": "do_wp_page: a shared mapping that may be written again; the entry became writable where it is",
    "stack-growth": "expand_stack: the stack's area grew down to the address, then the page was brought in",
    "spurious": "nothing was left to do: a stale translation, or somebody was faster; the access is made again",
    "fixup": "no area holds the address; the exception table sent kernel code to its fixup",
    "sigsegv": "no area allows the access: SIGSEGV",
    "sigbus": "the mapping reaches beyond the end of its file: SIGBUS",
    "oom-kill": "no frame was left: SIGKILL",
    "vmalloc-sync": "the directory in CR3 did not know the area's page table; the kernel's own entry was copied",
    "oops": "nothing answers this fault of kernel code: the run ends",
}


NOT_MAPPED = "(the instruction itself is not mapped)"


class NoSuchFault(SandboxError):
    """The run had fewer page faults than asked for."""

    exit_status = 2


class _Enough(Exception):
    """The fault that was asked for has been seen."""


@dataclass(slots=True)
class Explanation:
    """One page fault, before and after."""

    number: int
    pid: int = 0
    instruction: str = ""
    eip: int = 0
    address: int = 0
    error_code: int = 0
    place: str = ""
    cpl: int = 3
    operands: list[str] = field(default_factory=list)
    area: str = ""
    before: Walk | None = None
    after: Walk | None = None
    resolution: str = ""
    blocks: int = 0

    def lines(self) -> list[str]:
        """The whole story, for a terminal."""
        who = "user" if self.cpl == 3 else "kernel"
        code = PageFaultCode(self.error_code)
        words = code.describe_at(self.eip, self.address)
        if words != code.describe():
            words += "; without NX the CPU does not tell a fetch from a read"
        task = f"task {self.pid}" if self.pid else "no task"
        told = [
            f"fault {self.number}: {task}, {who} code at {self.eip:08x}{self.place}",
            "",
            f"    {self.instruction}",
            *(f"        {operand}" for operand in self.operands),
            "",
            f"error     {self.error_code:#06x}  {words}",
            f"address   {self.address:08x}  {self.area}",
            "",
            "the walk that failed",
            *(f"    {line}" for line in (self.before.lines() if self.before else ())),
            "",
            *self._answer(),
        ]
        if self.after:
            told += ["", "the walk afterwards", *(f"    {line}" for line in self.after.lines())]
        return told

    def _answer(self) -> list[str]:
        if not self.resolution:
            return ["answer    not yet: the guest stands before it"]
        about = RESOLUTIONS.get(self.resolution, "")
        return [f"answer    {self.resolution}, {self.blocks} blocks", f"          {about}"]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; the walks as ``Walk.to_dict`` has them."""
        told = {name: getattr(self, name) for name in self.__slots__}
        walks = {name: each.to_dict() for name in ("before", "after") if (each := told[name]) is not None}
        return {**told, **walks}


def explain(session: Session | ModuleSession, number: int) -> Explanation:
    """Run a session up to its page fault ``number``, as traces and counts number them: from 1.

    Raises NoSuchFault when the run ends before, and what ``Session.finish`` raises.
    """
    found = Explanation(number)
    kernel = session.kernel

    class Before(Watcher):
        """The fault that is asked for, before it is answered."""

        def fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
            if kernel.stats.page_faults == number:
                capture(session, found, task, context, trap)

    def after(event: PageFault) -> None:
        if event.number == number:
            complete(kernel, found, event)
            raise _Enough

    session.system.traps.monitor = Before()
    kernel.bus.subscribe(after, PageFault)
    try:
        session.finish()
    except _Enough:
        return found
    if found.before:
        found.resolution = "oops"
        return found
    raise NoSuchFault(f"there is no fault {number}: the run had {kernel.stats.page_faults}")


def complete(kernel: Kernel, found: Explanation, event: PageFault) -> None:
    """The fault has been answered: how, and the walk as it is now."""
    found.resolution, found.blocks = event.resolution, event.blocks
    if event.pte & 1 or event.resolution == "vmalloc-sync":
        task = kernel.tasks.get(event.pid)
        mm = active_mm(kernel.cpus[event.cpu]) if task is None else task.mm
        access = Access.of_error_code(event.error_code)
        cr3 = kernel.tables.cr3(kernel.tables.kernel_pgd) if mm is None else mm.cr3
        found.after = walk_address(kernel, cr3, event.address, access)
        if found.instruction == NOT_MAPPED:
            decoded = disassemble(kernel.peek.peek(mm, event.eip, 15), event.eip, 1)
            found.instruction = decoded[0].text if decoded else NOT_MAPPED


def capture(session: MachineSession, found: Explanation, task: Task | None, context: CpuContext, trap: Trap) -> None:
    """A page fault before it is answered: the instruction, its operands, the area, the walk that failed."""
    kernel = session.kernel
    found.eip, found.address, found.error_code = trap.eip, trap.address, trap.error_code
    found.pid, mm = (task.pid, task.mm) if task is not None else (0, None)
    found.cpl, at = trap.cpl, context.code_address(trap.eip)
    if task is not None and trap.cpl == 3:
        found.place = session.system.symbols.user_symbol(task, at)
    else:
        found.place = f" <{session.system.symbols.kernel_symbol(trap.eip)}>"
    code = kernel.peek.peek(mm, at, 15)
    decoded = disassemble(code, trap.eip, 1)
    found.instruction = decoded[0].text if decoded else NOT_MAPPED
    if " fetch " in PageFaultCode(trap.error_code).describe_at(trap.eip, trap.address):
        found.operands.append("the fetch of the instruction  <- faults")
    for each in located(context, decoded[0]) if decoded else ():
        found.operands.append(each.text() + ("  <- faults" if each.holds(trap.address) else ""))
    vma = mm.vmas.find(trap.address) if mm is not None else None
    region = kernel.layout.region_of(trap.address)
    if region is not None:
        found.area = f"in the kernel's {region.name}"
    elif vma is None:
        found.area = "in no area, and none lies above it"
    elif vma.start <= trap.address:
        found.area = f"in {vma.describe()}"
    else:
        found.area = f"in no area; the next is {vma.describe()}"
    access = Access.of_error_code(trap.error_code)
    found.before = walk_address(kernel, context.cr3, trap.address, access)

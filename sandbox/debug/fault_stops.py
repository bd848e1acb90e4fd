"""A debugger's stops at page faults, before they are answered, and what it keeps of those that came last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.debug.faults_seen import FAULTS_KEPT, FaultSeen, Told, faults_of
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.points import Point, WithFields
from sandbox.debug.stops import StopKind
from sandbox.debug.target import Target
from sandbox.debug.viewed import Viewed
from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Trap
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.task.task import Task
from sandbox.machine.events import TrapTaken
from sandbox.x86.error_code import PageFaultCode

if TYPE_CHECKING:
    from sandbox.debug.bare_view import RomExplanation
    from sandbox.debug.explain import Explanation


class FaultStops(Viewed, ABC):
    """Hears of every page fault of its target, and asks only where somebody may want to stop."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.answered = ""
        """What became of the page fault at which the guest stood."""
        self.on_fault_number: int | None = None
        """Stop at this page fault, before it is answered."""
        self.early: dict[int, Explanation | RomExplanation] = {}
        """The stories of page faults before the first stop."""
        self._seen: deque[Told] = deque(maxlen=FAULTS_KEPT)
        """What the kernel, or the bare machine, told of the page faults that came last."""
        self._note = self._noting()
        self.last_fault: tuple[Task | None, CpuContext, Trap] | TrapTaken | None = None
        """What was told of the last fault at which somebody might have stopped."""
        self._fault_catches: list[Point] = []
        self._asks = True
        """Somebody may want to stop at the next page fault."""

    def hear_faults(self) -> None:
        """From now on."""
        if isinstance(self.target, KernelTarget):
            self.target.fault, self.target.asks = self._fault, True
        else:
            self.target.machine.bus.subscribe(self._rom_fault, TrapTaken)

    def await_faults(self, catches: list[Point]) -> None:
        """These points, and ``on_fault_number``, are what somebody may want to stop for."""
        self._fault_catches = catches
        self._asks = bool(catches) or self.on_fault_number is not None
        if isinstance(self.target, KernelTarget):
            self.target.fault, self.target.asks = self._fault if self._asks else self._note, self._asks

    def _noting(self) -> Callable[[Task | None, CpuContext, Trap], None]:
        """What a page fault costs for which nobody wants to stop."""
        keep = self._seen.append

        def note(task: Task | None, context: CpuContext, trap: Trap) -> None:
            keep((task, trap))

        return note

    @abstractmethod
    def _hold(
        self, cpu: Cpu, kind: StopKind, headline: str, hit: list[Point], details: dict[str, Any] | None = None
    ) -> None: ...

    def _fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
        """A page fault under the kernel, before it is answered."""
        self._seen.append((task, trap))
        if self._asks:
            self.last_fault, target = (task, context, trap), self.target
            self._look_at_fault(target.running_cpu, target.fault_count, trap.eip, trap.address, trap.error_code)

    def _rom_fault(self, event: TrapTaken) -> None:
        if event.number:
            cpu = self.target.machine.cpus[event.cpu]
            self._seen.append(event)
            if self._asks:
                self.last_fault = event
                self._look_at_fault(cpu, event.number, event.eip, event.address, event.error_code)

    @property
    def faults(self) -> list[FaultSeen]:
        """The page faults that came last."""
        return faults_of(self._seen, self.target.fault_count)

    def _look_at_fault(self, cpu: Cpu, number: int, eip: int, at: int, code: int) -> None:
        if self.stop is None:
            from sandbox.debug.commands.faults import note_early

            note_early(self, number)
        wanted, points = self.on_fault_number == number, self._fault_catches
        if not wanted and not points:
            return
        self.target.look_again(self.target.stop_at(cpu, StopKind.CATCH, ""))
        about = {
            "number": number, "address": at, "error_code": code, "write": code >> 1 & 1, "user": code >> 2 & 1,
            "protection": code & 1, "fetch": code >> 4 & 1,
        }  # fmt: skip
        hit = [each for each in points if each.admits(WithFields(self, about))]
        if wanted or hit:
            self.on_fault_number = None
            words = PageFaultCode(code).describe_at(eip, at)
            headline = f"page fault {number} at {at:08x}, {words}"
            self._await_answer(number)
            self._hold(cpu, StopKind.CATCH, headline, hit, {**about, "event": f"fault {number}"})

    def _await_answer(self, number: int) -> None:
        """The stop that comes next tells what became of this fault."""

        def seen(event: PageFault) -> None:
            if event.number == number:
                self.answered = event.resolution
                end()

        end = self.target.machine.bus.subscribe(seen, PageFault)

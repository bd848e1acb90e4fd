"""Why the guest faulted: ``explain`` where it stands, ``explain fault N`` of any that has been, ``info faults``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandbox.debug import bare_view
from sandbox.debug.commands import command
from sandbox.debug.commands.info import topic
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.explain import Explanation, capture, complete
from sandbox.debug.fault_stops import FaultStops
from sandbox.debug.faults_seen import FAULTS_KEPT
from sandbox.debug.goals import Until
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.rom_target import RomTarget
from sandbox.debug.stops import Moment, Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.kernel.base.events import PageFault
from sandbox.machine.events import Delivery, TrapTaken
from sandbox.x86.error_code import PageFaultCode

if TYPE_CHECKING:
    from sandbox.debug.bare_view import RomExplanation

SHOWN = 20


@command("explain [fault N]", "why the guest faulted: the fault it stands at, the last one, or any before", "looking")
def explain(debugger: Debugger, text: str) -> Answer:
    if debugger.stop is None:
        raise Refused("nothing has run yet")
    number = _number(debugger, text)
    if number == _standing(debugger):
        return _told(_before(debugger, number))
    if number in debugger.early:
        return _told(debugger.early[number])
    if debugger.traveller is None:
        raise Refused(f"no checkpoints are made: there is no going back to fault {number}")
    face = partial(tell, number=number, until=debugger.stop.moment)
    answer: Answer = debugger.traveller.tell_of_fault(number, face)
    return answer


def _number(debugger: Debugger, text: str) -> int:
    """The fault that is asked for; alone, where the guest stands, or the last.  Raises Refused for one to come."""
    count = debugger.target.fault_count
    words = text.split(None, 1)
    if words and words[0] != "fault":
        raise Refused(f"explain {text}: nothing, or fault N")
    if text and len(words) < 2:
        raise Refused("explain fault: a number is missing")
    number = debugger.number(words[1], 1) if words else _standing(debugger) or count
    if not number:
        raise Refused("there was no page fault yet")
    if number > count:
        raise Refused(f"there is no fault {number} yet: so far there were {count}")
    return number


def _standing(debugger: Debugger) -> int:
    """The fault at which the guest stands before its answer, 0 for none."""
    event = "" if debugger.stop is None else str(debugger.stop.details.get("event", ""))
    return int(event.split()[1]) if event.startswith("fault ") else 0


def _told(found: Explanation | RomExplanation) -> Answer:
    return Answer(found.lines(), {"explanation": found.to_dict()})


def _before(debugger: FaultStops, number: int) -> Explanation | RomExplanation:
    """What there is to tell where the guest stands at a fault."""
    target, last = debugger.target, debugger.last_fault
    if isinstance(target, KernelTarget):
        assert isinstance(last, tuple)
        story = Explanation(number)
        capture(target.session, story, *last)
        return story
    assert isinstance(target, RomTarget) and isinstance(last, TrapTaken)
    bare = bare_view.RomExplanation(number, handler=bare_view.NOT_YET)
    bare_view.capture(target.bare, bare, last)
    return bare_view.placed(bare, target.name_of(bare.linear))


def tell(debugger: Debugger, number: int, until: Moment) -> Answer:
    """In a process that has gone back to a fault: the whole story, as far as it went until a moment."""
    found = _before(debugger, number)
    if isinstance(found, Explanation):
        _follow(debugger, found, until)
    else:
        _follow_rom(debugger, found, until)
    return _told(found)


def _on(debugger: Debugger, until: Moment) -> Stop:
    return debugger.go(Until(until.time, None if until.event else until.eip, until.cpu))


def _follow(debugger: Debugger, found: Explanation, until: Moment) -> None:
    """On to the answer."""
    target = debugger.target
    assert isinstance(target, KernelTarget)

    def seen(event: PageFault) -> None:
        if event.number == found.number:
            complete(target.kernel, found, event)
            target.control.interrupted = True

    end = target.machine.bus.subscribe(seen, PageFault)
    stop = _on(debugger, until)
    while not found.resolution and stop.kind is StopKind.CATCH and stop.moment.time < until.time:
        stop = _on(debugger, until)
    end()
    if stop.ended and not found.resolution:
        found.resolution = "oops"


def _follow_rom(debugger: Debugger, found: RomExplanation, until: Moment) -> None:
    """Through the guest's handler, and to the instruction again."""
    target, trap = debugger.target, debugger.last_fault
    assert isinstance(target, RomTarget) and isinstance(trap, TrapTaken)
    place = bare_view.place_of(target.bare, trap)

    found.handler = ""

    def delivered(event: Delivery) -> None:
        found.handler = found.handler or bare_view.handler_of(event)

    end = target.machine.bus.subscribe(delivered, Delivery)
    debugger.breaks[place] = lambda cpu: cpu.index == trap.cpu
    stop = _on(debugger, until)
    end()
    if stop.kind is StopKind.BREAKPOINT:
        found.after = bare_view.walk_of(target.bare, trap.cpu, found)


def note_early(debugger: FaultStops, number: int) -> None:
    """A page fault before the first stop, to which nobody can go back: its story is kept."""
    found = debugger.early[number] = _before(debugger, number)
    if isinstance(found, Explanation):
        target = debugger.target
        assert isinstance(target, KernelTarget)

        def seen(event: PageFault) -> None:
            if event.number == number:
                complete(target.kernel, found, event)
                end()

        end = target.machine.bus.subscribe(seen, PageFault)


@topic("faults", f"the page faults so far, the last {SHOWN} or N", takes=True)
def faults(debugger: Debugger, text: str) -> Answer:
    shown = list(debugger.faults)[-(debugger.number(text, 1, FAULTS_KEPT) if text else SHOWN) :]
    lines = []
    for number, pid, eip, address, code in shown:
        who = f"task {pid}  " if pid else ""
        words = PageFaultCode(code).describe_at(eip, address)
        lines.append(f"{number:>5}  {who}{eip:08x}  {address:08x}  {words}")
    names = ("number", "pid", "eip", "address", "error_code")
    return Answer(lines or ["no page faults yet"], {"faults": [dict(zip(names, each, strict=True)) for each in shown]})

"""Ways through the code that end at its own places: over calls, out of a function, to another line.

Nothing here goes instruction by instruction where code can be read on: breakpoints stand at the ends, and at what
only the processor knows the way on from.  They count in one flow of control, and in one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

from sandbox.debug.debugger import Debugger
from sandbox.debug.goals import Steps
from sandbox.debug.reach import Reach, is_call, is_return, is_whole, jump_target, word_of
from sandbox.debug.returns import Returns, return_slot
from sandbox.debug.stops import Stop, StopKind
from sandbox.debug.target import WRAP, Target
from sandbox.debug.unwind import frames
from sandbox.engine.cpu import Cpu
from sandbox.image.disassemble import Instruction
from sandbox.records import replace

ARGUMENTS = 1 << 16
"""Bytes that a RET may take off the stack behind the address."""
JUMPS = ("longjmp", "siglongjmp", "_longjmp", "__longjmp", "____longjmp_chk")
"""What leaves frames without returning (longjmp(3))."""
MOST_CALLERS, DEEPEST = 8, 1 << 20
"""Callers at whose places a jump out of a function is looked for, and the bytes of stack up to there."""
MOST_IN_JUMP = 1000
"""Instructions of one of them."""


def _next(debugger: Debugger) -> Instruction | None:
    return next(iter(debugger.target.code(debugger.target.context.linear_eip & WRAP, 1)), None)


def _as_step(debugger: Debugger, stop: Stop) -> Stop:
    """A stop at a place of our own is a step."""
    if stop.kind is StopKind.BREAKPOINT and not stop.points:
        stop = debugger.stop = Stop(StopKind.STEP, stop.moment, stop.pid, "")
    return stop


# -- to one place ----------------------------------------------------------------------------------------------------


def go_to(
    debugger: Debugger,
    place: int,
    least: int = 0,
    most: int = WRAP,
    frame: int | None = None,
    besides: Mapping[int, Callable[[Cpu], bool]] | None = None,
) -> Stop:
    """To a place in this flow, with ESP from ``least`` to ``most``; or to one of those ``besides``.

    Or to where a longjmp leads, if that is a frame whose return address lies at ``frame`` or beyond.
    """
    flow, target = debugger.flow, debugger.target

    def here(cpu: Cpu) -> bool:
        return target.flow(cpu) == flow and least <= cpu.context.esp & WRAP <= most

    jumps = _jumps(debugger) if least else set()
    if jumps and frame is None:
        frame = return_slot(target)
    while True:
        for at in jumps:
            debugger.breaks[at] = _of_flow(debugger)
        debugger.breaks.update(besides or {})
        debugger.breaks[place] = here
        stop = _as_step(debugger, debugger.go())
        jumped = stop.kind is StopKind.STEP and stop.moment.eip in jumps and stop.moment.eip != place
        if not jumped or _is_beyond(debugger, least if frame is None else frame):
            return debugger.stop or stop


def _jumps(debugger: Debugger) -> set[int]:
    return {at for name in JUMPS if (at := debugger.target.address_of(name)) is not None}


def _of_flow(debugger: Debugger) -> Callable[[Cpu], bool]:
    target, flow = debugger.target, debugger.flow
    return lambda cpu: target.flow(cpu) == flow


def _is_beyond(debugger: Debugger, frame: int) -> bool:
    """Through a longjmp: whether it leads out there, or something else has stopped us."""
    for _ in range(MOST_IN_JUMP):
        code = _next(debugger)
        stop = debugger.go(Steps(1, debugger.flow))
        if stop.kind is not StopKind.STEP:
            return True
        if code is not None and word_of(code.text) in ("jmp", "ret"):
            slot = return_slot(debugger.target)
            if (debugger.target.context.esp & WRAP if slot is None else slot) >= frame:
                return True
    return False


def _above(debugger: Debugger, slot: int) -> dict[int, Callable[[Cpu], bool]]:
    """The places to which the callers of this function, whose return address lies at ``slot``, return.

    Who comes there has left the function, and by a jump (``__builtin_longjmp``) where its own return was none.
    """
    target, flow = debugger.target, debugger.flow

    def left(cpu: Cpu) -> bool:
        return target.flow(cpu) == flow and slot < cpu.context.esp & WRAP <= slot + DEEPEST

    callers = islice(frames(target, target.frame_info()), 1, 1 + MOST_CALLERS)
    return dict.fromkeys((each.address for each in callers), left)


# -- over calls ------------------------------------------------------------------------------------------------------


def instructions(debugger: Debugger, count: int) -> Stop:
    """So many instructions of this flow, a call or REP taken as one."""
    stop = one_instruction(debugger)
    for _ in range(count - 1):
        if stop.kind is not StopKind.STEP:
            break
        stop = one_instruction(debugger)
    return stop


def one_instruction(debugger: Debugger) -> Stop:
    """One, or a whole call or REP."""
    code, context = _next(debugger), debugger.target.context
    after = 0 if code is None else code.address + code.size & WRAP
    if code is None or not is_whole(code.text) or (word_of(code.text) == "call" and jump_target(code) == after):
        return debugger.go(Steps(1, debugger.flow))
    slot = return_slot(debugger.target) if is_call(code.text) else None
    return go_to(debugger, after, context.esp & WRAP, besides=None if slot is None else _above(debugger, slot))


# -- through code that can be read -----------------------------------------------------------------------------------


class Frame:
    """The activation of a function that runs when this is made: by the place of its return address."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger, self._flow = debugger, debugger.flow
        self._returns = Returns(debugger.target)
        self.slot = self._returns.slot()

    def runs(self, cpu: Cpu) -> bool:
        """A CPU is about to go on in this frame, or nobody can tell."""
        if self._debugger.target.flow(cpu) != self._flow:
            return False
        here = self._returns.slot() if self.slot is not None else None
        return here is None or here == self.slot


def _through(debugger: Debugger, reach: Reach, frame: Frame) -> Stop:
    """To the next end or node in this frame."""
    reach.read_from(debugger.target.context.linear_eip & WRAP)
    for at in reach.places | reach.nodes:
        debugger.breaks[at] = frame.runs
    return _as_step(debugger, debugger.go())


def go_out(debugger: Debugger) -> Stop:
    """To where this function returns."""
    reach, frame = Reach(debugger.target, lambda at: False, is_whole), None
    while True:
        slot = return_slot(debugger.target)
        if slot is not None:
            return _to_return(debugger, slot)
        code = _next(debugger)
        returns = code is not None and is_return(code.text)
        if returns or code is None or _is_node(reach, code):
            stop = debugger.go(Steps(1, debugger.flow)) if returns else one_instruction(debugger)
            if returns or stop.kind is not StopKind.STEP:
                return stop
            continue
        frame = frame or Frame(debugger)
        stop = _through(debugger, reach, frame)
        if stop.kind is not StopKind.STEP:
            return stop


def _to_return(debugger: Debugger, slot: int) -> Stop:
    """To where the word at ``slot`` leads; and where that is another one at the RET of this very activation, there."""
    target, flow = debugger.target, debugger.flow

    def back() -> int:
        return int.from_bytes(target.read(slot, 4), "little")

    def changed(cpu: Cpu) -> bool:
        return cpu.context.esp & WRAP == slot and target.flow(cpu) == flow and back() != known

    known, returns = back(), dict.fromkeys(_returns_of(target), changed)
    besides = _above(debugger, slot) | returns
    stop = go_to(debugger, known, slot + 4 & WRAP, min(slot + 4 + ARGUMENTS, WRAP), slot + 1, besides)
    if stop.kind is not StopKind.STEP or stop.moment.eip not in returns or back() == known:
        return stop
    words = f"the function has changed its return address {known:08x}, and returns to {back():08x}"
    stop = debugger.go(Steps(1, flow))
    if stop.kind is StopKind.STEP:
        stop = debugger.stop = replace(stop, headline=words)
    return stop


def _returns_of(target: Target) -> set[int]:
    """The RETs to which the code leads from here without leaving the function."""
    here = target.context.linear_eip & WRAP
    reach = Reach(target, lambda at: False, lambda text: False)
    reach.read_from(here)
    code = [each for at in {*reach.nodes, here} for each in target.code(at, 1)]
    return {each.address for each in code if word_of(each.text) == "ret"}


def _is_node(reach: Reach, code: Instruction) -> bool:
    return code.address in reach.nodes or reach.is_node(code)


def lines(debugger: Debugger, count: int, over: bool) -> Stop:
    """To the beginning of another source line, so many times; ``over`` calls, or into those of code that has lines."""
    stop = debugger.stop
    for _ in range(count):
        stop = _to_another_line(debugger, over)
        if stop.kind is not StopKind.STEP:
            break
    assert stop is not None
    return stop


def _to_another_line(debugger: Debugger, over: bool) -> Stop:
    target = debugger.target
    began = target.source_at(target.context.linear_eip & WRAP)

    def begins(at: int) -> bool:
        line = target.source_at(at)
        return line is not None and line != began and target.line_begins(at)

    frame = reach = None
    while True:
        if reach is None or frame is None:
            frame = Frame(debugger)
            reach = Reach(target, begins, (lambda text: False) if over and frame.slot is not None else is_whole)
        code = _next(debugger)
        if code is not None and not _is_node(reach, code):
            stop = _through(debugger, reach, frame)
        else:
            stop = _over_node(debugger, code, over)
            frame = None if code is None or is_return(code.text) or is_whole(code.text) else frame
        if stop.kind is not StopKind.STEP or begins(stop.moment.eip):
            return stop


def _over_node(debugger: Debugger, code: Instruction | None, over: bool) -> Stop:
    """One instruction; out again of a function without lines."""
    if over or (code is not None and not is_call(code.text)):
        return one_instruction(debugger)
    stop = debugger.go(Steps(1, debugger.flow))
    entered = stop.kind is StopKind.STEP and debugger.target.source_at(stop.moment.eip) is None
    return go_out(debugger) if entered and _called(debugger) else stop


def _called(debugger: Debugger) -> bool:
    """The instruction before was a CALL from code that has lines: what is on top of the stack leads back there."""
    target = debugger.target
    back = int.from_bytes(target.read(target.context.esp & WRAP, 4), "little")
    return target.source_at(back - 1) is not None

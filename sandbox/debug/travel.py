"""To moments of the past: which checkpoint to begin at, what to look for on the way, and where to stop.

A journey is a request that one process hands to the copy of a checkpoint (``timeline``): plain data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

from sandbox.debug.back import MOST_SEEN, Back, Ran, ran
from sandbox.debug.debugger import Debugger
from sandbox.debug.pipe import FAILED, receive
from sandbox.debug.points import Point
from sandbox.debug.run_control import Goal, Steps, Until
from sandbox.debug.stops import DEATH, HELD, WAITING, Moment, Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.debug.timeline import Timeline
from sandbox.records import dataclass, field, replace
from sandbox.x86.errors import SandboxError

NOTHING_BEFORE = "nothing ran before this"
FIRST_BACK, FARTHER, FARTHEST = 64, 32, 1 << 26
"""Blocks to go back for the instructions before one, the factor when that was not far enough, and where it ends."""


class NotTheSame(SandboxError):
    """The run did not come to a moment that it came to before: something from outside has changed."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Journey:
    """To ``where``; or to what came last before it.

    ``search`` is ``hit`` (of any point), ``step`` (the ``count``-th instruction before it, of ``flow``, or with None of
    its CPU; ``over`` calls, or into them), ``fault`` (number ``count``), or empty.  ``distance`` in blocks is how far
    back a search for steps begins.  ``then`` is how many more steps over calls lead on from there.  ``points`` are the
    debugger's.  A search for hits ends at ``where``, or at ``until``, the checkpoint behind the present one.
    ``arrival`` is what the stop at the end says; ``note`` is why it is not what was asked for.
    """

    where: Moment
    points: list[Point]
    search: str = ""
    count: int = 1
    flow: Hashable = None
    over: bool = False
    then: int = 0
    distance: int = FIRST_BACK
    until: Moment | None = None
    at: int = 0
    """Index of the checkpoint where it begins."""
    arrival: Stop | None = None
    note: str = ""
    face: Callable[[Debugger], Any] | None = None
    """What the face wants to hear at the end, in the place of an answer."""
    back: Moment | None = None
    """Where to be when there is no such moment."""
    prepare: Callable[[Debugger], Any] | None = None
    """Called where it begins, before anything runs."""
    seek: list[Point] | None = None
    """What to search for in the place of the debugger's points."""
    known: tuple[dict[str, Moment], dict[str, Moment], int] = field(default_factory=lambda: ({}, {}, 0))
    """Bookmarks, the places of stops, and the number of the last point."""
    began: Moment | None = None
    """Where it began, and where Ctrl-C leads back to."""


class Traveller:
    """Going back in a debugger's run."""

    def __init__(self, debugger: Debugger, timeline: Timeline) -> None:
        self._debugger, self._timeline = debugger, timeline

    def leave(self, journey: Journey, before: Moment | None = None) -> NoReturn:
        """Begin a journey at the last checkpoint before a moment (its end).  Raises Refused where there is none."""
        journey = self._set_out(journey)
        index = self._timeline.before(before or journey.where)
        if index is not None:
            self._timeline.wake(index, replace(journey, at=index))
        first = self._timeline.marks[0].moment
        if journey.search == "hit" or (not journey.search and journey.where.time <= first.time):
            self._timeline.wake(0, replace(journey, search="", where=first, at=0, arrival=None, then=0))
        raise Refused(NOTHING_BEFORE)

    def leave_for_fault(self, journey: Journey) -> NoReturn:
        """To a page fault that has been.  Raises Refused for one before the first stop."""
        journey = self._set_out(journey)
        self._check_fault(journey.count)
        index = self._timeline.before_fault(journey.count)
        self._timeline.wake(index, replace(journey, search="fault", at=index))

    def tell_of_fault(self, number: int, face: Callable[[Debugger], Any]) -> Any:
        """What ``face`` has to say where the guest stands at a page fault that has been; this process stays here."""
        self._check_fault(number)
        journey = Journey(Moment(0, 0, 0), [], "fault", number, face=face)
        return self._ask(journey, self._timeline.before_fault(number))

    def ask_watched(self, face: Callable[[Debugger], Any], here: Moment) -> Any:
        """What ``face`` has to say here, in a run from the beginning (or the last ``set``) with its TLBs watched."""
        pinned = [index for index, mark in enumerate(self._timeline.marks) if mark.pinned]
        journey = Journey(here, [], face=face, prepare=watch_tlbs)
        return self._ask(journey, pinned[-1] if pinned else 0)

    def _check_fault(self, number: int) -> None:
        if number <= self._timeline.marks[0].faults:
            raise Refused(f"page fault {number} came before the first stop: nobody can go back there")

    def _ask(self, journey: Journey, index: int) -> Any:
        """Let the copy of a checkpoint make a journey, answer, and end.  Raises Refused with what it failed at."""
        channel = self._timeline.ask(index, replace(journey, at=index))
        with channel:
            try:
                _, reply = receive(channel)
            except (EOFError, OSError):
                raise Refused("the process that looked at the past is gone") from None
        if isinstance(reply, tuple) and reply[:1] == (FAILED,):
            raise Refused(reply[1])
        return reply

    def _set_out(self, journey: Journey) -> Journey:
        """The journey with the place where it began.  Raises Refused where no checkpoint was ever made."""
        if not self._timeline.marks:
            raise Refused(self._timeline.trouble or "no checkpoints are made: there is no going back")
        debugger = self._debugger
        if self._timeline.paused or debugger.stop is None:
            return journey
        known = dict(debugger.bookmarks), dict(debugger.places), debugger.points.last
        return replace(journey, began=debugger.stop.moment, known=known)

    def _go(self, journey: Journey, goal: Goal = None, passes: bool = True) -> Stop:
        """Run on, past stops that nobody asked for; after Ctrl-C back to where the journey began."""
        stop = self._debugger.go(goal)
        while not stop.ended and (stop.kind is StopKind.INTERRUPT or (passes and self._by_itself(stop, journey))):
            if stop.kind is StopKind.INTERRUPT and journey.began is not None:
                note = "interrupted: this is where it began"
                told = stop if journey.face is not None else None
                back = replace(journey, search="", where=journey.began, began=None, back=None, arrival=told, note=note)
                self.leave(back)
            stop = self._debugger.go(goal)
        return stop

    @staticmethod
    def _by_itself(stop: Stop, journey: Journey) -> bool:
        return stop.moment.event in (DEATH, WAITING) and stop.moment != journey.where

    @staticmethod
    def _is_last(stop: Stop) -> bool:
        """Behind the end, and where no task may run, comes nothing but what somebody sets."""
        return stop.ended or stop.moment.event == HELD

    def arrive(self, journey: Journey) -> Stop:
        """In the copy of a checkpoint: go on from there.  May leave again for an earlier one."""
        debugger = self._debugger
        debugger.restore(journey.points if journey.seek is None or not journey.search else journey.seek)
        if journey.prepare is not None:
            journey.prepare(debugger)
        self._timeline.paused = True
        self._strict(True)
        try:
            if journey.search == "hit":
                self._last_hit(journey)
            if journey.search == "step":
                self._steps_before(journey)
            stop = self._fault(journey) if journey.search == "fault" else self._go_to(journey)
            if journey.then:
                count = journey.then
                on = replace(journey, search="step", where=stop.moment, count=count, then=0, seek=None, until=None)
                self.leave(on)
        finally:
            self._timeline.paused = False
            self._strict(False)
            debugger.note = None
        debugger.restore(journey.points)
        if journey.arrival is not None:
            stop = replace(journey.arrival, moment=stop.moment, pid=stop.pid)
        debugger.stop = stop
        debugger.bookmarks, debugger.places, debugger.points.last = journey.known
        return debugger.remember(stop)

    def _strict(self, strict: bool) -> None:
        """What was asked of the outside before is asked again: anything else is no way to a moment of the past."""
        outside = self._debugger.target.outside
        if outside is not None:
            outside.tape.strict = strict or outside.tape.final

    def _go_to(self, journey: Journey) -> Stop:
        """Forward to a moment: to an instruction, or to something that was reported there."""
        debugger, where = self._debugger, journey.where
        debugger.disarm()
        if where == self._timeline.marks[journey.at].moment:
            return self._here()
        if where.event:
            debugger.catch_again(where.event)
        goal = None if where.event else Until(where.time, where.eip, where.cpu)
        stop = self._go(journey, goal)
        while not where.event and stop.kind is StopKind.CATCH and stop.moment.time < where.time:
            stop = self._go(journey, Until(where.time, where.eip, where.cpu))  # what stops by itself
        while where.event and stop.moment != where and stop.moment.time <= where.time and not self._is_last(stop):
            stop = self._go(journey)
        if stop.moment != where:
            self._miss(journey, stop)
        return stop

    def _miss(self, journey: Journey, stop: Stop) -> None:
        """The run does not come to the moment: a person has mistyped it, or something is wrong."""
        if journey.back is None:
            raise NotTheSame(f"the run came to {stop.moment.text()}, and not to {journey.where.text()} as before")
        note = f"the run never comes to {journey.where.text()}"
        self.leave(replace(journey, where=journey.back, back=None, note=note))

    def _fault(self, journey: Journey) -> Stop:
        self._debugger.disarm()
        self._debugger.on_fault_number = journey.count
        stop = self._go(journey)
        while not self._is_last(stop) and self._debugger.on_fault_number is not None:
            stop = self._go(journey)  # a task that died before is no fault
        if stop.ended:
            count = self._debugger.target.fault_count
            self.leave(replace(journey, search="", note=f"there is no fault {journey.count}: the run has {count}"))
        return stop

    def _here(self) -> Stop:
        target = self._debugger.target
        words = "the beginning" if self._timeline.before(target.moment(target.cpu)) is None else "here"
        return target.stop_at(target.cpu, StopKind.MOMENT, words)

    def _last_hit(self, journey: Journey) -> NoReturn:
        """Note each stop on the way to where the journey began; the last one is it."""
        debugger, where, last = self._debugger, journey.until or journey.where, None
        goal = Until(where.time, None if where.event else where.eip, where.cpu)
        debugger.forget_counts()

        def note(stop: Stop) -> bool:
            nonlocal last
            if stop.moment == where or stop.moment.time > where.time:
                return False
            last = stop
            return True

        debugger.note = note
        while True:
            stop = self._go(journey, replace(goal), passes=False)
            if stop.kind is StopKind.MOMENT or not note(stop) or self._is_last(stop):
                break
        if last is not None:
            arrival = last if journey.seek is None else None
            found = replace(journey, search="", where=last.moment, arrival=arrival, until=None)
            self._timeline.wake(journey.at, found)
        began = self._timeline.marks[journey.at].moment
        self.leave(replace(journey, until=began), began)

    def _steps_before(self, journey: Journey) -> NoReturn:
        """Instruction by instruction over the last blocks before a moment, and to the one that was asked for."""
        debugger, where = self._debugger, journey.where
        debugger.disarm()
        began = self._timeline.marks[journey.at].moment
        first = where.time - journey.distance
        seen: deque[Ran] = deque(maxlen=MOST_SEEN if journey.over else journey.count)
        stop = self._go(journey, Until(first)) if first > began.time else self._here()
        target = debugger.target
        first_or_set = journey.at == 0 or self._timeline.marks[journey.at].pinned
        at_first = first_or_set and stop.moment == began
        cpu = where.cpu if journey.flow is None else None
        if journey.flow not in (None, target.flow(target.cpu)) or cpu not in (None, target.viewed_cpu):
            stop = self._go(journey, Steps(0, journey.flow, cpu))
        if not at_first and self._is_before(stop, where):  # where one lands may be an instruction that comes again
            stop = self._go(journey, Steps(1, journey.flow, cpu))
        while self._is_before(stop, where):
            seen.append(ran(target, stop.moment) if journey.over else Ran(stop.moment))
            stop = self._go(journey, Steps(1, journey.flow, cpu))
        if journey.over and seen:
            self._back_over(journey, [*seen, ran(target, where)])
        elif len(seen) == journey.count:
            self._timeline.wake(journey.at, replace(journey, search="", where=seen[0].moment))
        if journey.distance >= FARTHEST:
            note = f"no such instruction in the last {journey.distance:,} blocks"
            self.leave(replace(journey, search="", where=journey.began or where, note=note))
        if first > began.time:
            self._timeline.wake(journey.at, replace(journey, distance=journey.distance * FARTHER))
        try:
            self.leave(replace(journey, distance=FIRST_BACK), began)
        except Refused as error:
            last = replace(journey, search="", where=seen[0].moment if seen else where, note=error.summary)
            self._timeline.wake(journey.at, last)

    def _back_over(self, journey: Journey, seen: list[Ran]) -> None:
        """As far back over calls as what ran last tells, and on from there; returns where it tells nothing."""
        way = Back(seen, self._debugger.target)
        while way.count < journey.count and way.one():
            pass
        left = journey.count - way.count
        there = replace(journey, where=way.here, distance=FIRST_BACK)
        if not left:
            self._timeline.wake(journey.at, replace(there, search=""))
        if way.calls:
            target = self._debugger.target
            pid = target.pid_on(target.cpu)
            seek = breaks_at(way.calls, f"$esp == {way.esp:#x} && $pid == {pid}")
            self.leave(replace(there, search="hit", seek=seek, then=left - 1))
        if way.count:
            self.leave(replace(there, count=left))

    def _is_before(self, stop: Stop, where: Moment) -> bool:
        here = stop.moment
        return not self._is_last(stop) and (here.time, here.eip) < (where.time, where.eip)


def breaks_at(places: list[int], condition: str) -> list[Point]:
    """What a journey looks for: the last time that one of these instructions was about to run so."""
    return [Point(number, "break", f"{at:#x}", address=at, condition=condition) for number, at in enumerate(places, 1)]


def watch_tlbs(debugger: Debugger) -> None:
    """From here on the TLBs are followed."""
    debugger.target.watch_tlbs()

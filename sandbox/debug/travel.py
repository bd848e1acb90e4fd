"""To moments of the past: which checkpoint to begin at, what to look for on the way, and where to stop.

A journey is a request that one process hands to the copy of a checkpoint (``timeline``): plain data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox.debug.back import MOST_SEEN, Back, Ran, ran
from sandbox.debug.catches import CATCHES
from sandbox.debug.debugger import Debugger
from sandbox.debug.edits import Edit, NotTheSame
from sandbox.debug.goals import Goal, Steps, Until
from sandbox.debug.journey import FARTHER, FARTHEST, FIRST_BACK, Journey, breaks_at, to_place
from sandbox.debug.pipe import FAILED, receive
from sandbox.debug.stops import DEATH, HELD, WAITING, Moment, Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.debug.timeline import Timeline
from sandbox.records import replace

NOTHING_BEFORE = "nothing ran before this"


class Traveller:
    """Going back in a debugger's run."""

    def __init__(self, debugger: Debugger, timeline: Timeline) -> None:
        self._debugger, self._timeline = debugger, timeline
        self._at: Moment | None = None
        """Where the guest stands, on a journey."""

    def leave(self, journey: Journey, before: Moment | None = None) -> NoReturn:
        """Begin a journey at the last checkpoint before a moment (its end).  Raises Refused where there is none."""
        journey = self._set_out(journey)
        index = self._timeline.before(before or journey.where, journey.edits)
        if index is not None:
            self._timeline.wake(index, replace(journey, at=index))
        first = self._timeline.marks[0].moment
        if journey.search == "hit" or (not journey.search and journey.where.time <= first.time):
            edits = journey.edits if journey.where == first and not journey.search else 0
            self._timeline.wake(0, replace(journey, search="", where=first, at=0, edits=edits, arrival=None, then=0))
        raise Refused(NOTHING_BEFORE)

    def leave_for_fault(self, journey: Journey) -> NoReturn:
        """To a page fault that has been.  Raises Refused for one before the first stop."""
        journey = replace(self._set_out(journey), edits=len(self._timeline.edits))
        self._check_fault(journey.count)
        index = self._timeline.before_fault(journey.count)
        self._timeline.wake(index, replace(journey, search="fault", at=index))

    def tell_of_fault(self, number: int, face: Callable[[Debugger], Any]) -> Any:
        """What ``face`` has to say where the guest stands at a page fault that has been; this process stays here."""
        self._check_fault(number)
        journey = Journey(Moment(0, 0, 0), [], "fault", number, edits=len(self._timeline.edits), face=face)
        return self._ask(journey, self._timeline.before_fault(number))

    def ask_watched(self, face: Callable[[Debugger], Any], here: Moment) -> Any:
        """What ``face`` has to say here, in a run from the beginning with its TLBs watched."""
        return self._ask(Journey(here, [], edits=self._timeline.applied, face=face, prepare=watch_tlbs), 0)

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
        debugger, timeline = self._debugger, self._timeline
        if timeline.paused or debugger.stop is None:
            return journey
        known, here = (dict(debugger.bookmarks), dict(debugger.places), debugger.points.last), debugger.stop.moment
        edits = timeline.applied if journey.where == here else timeline.edits_until(journey.where)
        return replace(journey, began=here, known=known, edits=edits, edits_there=timeline.applied)

    def _go(self, journey: Journey, goal: Goal = None, passes: bool = True) -> Stop:
        """Run on, past stops that nobody asked for; after Ctrl-C back to where the journey began."""
        stop = self._on(journey, goal)
        while not stop.ended and (stop.kind is StopKind.INTERRUPT or (passes and self._by_itself(stop, journey))):
            if stop.kind is StopKind.INTERRUPT and journey.began is not None:
                note, edits = "interrupted: this is where it began", journey.edits_there
                told = stop if journey.face is not None else None
                back = replace(journey, search="", where=journey.began, began=None, back=None, edits=edits)
                self.leave(replace(back, arrival=told, note=note))
            stop = self._on(journey, goal)
        return stop

    # -- what was set on the way -----------------------------------------------------------------------------------

    def _pending(self, journey: Journey) -> list[Edit]:
        """What is to be set before the end of a journey, and has not been yet."""
        return self._timeline.edits[self._timeline.applied : journey.edits]

    def _on(self, journey: Journey, goal: Goal) -> Stop:
        """Run on to the next stop, and on the way do again what was done there."""
        debugger = self._debugger
        while True:
            self._set_here(journey)
            pending = self._pending(journey)
            end = journey.until or journey.where
            if not pending and journey.search == "hit" and end.event:
                return self._ran(self._go_besides(end, None))
            if not pending:
                return self._ran(debugger.go(goal))
            early = isinstance(goal, Until) and goal.time >= journey.where.time  # it may look so before, too
            wanted = pending[0].moment
            stop = self._ran(self._go_besides(wanted, None if early else goal))
            if stop.moment != wanted:
                if not stop.ended and stop.moment.time <= wanted.time:
                    return stop
                raise NotTheSame(f"the run came to {stop.moment.text()}, and not to {wanted.text()}, where was set")
            self._set_here(journey)
            if self._is_there(journey, stop):
                return stop

    def _ran(self, stop: Stop) -> Stop:
        self._at = stop.moment
        return stop

    def _set_here(self, journey: Journey) -> None:
        """Do what was done at the moment at which the guest stands."""
        while (pending := self._pending(journey)) and pending[0].moment == self._at:
            pending[0].again(self._debugger)
            self._timeline.applied += 1

    def _is_there(self, journey: Journey, stop: Stop) -> bool:
        """A place that is no instruction, at which something was set, is the journey's end."""
        if journey.search == "fault":
            return stop.moment.event == f"fault {journey.count}"
        return not journey.search and bool(journey.where.event) and stop.moment == journey.where

    def _go_besides(self, wanted: Moment, goal: Goal) -> Stop:
        """Run on, and stop at a moment, too."""
        debugger, control = self._debugger, self._debugger.target.control
        fault, known, last = debugger.on_fault_number, set(debugger.points.all), debugger.points.last
        if wanted.event:
            debugger.catch_again(wanted.event)
            debugger.due_event = wanted, set(debugger.points.all) - known
        else:
            control.due = Until(wanted.time, wanted.eip, wanted.cpu)
        mine = debugger.on_fault_number
        if fault is not None and mine is not None and fault <= mine:
            debugger.on_fault_number = mine = fault
        try:
            return debugger.go(goal)
        finally:
            control.due = debugger.due_event = None
            for each in [each for each in debugger.points if each.number not in known]:
                debugger.remove(each)
            debugger.points.last = last
            if mine != fault:
                debugger.on_fault_number = fault

    # -- arriving --------------------------------------------------------------------------------------------------

    @staticmethod
    def _by_itself(stop: Stop, journey: Journey) -> bool:
        return stop.moment.event in (DEATH, WAITING) and stop.moment != journey.where

    @staticmethod
    def _is_last(stop: Stop) -> bool:
        """Behind the end, and where no task may run, comes nothing but what somebody sets."""
        return stop.ended or stop.moment.event == HELD

    def arrive(self, journey: Journey) -> Stop:
        """In the copy of a checkpoint: go on from there.  May leave again for an earlier one."""
        debugger, mark = self._debugger, self._timeline.marks[journey.at]
        self._timeline.applied, self._at = mark.edits, mark.moment
        debugger.restore(journey.points if journey.seek is None or not journey.search else journey.seek)
        words = {each.moment.event.partition("#")[0] for each in self._pending(journey)}
        ends = [debugger.count(word) for word in words & set(CATCHES)]
        if journey.prepare is not None:
            journey.prepare(debugger)
        self._timeline.paused = True
        self._strict(True)
        try:
            if journey.search == "hit":
                self._last_hit(journey)
            if journey.search == "step":
                self._steps_before(journey)
            stop = self._fault(journey) if journey.search == "fault" else self._goto_place(journey)
            if journey.then:
                count, edits = journey.then, self._timeline.applied
                on = replace(journey, search="step", where=stop.moment, count=count, then=0, seek=None, until=None)
                self.leave(replace(on, edits=edits))
        finally:
            self._timeline.paused = False
            for end in ends:
                end()
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

    def _goto_place(self, journey: Journey) -> Stop:
        """Forward to a moment: to an instruction, or to something that was reported there."""
        debugger, where = self._debugger, journey.where
        debugger.disarm()
        self._set_here(journey)
        if where == self._at and not self._pending(journey):
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
        self.leave(replace(journey, where=journey.back, edits=journey.edits_there, back=None, note=note))

    def _fault(self, journey: Journey) -> Stop:
        self._debugger.disarm()
        self._debugger.on_fault_number = journey.count
        stop = self._go(journey)
        while not self._is_last(stop) and self._debugger.on_fault_number is not None:
            stop = self._go(journey)  # a task that died before is no fault
        if stop.ended:
            count = self._debugger.target.fault_count
            back = replace(journey, search="", edits=journey.edits_there)
            self.leave(replace(back, note=f"there is no fault {journey.count}: the run has {count}"))
        return stop

    def _here(self) -> Stop:
        target = self._debugger.target
        words = "the beginning" if self._timeline.before(target.moment(target.cpu)) is None else "here"
        return target.stop_at(target.cpu, StopKind.MOMENT, words)

    def _last_hit(self, journey: Journey) -> NoReturn:
        """Note each stop on the way to where the journey began; the last one is it."""
        debugger, timeline, where = self._debugger, self._timeline, journey.until or journey.where
        last: tuple[Stop, int] | None = None
        goal = Until(where.time, where.eip, where.cpu)
        debugger.forget_counts()

        def note(stop: Stop) -> bool:
            nonlocal last
            if stop.moment == where or stop.moment.time > where.time:
                return False
            there = sum(
                each.moment == stop.moment for each in self._pending(journey)
            )  # not yet, where it has come first
            last = stop, timeline.applied + there
            return True

        debugger.note = note
        while True:
            stop = self._go(journey, replace(goal), passes=False)
            if stop.kind is StopKind.MOMENT or not note(stop) or self._is_last(stop):
                break
        if last is not None:
            arrival = last[0] if journey.seek is None else None
            found = replace(journey, search="", where=last[0].moment, edits=last[1], arrival=arrival, until=None)
            timeline.wake(journey.at, found)
        mark = timeline.marks[journey.at]
        self.leave(replace(journey, until=mark.moment, edits=mark.edits), mark.moment)

    def _steps_before(self, journey: Journey) -> NoReturn:
        """Instruction by instruction over the last blocks before a moment, and to the one that was asked for."""
        debugger, where = self._debugger, journey.where
        debugger.disarm()
        began = self._timeline.marks[journey.at].moment
        first = where.time - journey.distance
        seen: deque[Ran] = deque(maxlen=MOST_SEEN if journey.over else journey.count)
        self._set_here(journey)
        stop = self._go(journey, Until(first)) if first > began.time else self._here()
        target = debugger.target
        at_first = journey.at == 0 and stop.moment == began
        cpu = where.cpu if journey.flow is None else None
        if journey.flow not in (None, target.flow(target.cpu)) or cpu not in (None, target.viewed_cpu):
            stop = self._go(journey, Steps(0, journey.flow, cpu))
        if not at_first and self._is_before(stop, where):  # where one lands may be an instruction that comes again
            stop = self._go(journey, Steps(1, journey.flow, cpu))
        while self._is_before(stop, where) or (self._pending(journey) and not stop.ended):
            edits = self._timeline.applied
            seen.append(ran(target, stop.moment, edits) if journey.over else Ran(stop.moment, edits))
            stop = self._go(journey, Steps(1, journey.flow, cpu))
        if journey.over and seen:
            self._back_over(journey, [*seen, ran(target, where, self._timeline.applied)])
        elif len(seen) == journey.count:
            self._timeline.wake(journey.at, to_place(journey, seen[0]))
        if journey.distance >= FARTHEST:
            note = f"no such instruction in the last {journey.distance:,} blocks"
            back = replace(journey, search="", where=journey.began or where, edits=journey.edits_there)
            self.leave(replace(back, note=note))
        if first > began.time:
            self._timeline.wake(journey.at, replace(journey, distance=journey.distance * FARTHER))
        try:
            self.leave(replace(journey, distance=FIRST_BACK), began)
        except Refused as error:
            last = to_place(journey, seen[0]) if seen else replace(journey, search="")
            self._timeline.wake(journey.at, replace(last, note=error.summary))

    def _back_over(self, journey: Journey, seen: list[Ran]) -> None:
        """As far back over calls as what ran last tells, and on from there; returns where it tells nothing."""
        way = Back(seen, self._debugger.target)
        while way.count < journey.count and way.one():
            pass
        left = journey.count - way.count
        there = replace(to_place(journey, way.here), search=journey.search, distance=FIRST_BACK)
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


def watch_tlbs(debugger: Debugger) -> None:
    """From here on the TLBs are followed."""
    debugger.target.watch_tlbs()

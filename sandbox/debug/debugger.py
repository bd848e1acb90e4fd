"""The debugger's core: one target, its points, and commands that are words and answers that are plain data.

Faces (a terminal, gdb, a test) call ``execute`` with a line, and print or send what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sandbox.debug.answer import Answer as Answer
from sandbox.debug.answer import one_line
from sandbox.debug.catches import BESIDE, CR3, FAULT, MODE, MODES, catch_named, comes_inside, mode_line
from sandbox.debug.fault_stops import FaultStops
from sandbox.debug.fold import wrapped
from sandbox.debug.goals import Goal
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.points import Point, Points, WithFields
from sandbox.debug.stops import DEATH, HELD, WAITING, Moment, Stop, StopKind
from sandbox.debug.target import Refused, Target
from sandbox.debug.touches import Touch, tell
from sandbox.debug.watching import PHYSICAL, Wanted, Watching
from sandbox.engine.cpu import Cpu
from sandbox.engine.watch import fetched
from sandbox.machine.events import Event
from sandbox.records import replace

if TYPE_CHECKING:
    from sandbox.debug.travel import Traveller

_BESIDE = re.compile(r"\b([0-9a-fA-F]{8})\s+<[^<>]*>", re.ASCII)
"""A name that is printed beside an address."""
MOST_PLACES = 10_000


class Debugger(FaultStops):
    """Points and commands on one target."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.points = Points()
        self.breaks: dict[int, Callable[[Cpu], bool]] = {}
        """Places of the debugger's own, for who steps over a call, and whether they count for a CPU."""
        self._ends: dict[int, Callable[[], None]] = {}
        self.note: Callable[[Stop], bool] | None = None
        """Takes stops in the place of the guest's standing still, where it says so."""
        self._armed: tuple[list[tuple[int, bool]], set[int], int | None] | None = None
        """The points that the CPUs know of, by their ids: ``_kept`` keeps these theirs."""
        self._kept: list[Point] = []
        self.due_event: tuple[Moment, set[int]] | None = None
        """A moment that somebody goes to besides, named by its event, and the numbers of his points."""
        self._counted: dict[str, tuple[Event, Moment, int]] = {}
        """Of each word that is caught its last event, where that was, and its number there."""
        self.bookmarks: dict[str, Moment] = {}
        """Moments by name."""
        self.places: dict[str, Moment] = {}
        """The moments of the last stops by what was printed of them, with the events that lie at them."""
        self.traveller: Traveller | None = None
        """Who goes back; None where there are no checkpoints."""
        self.threads_are_cpus = False
        """gdb sees CPUs in the place of tasks."""
        self.watching = Watching(target, self._touched)
        target.admits, target.control.changed = self._admits, self._mode_changed
        self.hear_faults()

    # -- running -------------------------------------------------------------------------------------------------

    def begin(self) -> Stop:
        """To the guest's first instruction, or to its end when it has none."""
        self.stop = self.target.resume()
        return self.remember(self.stop)

    def remember(self, stop: Stop) -> Stop:
        """What is printed of this stop leads back to it."""
        text = stop.moment.text()
        self.places.pop(text, None)
        self.places[text] = stop.moment
        if len(self.places) > MOST_PLACES:
            del self.places[next(iter(self.places))]
        return stop

    def go(self, goal: Goal = None) -> Stop:
        """Run on to the next stop.  Raises Refused at the guest's end."""
        self.arm()
        self.answered = ""
        try:
            self.stop = self.target.resume(goal)
        finally:
            self.breaks.clear()
        return self.remember(self.stop)

    def forget_counts(self) -> None:
        """No hit is to be ignored."""
        for each in self.points:
            each.ignore = 0

    def arm(self) -> None:
        """Tell the CPUs of all breakpoints and watches."""
        points = list(self.points)
        key = [(id(each), each.enabled) for each in points], {*self.breaks}, self.on_fault_number
        if key == self._armed:
            return
        self._armed, self._kept = None, points
        self._set_watches()
        control, physical = self.target.control, [each for each in self.points.of("break") if each.argument is not None]
        control.set_breakpoints(self.points.addresses() | set(self.breaks))
        control.set_fetches({each.argument.first for each in physical})
        control.watch_modes(self.watching.follows_modes or bool(self._catches(MODE)))
        control.stops_inside = self._stops_inside
        self.await_faults(self._catches(FAULT))
        self._armed = key

    def _set_watches(self) -> None:
        points = [each for each in self.points if each.enabled and each.watches]
        self.watching.set(points, self.target.windows() if self._stops_inside else [])

    @property
    def _stops_inside(self) -> bool:
        """Somebody wants stops for what devices tell while the engine is at work."""
        return any(each.what == "catch" and comes_inside(each.text.split()[0]) for each in self.points)

    def check_watch(self, wanted: Wanted) -> None:
        """Raises Refused for what cannot be watched besides all that is."""
        self._set_watches()
        self.watching.check(wanted)

    def _catches(self, word: str) -> list[Point]:
        return [each for each in self.points.of("catch") if each.text.split()[0] == word]

    def _admits(self, cpu: Cpu, at: int) -> bool:
        """A breakpoint's instruction comes next: whether somebody wants the stop."""
        self.target.look_again(self.target.stop_at(cpu, StopKind.BREAKPOINT, ""))
        own = self.breaks.get(at)
        wanted = own is not None and own(cpu)
        hit = [each for each in self.points.at(at) + self._physical_at(cpu, at) if each.admits(self)]
        if hit or wanted:
            headline = f"breakpoint {', '.join(str(each.number) for each in hit)}" if hit else ""
            self._hold(cpu, StopKind.BREAKPOINT, headline, hit)
        return False

    def _physical_at(self, cpu: Cpu, at: int) -> list[Point]:
        """The breakpoints at the physical address of the instruction that comes next."""
        points = [each for each in self.points.of("break") if each.argument is not None]
        if not points:
            return []
        physical = fetched(cpu)
        if physical is None:
            physical = self.target.translate(at, cpu.context.cr3)
        return [each for each in points if each.argument.first == physical]

    def _mode_changed(self, cpu: Cpu, before: int) -> None:
        self.watching.mode_changed()
        self.target.look_again(self.target.stop_at(cpu, StopKind.CATCH, ""))
        changed, about = before ^ cpu.mode, {"before": before, "mode": cpu.mode, "ring": cpu.mode & 3}
        hit = [
            each
            for each in self._catches(MODE)
            if changed & MODES.get(each.argument, -1)
            if each.admits(WithFields(self, about))
        ]
        if hit:
            self._hold(cpu, StopKind.CATCH, mode_line(before, cpu.mode), hit, about)

    def _hold(
        self, cpu: Cpu, kind: StopKind, headline: str, hit: list[Point], details: dict[str, Any] | None = None
    ) -> None:
        """Stop in the middle of the guest's life, and come back when it is to go on."""
        for each in hit:
            if each.temporary:
                self.remove(each)
        target, details = self.target, details or {}
        numbers = tuple(each.number for each in hit)
        moment = target.moment(cpu, details.get("event", ""))
        stop = Stop(kind, moment, target.pid_on(cpu), headline, numbers, details)
        if not self._is_noted(stop):
            target.control.goal = None
            target.hold(stop)

    def _is_noted(self, stop: Stop) -> bool:
        """Somebody has taken it down, or nobody wants it, and the guest goes on."""
        due = self.due_event
        if due is not None and due[1].intersection(stop.points):
            return stop.moment != due[0]
        if self.note is None or (due is not None and not stop.points):
            return False
        return self.note(stop) and (due is None or bool(due[1]) or stop.moment != due[0])

    def _touched(self, cpu: Cpu, found: list[tuple[Point, Touch]]) -> None:
        """Memory that somebody watches was touched, by one instruction or store."""
        self.target.look_again(self.target.stop_at(cpu, StopKind.WATCHPOINT, ""))
        known = self.points.all
        hit = [
            (point, touch)
            for point, touch in found
            if known.get(point.number) is point and point.admits(WithFields(self, touch.fields()))
        ]
        own = set() if self.due_event is None else self.due_event[1]
        for group in ([each for each in hit if (each[0].number in own) is mine] for mine in (False, True)):
            if group:
                points = list({point.number: point for point, _ in group}.values())
                headline, details = tell(self.target, [(point.number, touch) for point, touch in group])
                self._hold(cpu, StopKind.WATCHPOINT, headline, points, details)

    # -- events --------------------------------------------------------------------------------------------------

    def catch(self, word: str, argument: str, **rest: Any) -> Point:
        """From now on stop at these events.  Raises Refused."""
        if word in BESIDE:
            text, chosen = self._beside(word, argument)
            return self.points.add("catch", text, argument=chosen, **rest)
        found = catch_named(word, self.target.kind)
        if argument and not found.argument:
            raise Refused(f"catch {word}: takes no {argument!r}")
        point = self.points.add("catch", f"{word} {argument}".rstrip(), argument=argument, **rest)
        self._subscribe(point)
        return point

    def _beside(self, word: str, argument: str) -> tuple[str, Any]:
        """Text and argument of what is no event.  Raises Refused."""
        allowed = tuple(MODES) if word == MODE else ()
        if argument and argument not in allowed:
            words = f"{', '.join(allowed)}, and " if allowed else ""
            raise Refused(f"catch {word}: takes {words}no {argument!r}")
        if word == CR3:
            wanted = Wanted(CR3)
            self.check_watch(wanted)
            return word, wanted
        return f"{word} {argument}".rstrip(), argument

    def _subscribe(self, point: Point) -> None:
        word, argument = point.text.split()[0], point.argument
        found = catch_named(word, self.target.kind)

        def seen(event: Event) -> None:
            if found.key is not None and not found.selects(event, argument):
                return
            here = self.target.moment(self.target.machine.cpus[event.cpu])
            named = self._named(word, event, here)
            if (argument or not found.argument) and not found.selects(event, argument):
                return
            cpu = self.target.machine.cpus[event.cpu]
            self.target.look_again(self.target.stop_at(cpu, StopKind.CATCH, ""))
            if point.admits(WithFields(self, event.to_dict())):
                self._hold(cpu, StopKind.CATCH, found.tell(event), [point], {**event.to_dict(), "event": named})

        self._ends[point.number] = self.target.machine.bus.subscribe(seen, *found.events, only=found.key)

    def _named(self, word: str, event: Event, here: Moment) -> str:
        """An event by its word, and where several come at one moment its number there, whoever hears of it."""
        known = self._counted.get(word)
        if known is None or known[0] is not event:
            known = self._counted[word] = event, here, 0 if known is None or known[1] != here else known[2] + 1
        return f"{word}#{known[2]}" if known[2] else word

    def count(self, word: str) -> Callable[[], None]:
        """Number the events of a word from now on, though nobody stops for them; returns what ends that."""
        found = catch_named(word, self.target.kind)

        def seen(event: Event) -> None:
            if found.key is None or found.selects(event, ""):
                self._named(word, event, self.target.moment(self.target.machine.cpus[event.cpu]))

        return self.target.machine.bus.subscribe(seen, *found.events, only=found.key)

    def remove(self, point: Point) -> None:
        """Forget a point."""
        self.points.remove(point)
        self.await_faults(self._catches(FAULT))
        end = self._ends.pop(point.number, None)
        if end is not None:
            end()

    def snapshot(self) -> list[Point]:
        """The points as plain data."""
        return [replace(each) for each in self.points]

    def restore(self, points: list[Point]) -> None:
        """Have these points and no others."""
        self.disarm()
        for each in points:
            self.points.put(replace(each))
            if each.what == "catch" and each.text.split()[0] not in BESIDE:
                self._subscribe(self.points.all[each.number])

    def disarm(self) -> None:
        """No point stops the guest any more."""
        for each in self.points:
            self.remove(each)
        if isinstance(self.target, KernelTarget):
            self.target.stops_at_waits = False

    def catch_again(self, event: str) -> None:
        """Have a point for what a moment calls its event."""
        if event.startswith("fault "):
            self.on_fault_number = int(event.split()[1])
        elif event.startswith("store "):
            _, first, size, *_ = event.split()
            self.points.add("watch", event, argument=Wanted(PHYSICAL, int(first, 16), int(size), whole=True))
        elif event == WAITING and isinstance(self.target, KernelTarget):
            self.target.stops_at_waits = True
        elif event not in (DEATH, HELD):
            self.catch(event.partition("#")[0], "")

    # -- commands ------------------------------------------------------------------------------------------------

    def execute(self, line: str) -> Answer:
        """Carry out one command.  What is wrong with it is the answer's ``error``, and nothing has changed then."""
        from sandbox.debug.commands import find

        words = line.split("#")[0].strip()
        if not words:
            return Answer()
        name, _, rest = words.partition(" ")
        rest = _BESIDE.sub(r"\1", rest)
        if "/" in name:
            name, _, form = name.partition("/")
            rest = f"/{form} {rest}"
        try:
            answer = find(name)(self, rest.strip())
            if not answer.verbatim:
                answer.lines = wrapped(answer.lines)
            return answer
        except Refused as error:
            return Answer(error=one_line(error.summary))

    def complete(self, text: str) -> Iterator[str]:
        """What a line's last word may become: a command, or a symbol."""
        from sandbox.debug.commands import COMMANDS

        head, space, word = text.rpartition(" ")
        names = self.target.symbol_names() if space else list(COMMANDS)
        return (f"{head}{space}{name}" for name in sorted(set(names)) if name.startswith(word))

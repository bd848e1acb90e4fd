"""Watches of memory on a whole machine: what the guest's instructions, page walks, and Python's doors touch.

A linear watch sees its addresses in every address space, and the frames behind them in one of them by whatever mapping:
the kernel's, another program's, a device's.  When that space's tables change, it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sandbox.debug.points import Point
from sandbox.debug.target import Refused, Target
from sandbox.debug.touches import STORE, Touch
from sandbox.engine.cpu import Cpu
from sandbox.engine.stubs import native_host
from sandbox.engine.watch import ACCESS, CR3, READ, WRITE, Hit, NoWatch, Watches
from sandbox.machine.memory import Reason
from sandbox.records import dataclass, field, replace
from sandbox.x86.masks import CR4_PAE
from sandbox.x86.paging import PAGE_SIZE
from sandbox.x86.walk import Access, Walk, walk

LINEAR, PHYSICAL, ENTRIES = "linear", "physical", "pte"
MOST_BYTES = 1 << 20
"""Of one watch."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a point watches.  ``pid`` and ``cpu`` say by whose tables linear addresses are followed."""

    kind: str
    first: int = 0
    size: int = 4
    flags: int = WRITE
    pid: int = 0
    cpu: int = 0
    whole: bool = False
    """Python's stores into it are told with all of its bytes."""


def _window(first: int, size: int) -> Wanted:
    """All accesses to what a device answers for."""
    return Wanted(PHYSICAL, first, size, READ | WRITE)


@dataclass(frozen=True, slots=True)
class Range:
    """[first, end), for which accesses; ``linear`` is what a physical one is known by."""

    first: int
    end: int
    flags: int
    physical: bool
    linear: int = 0
    level: str = ""


@dataclass(slots=True)
class _Armed:
    """A point, what it comes to by the present tables, and the engine's numbers for it."""

    point: Point
    ranges: dict[Range, int] = field(default_factory=dict)
    ways: list[Range] = field(default_factory=list)
    """The entries by which a linear address was translated."""
    root: int | None = None

    @property
    def wanted(self) -> Wanted:
        found: Wanted = self.point.argument
        return found


class Watching:
    """The watches of a target; ``told(cpu, touches by point)`` hears of each instruction or store that touches some."""

    def __init__(self, target: Target, told: Callable[[Cpu, list[tuple[Point, Touch]]], None]) -> None:
        self._target, self._told = target, told
        self._watches: Watches | None = None
        self._armed: list[_Armed] = []
        self._rooted: list[_Armed] = []
        """Those that follow somebody's tables."""
        self._loads: list[Hit] = []
        self._later: list[tuple[Point, Touch]] = []
        self._stale = False
        self._told_of_roots = True
        """Somebody tells when ``root_of`` may answer otherwise."""
        self._unsure = False
        """``root_of`` may answer otherwise than it did."""

    # -- what is watched -----------------------------------------------------------------------------------------

    def check(self, wanted: Wanted) -> None:
        """Raises Refused for what cannot be watched here."""
        made = _Armed(Point(0, "watch", "", argument=wanted))
        try:
            watches = self._engine()
            with watches.together():
                self._follow_one(made, watches)
                for number in made.ranges.values():
                    watches.remove(number)
        except NoWatch as error:
            raise Refused(error.summary) from error

    def set(self, points: Sequence[Point], windows: Sequence[tuple[int, int]] = ()) -> None:
        """Watch for these points, and for no others.

        And stop the engine before each access to these physical ``windows``, start and bytes: it tells devices of an
        access in the middle of a block, where nobody knows the instruction, and an instruction run by itself is known.
        """
        known = [each.point for each in self._armed]
        now = [(each.argument.first, each.argument.size) for each in known if not each.number]
        windows = list(windows) if native_host() else []
        if [id(each) for each in points] != [id(each) for each in known if each.number] or windows != now:
            self._arm([*points, *(Point(0, "watch", "", argument=_window(*each)) for each in windows)])

    def end(self) -> None:
        """Watch nothing any more."""
        self._arm([])

    def _arm(self, points: Sequence[Point]) -> None:
        target, memory = self._target, self._target.machine.memory
        self._disarm()
        if not points:
            if memory.store_watch is not None:
                memory.store_watch = target.control.watching = None
                memory.watched_pages.clear()
                target.renew_views()
                target.follow_roots(None)
            return
        self._armed = [_Armed(each) for each in points]
        try:
            watches = self._engine()
            with watches.together():
                watches.watch_cr3(any(each.wanted.kind == CR3 or self._follows_cr3(each) for each in self._armed))
                self._follow()
        except NoWatch as error:
            self._disarm()
            raise Refused(error.summary) from error
        memory.store_watch, target.control.watching = self._store, self
        target.renew_views()
        self._told_of_roots = target.follow_roots(self._roots_changed)

    def _engine(self) -> Watches:
        """Raises NoWatch."""
        if self._watches is None:
            self._watches = Watches(self._target.machine.cpus)
            self._watches.noticed = self._target.control.alert
        return self._watches

    def _disarm(self) -> None:
        self._armed, self._rooted = [], []
        if self._watches is not None:
            with self._watches.together():
                self._watches.clear()

    def _follows_cr3(self, each: _Armed) -> bool:
        return self._target.kind == "rom" and each.wanted.kind in (LINEAR, ENTRIES)

    def _follow(self) -> None:
        """Watch what the present tables say."""
        self._stale = False
        watches = self._engine()
        with watches.together():
            for each in self._armed:
                self._follow_one(each, watches)
        self._rooted = [each for each in self._armed if each.wanted.kind in (LINEAR, ENTRIES)]
        self._follow_pages()

    def _follow_pages(self) -> None:
        """Let Python's stores into the pages that are watched now be told, and no others."""
        memory, pages = self._target.machine.memory, set[int]()
        for each in self._armed:
            for known in (*each.ranges, *each.ways):
                if known.physical:
                    first, last = memory.host_index(known.first), memory.host_index(known.end - 1)
                    pages.update(range(first // PAGE_SIZE, last // PAGE_SIZE + 1))
        if pages != memory.watched_pages:
            memory.watched_pages.clear()
            memory.watched_pages.update(pages)
            if memory.store_watch is not None:
                self._target.renew_views()

    def _follow_one(self, each: _Armed, watches: Watches) -> None:
        each.root = self._target.root_of(each.wanted.pid, each.wanted.cpu)
        ranges, each.ways = self._ranges(each)
        wanted = [*ranges, *(each.ways if self._target.kind == "rom" else [])]
        for gone in [known for known in each.ranges if known not in wanted]:
            watches.remove(each.ranges.pop(gone))
        for new in wanted:
            if new not in each.ranges:
                each.ranges[new] = watches.add(new.first, new.end, new.flags, physical=new.physical)

    def _ranges(self, each: _Armed) -> tuple[list[Range], list[Range]]:
        """What is watched, and the entries by which that was found."""
        wanted = each.wanted
        first, end = wanted.first, wanted.first + wanted.size
        if wanted.kind == CR3:
            return [], []
        if wanted.kind == PHYSICAL:
            return [Range(first, end, wanted.flags, True)], []
        if wanted.kind == ENTRIES:
            return self._entries(each, first), []
        ranges, ways = [Range(first, end, wanted.flags, False, first)], []
        while first < end:
            behind = min(end, (first | PAGE_SIZE - 1) + 1)
            ways += [entry for entry in self._entries(each, first) if entry not in ways]
            found = self._walk(each, first)
            if found is not None and found.physical is not None and self._is_ram(found.physical, behind - first):
                at = found.physical
                ranges.append(Range(at, at + behind - first, wanted.flags, True, first))
            first = behind
        return ranges, ways

    def _entries(self, each: _Armed, linear: int) -> list[Range]:
        found = self._walk(each, linear)
        size = 8 if self._context(each).cr4 & CR4_PAE else 4
        levels = found.levels if found is not None else ()
        return [
            Range(level.physical, level.physical + size, WRITE, True, linear, level.name)
            for level in levels if self._is_ram(level.physical, size)
        ]  # fmt: skip

    def _context(self, each: _Armed) -> Any:
        return self._target.machine.cpus[each.wanted.cpu].context

    def _walk(self, each: _Armed, linear: int) -> Walk | None:
        """The walk by the tables that a watch follows; None where there are none."""
        if each.root is None:
            return None
        state, read = self._context(each), self._target.machine.memory.read_entry
        return walk(read, each.root, linear, Access(), cr0=state.cr0, cr4=state.cr4, efer=state.efer)

    def _is_ram(self, physical: int, size: int) -> bool:
        return self._target.machine.memory.is_ram(physical, size)

    # -- what was touched ----------------------------------------------------------------------------------------

    def before(self, cpu: Cpu) -> None:
        """The engine is about to go on, by the tables as they are now."""
        if not self._stale and (self._unsure or not self._told_of_roots):
            for each in self._rooted:
                self._stale |= each.root != self._target.root_of(each.wanted.pid, each.wanted.cpu)
        self._unsure = False
        if self._stale:
            self._follow()

    def _roots_changed(self) -> None:
        self._unsure = True
        self._target.control.alert()

    def _outdated(self) -> None:
        """The tables may say something else now."""
        self._stale = True
        self._target.control.alert()

    @property
    def busy(self) -> bool:
        """There is something to do before the next run of the engine, or behind it."""
        return self._stale or self._unsure or self.touched() or (bool(self._rooted) and not self._told_of_roots)

    def touched(self) -> bool:
        """The engine has come back: whether there is something to tell."""
        return bool(self._later or self._loads or (self._watches is not None and self._watches.unread))

    @property
    def follows_modes(self) -> bool:
        """Addresses are followed that mean something else when paging is turned on."""
        return any(self._follows_cr3(each) for each in self._armed)

    def mode_changed(self) -> None:
        """Paging may be on or off now."""
        self._outdated()

    def loaded(self, cpu: Cpu) -> None:
        """CR3 was loaded."""
        assert self._watches is not None
        hit = self._watches.stopped_by(cpu)
        self._loads.append(replace(hit, eip=cpu.context.code_address(hit.linear)))

    def behind(self, cpu: Cpu) -> bool:
        """The engine has come back: tell what it has touched."""
        if not self.touched():
            return False
        assert self._watches is not None
        hits, self._loads = [*self._watches.hits(), *self._loads], []
        found, self._later = self._later, []
        for hit in hits:
            found += [(each.point, self._touch(each, hit)) for each in self._armed if self._touched(each, hit)]
            if hit.kind == CR3 or any(self._on(way, hit.physical, hit) for each in self._armed for way in each.ways):
                self._outdated()
        if any(point.argument.kind == ENTRIES for point, _ in found):
            self._outdated()
        found = [(point, touch) for point, touch in found if point.number]
        if found:
            self._told(cpu, found)
        return bool(found)

    def _touched(self, each: _Armed, hit: Hit) -> bool:
        if hit.kind == CR3:
            return each.wanted.kind == CR3
        how = WRITE if hit.write else READ
        return any(
            self._on(known, hit.physical if known.physical else hit.linear, hit)
            for known in each.ranges
            if known.flags & how and known not in each.ways and (known.physical or hit.kind == ACCESS)
        )

    @staticmethod
    def _on(known: Range, at: int | None, hit: Hit) -> bool:
        """The hit's bytes from an address on, or, of an access to two pages, those at its end, lie in a range."""
        here = hit.size
        if known.physical and hit.last is not None and (at is None or hit.last != at + hit.size - 1):
            here = PAGE_SIZE - hit.linear % PAGE_SIZE
            rest = hit.size - here
            if known.first <= hit.last and hit.last - rest + 1 < known.end:
                return True
        return at is not None and known.first < at + here and at < known.end

    def _touch(self, each: _Armed, hit: Hit) -> Touch:
        entries = each.ranges if each.wanted.kind == ENTRIES else ()
        level = next((known.level for known in entries if self._on(known, hit.physical, hit)), "")
        told = (None if hit.kind == CR3 else hit.linear, hit.physical, hit.size, hit.write, hit.old, hit.new)
        return Touch(hit.kind, hit.cpu, hit.eip, *told, level=level)

    def _store(self, physical: int, size: int, reason: Reason) -> Callable[[], object] | None:
        """Python is about to store."""
        if self._stale and not self._target.control.running:
            self._follow()
        end = physical + size
        touched = [
            (each, known)
            for each in self._armed
            for known in {*each.ranges, *each.ways}
            if known.physical and known.first < end and physical < known.end
        ]
        if not touched or reason is Reason.DEBUGGER:
            if touched:
                self._outdated()
            return None
        places = [
            (known.first, known.end)
            if known.level or each.wanted.whole
            else (max(known.first, physical), min(known.end, end))
            for each, known in touched
        ]
        old = [self._value(*place) for place in places]
        return lambda: self._stored(touched, places, old, reason)

    def _value(self, first: int, end: int) -> int:
        return self._target.machine.memory.read_entry(first, end - first)

    def _stored(
        self, touched: list[tuple[_Armed, Range]], places: list[tuple[int, int]], old: list[int], reason: Reason
    ) -> None:
        cpu, found = self._target.running_cpu, list[tuple[Point, Touch]]()
        before: int | None
        for (each, known), (first, end), before in zip(touched, places, old, strict=True):
            now, way = self._value(first, end), known in each.ways
            if way or known.level:
                self._outdated()
            if way or not known.flags & WRITE or (known.level and now == before):
                continue  # half of an entry, which was what it is
            off = 0 if known.level else first - known.first
            linear = None if each.wanted.kind == PHYSICAL else known.linear + off
            before, after = (before, now) if end - first <= 8 else (None, None)
            store = Touch(
                STORE, cpu.index, None, linear, first, end - first, True, before, after, reason.value, known.level
            )
            found.append((each.point, store))
        if self._target.control.running:
            self._later += found
            self._target.control.alert()
        elif found:
            self._told(cpu, found)

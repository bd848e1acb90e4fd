"""The sanitizer of TLBs: what each CPU may hold against what the tables say, at each moment when it matters.

Reports are of two sorts.  A *use*: a page whose entry changed is dropped from the engine's TLB, and when its next
access misses, the old translation is put back and the access reported; the guest goes on stale, as on hardware.  A
*chance*: a frame goes to somebody else, or a CPU to ring 3, while a stale translation may live.

Nothing that Python meant to do counts: only what a CPU executed ends a translation.  While a shootdown is going on, its
uses are the hardware's right and no report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from sandbox.engine import tlbfeed
from sandbox.engine.cpu import Cpu
from sandbox.engine.tlbfeed import Refill
from sandbox.image.disassemble import text_of
from sandbox.machine.memory import DEVICES_START, PhysicalMemory
from sandbox.sanitize.report import StaleReport
from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.translation import Held, Now, difference, grant, is_stale, walk_now
from sandbox.sanitize.watch import TlbWatch
from sandbox.x86.instruction import LONGEST_INSTRUCTION
from sandbox.x86.masks import CR4_PAE
from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, PAGE_SIZE, RW, P

MOST_REPORTS = 100
_FLUSH_IN_TIME = {
    "use": "before this access",
    "ring3": "before it went back to ring 3",
    "released": "before the frame was released",
    "reused": "before the frame was given away",
    "dma": "before the transfer",
    "entered": "before the frame was entered elsewhere",
    "table": "before the table's frame was released",
    "pdpte": "after the store",
}


class World(Protocol):
    """Who knows more of the machine than its memory: a kernel, or nobody."""

    def in_flight(self, cpu: int, linear: int) -> bool:
        """A flush of what a CPU has loaded at an address has begun and not ended: what it is about may live.

        That of another address space, or of the other half, excuses nothing.
        """
        ...

    def may_stay(self, cpu: int, linear: int) -> bool:
        """A deferral allows it."""
        ...

    def task(self, cpu: int) -> int:
        """The pid of the task on a CPU, 0 for none."""
        ...

    def name(self, cpu: int, linear: int) -> str:
        """`` <symbol+0x10>``, or nothing."""
        ...

    def owner(self, frame: int) -> str:
        """Where a frame went."""
        ...

    def now(self) -> int:
        """The machine's clock."""
        ...


class NoKernel:
    """The ``World`` of a machine on which nobody is known: no flush under way, no deferral, no task and no name."""

    def in_flight(self, cpu: int, linear: int) -> bool:
        return False

    def may_stay(self, cpu: int, linear: int) -> bool:
        return False

    def task(self, cpu: int) -> int:
        return 0

    def name(self, cpu: int, linear: int) -> str:
        return ""

    def owner(self, frame: int) -> str:
        return "RAM"

    def now(self) -> int:
        return 0


class Stale(NamedTuple):
    """A stale translation of a CPU, with what the tables say."""

    shadow: ShadowTlb
    page: int
    held: Held
    now: Now

    @property
    def linear(self) -> int:
        return self.page << PAGE_SHIFT


class TlbSanitizer:
    """Over the CPUs of one machine; ``changed`` gives the table entries that were stored since it was asked last."""

    def __init__(
        self, cpus: Sequence[Cpu], memory: PhysicalMemory, world: World, changed: Callable[[], list[int]]
    ) -> None:
        self._cpus, self._memory, self.world, self._changed = cpus, memory, world, changed
        self.watch = TlbWatch(cpus)
        self.shadows, self.feed = self.watch.shadows, self.watch.feed
        self.watch.stream.on_pdpte = self._pdpte
        self.feed.answer(self._asked)
        self.reports: list[StaleReport] = []
        self.dropped = 0
        """Reports beyond ``MOST_REPORTS``."""
        self._seen: set[tuple[str, int, int, int]] = set()
        self._armed: set[tuple[int, int]] = set()
        self._entered: set[int] = set()
        """Places of entries that were stored while something was stale, until a CPU goes to ring 3."""
        self.flushed = self._flush_look()
        """``flushed(offset, CPU, linear)``: the CPU has executed INVLPG of the page since it changed the entry, whose
        offset is in the buffer of memory: nobody has an old translation by it.  False says nothing."""

    # -- keeping up

    def finish(self) -> list[StaleReport]:
        """What was found."""
        self.settle()
        return list(self.reports)

    def settle(self) -> bool:
        """Take in what CPUs executed and what was stored since; True when something is stale."""
        self.feed.drain()
        places = self._changed()
        for at in places:
            for shadow in self.shadows:
                for page, held in list(shadow.through(at)):
                    self._compare(shadow, page, held)
        stale = any(shadow.stale for shadow in self.shadows)
        if stale:
            self._entered.update(places)
            self._arm()
        elif self._armed:
            self._armed.clear()
            self.feed.clear_all()
        return stale

    def forgotten(self, places: Iterable[int]) -> bool:
        """Nothing was stale, and no CPU has an old translation by these entries any more, without reading the feed.

        Each that may have had one has executed INVLPG since its last walk, or walked to what is there now.  False says
        nothing; ``settle`` does then.
        """
        if self._armed:
            return False
        unread, shadows, read = self.feed.unread, self.shadows, self._memory.read_entry
        size = 8 if shadows[0].cr4 & CR4_PAE else 4
        for shadow in shadows:
            if shadow.stale:
                return False
        for place in places:
            if not unread.forgotten(place, read(place, size)):
                return False
            for shadow in shadows:
                for page in shadow.leaves(place):
                    if page is None or not unread.invalidated(shadow.number, page << PAGE_SHIFT):
                        return False
        return True

    def _flush_look(self) -> Callable[[int, int, int], bool]:
        """It is asked behind every copy, and has all at hand; it never tells of several CPUs."""
        shadow, look, armed, memory = self.shadows[0], self.feed.unread.flushed, self._armed, self._memory
        upper, large, local, everywhere = shadow.leaf_tables()

        def flushed(offset: int, number: int, linear: int) -> bool:
            if shadow.stale or armed:
                return False
            place = offset if offset < DEVICES_START else memory.physical_of(offset)
            page = linear >> PAGE_SHIFT
            if place in upper or place in large or local.get(place, page) != page or place in everywhere:
                return False
            now = memory.quads[offset >> 3] if shadow.cr4 & CR4_PAE else memory.words[offset >> 2]
            return look(place, number, linear, now)

        return flushed if len(self.shadows) == 1 else lambda offset, number, linear: False

    def _compare(self, shadow: ShadowTlb, page: int, held: Held) -> Now | None:
        """What the tables say if the translation is stale; remembered in the shadow."""
        linear = page << PAGE_SHIFT
        for piece in range(linear, linear + held.size, PAGE_SIZE):
            now = self._walk(shadow, piece)
            if is_stale(held, piece, now, bool(shadow.cr4 & CR4_PAE)):
                shadow.stale[page] = held
                return now
            if now.size >= held.size:
                break
        shadow.stale.pop(page, None)
        return None

    def _walk(self, shadow: ShadowTlb, linear: int) -> Now:
        return walk_now(self._memory.read_entry, shadow.cr3, shadow.cr4, shadow.pdptes, linear)

    def _arm(self) -> None:
        """Let the engine forget stale pages, so that their next use asks."""
        for shadow in self.shadows:
            for page, held in shadow.stale.items():
                if (shadow.number, page) not in self._armed:
                    self._armed.add((shadow.number, page))
                    for linear in range(page << PAGE_SHIFT, (page << PAGE_SHIFT) + held.size, PAGE_SIZE):
                        self.feed.suspect(shadow.number, linear)

    def _stale(self, shadows: Sequence[ShadowTlb] | None = None) -> Iterator[Stale]:
        """Those that are stale still: an entry may have become again what it was."""
        for shadow in self.shadows if shadows is None else shadows:
            for page, held in list(shadow.stale.items()):
                now = self._compare(shadow, page, held)
                if now is not None:
                    yield Stale(shadow, page, held, now)

    # -- chances

    def enters(self, cpu: Cpu) -> bool:
        """A CPU is about to run its context.  True when something is stale."""
        if not self.settle():
            return False
        if cpu.context.cpl == 3:
            self._enters_ring3(cpu)
        return True

    def _enters_ring3(self, cpu: Cpu) -> None:
        for each in self._stale([self.shadows[cpu.index]]):
            if not self._may_stay(each) and not self._in_flight(each):
                self._chance("ring3", each)
        if self._entered:
            self._check_entered()

    def _check_entered(self) -> None:
        """No frame of a stale translation may be mapped writable by another entry meanwhile."""
        size = 8 if any(shadow.cr4 & CR4_PAE for shadow in self.shadows) else 4
        entries = {place: self._memory.read_entry(place, size) for place in self._entered}
        self._entered.clear()
        frames = {entry & FRAME_MASK: place for place, entry in entries.items() if entry & P and entry & RW}
        for each in self._stale():
            place = frames.get(each.held.physical)
            if place is None or place == each.held.path[-2] or self._may_stay(each):
                continue
            if self._in_flight(each):
                self._entered.add(place)  # its flush may turn out not to have told this CPU
            else:
                self._chance("entered", each)

    def frames(self, kind: str, frame: int, count: int) -> bool:
        """Frames are released, given away or stored into by a device.  True when something is stale."""
        if not self.settle():
            return False
        for each in self._stale():
            first = each.held.physical >> PAGE_SHIFT
            if first < frame + count and frame < first + (each.held.size >> PAGE_SHIFT) and not self._may_stay(each):
                self._chance(kind, each, max(first, frame))
        return True

    def table_released(self, frame: int) -> None:
        """A frame is released: no CPU may have it as a table."""
        for shadow in self.shadows:
            if frame in shadow.walked or shadow.cr3 >> PAGE_SHIFT == frame:
                linear = shadow.walked.get(frame, 0)
                self._report("table", shadow, linear, self._place(shadow.number), (frame << PAGE_SHIFT, 0, 0), frame)

    def _in_flight(self, each: Stale) -> bool:
        return self.world.in_flight(each.shadow.number, each.linear)

    def _may_stay(self, each: Stale) -> bool:
        return self.world.may_stay(each.shadow.number, each.linear)

    def _chance(self, kind: str, each: Stale, frame: int | None = None) -> None:
        entries = difference(each.held, each.now)
        where = self._place(each.shadow.number)
        at = each.held.physical >> PAGE_SHIFT if frame is None else frame
        self._report(kind, each.shadow, each.linear, where, entries, at, each.held.is_global)

    def _pdpte(self, shadow: ShadowTlb, linear: int, place: int, entry: int) -> None:
        register = shadow.pdptes[linear >> 30]
        where = self._place(shadow.number)
        self._report("pdpte", shadow, linear, where, (place, register, entry), register >> PAGE_SHIFT & 0xFFFFFFF)

    def _place(self, number: int) -> int:
        """Where a CPU is between two runs."""
        return self._cpus[number].context.linear_eip & 0xFFFFFFFF

    # -- uses

    def _asked(self, number: int, linear: int, access: int, user: bool, back: int) -> Refill | None:
        """A page that was stale misses.  The feed has been read."""
        shadow = self.shadows[number]
        found = shadow.find(linear)
        page, held = found if found is not None else (linear >> PAGE_SHIFT, None)
        now = None if held is None or page not in shadow.stale else self._compare(shadow, page, held)
        if held is None or now is None:
            self._disarm(number, page, linear)
            return None
        granted = grant(held.path, bool(shadow.cr4 & CR4_PAE))
        rights = tlbfeed.RIGHT_READ | tlbfeed.RIGHT_WRITE * granted.write | tlbfeed.RIGHT_EXECUTE * granted.execute
        if not rights >> access_bit(access) & 1 or (user and not granted.user):
            return None
        if self.world.in_flight(number, linear):
            self._armed.discard((number, page))  # its next use asks again: the flush may be over and have told nobody
        else:
            base, _ = self.feed.base_and_ring(number)
            eip = base + self.feed.instruction(number, back) & 0xFFFFFFFF
            entries = difference(held, now)
            self._report("use", shadow, linear, eip, entries, held.physical >> PAGE_SHIFT, held.is_global)
        return Refill(held.physical + (linear & held.size - 1 & -PAGE_SIZE), rights, held.attributes, held.size)

    def _disarm(self, number: int, page: int, linear: int) -> None:
        self._armed.discard((number, page))
        if not any((each.number, page) in self._armed for each in self.shadows):
            self.feed.clear(linear)

    # -- telling

    def _report(
        self,
        kind: str,
        shadow: ShadowTlb,
        linear: int,
        eip: int,
        entries: tuple[int, int, int],
        frame: int,
        is_global: bool = False,
    ) -> None:
        key = (kind, shadow.number, linear >> PAGE_SHIFT, entries[1])
        if key in self._seen:
            return
        self._seen.add(key)
        if len(self.reports) == MOST_REPORTS:
            self.dropped += 1
            return
        world, number = self.world, shadow.number
        text, missing = text_of(self._code(shadow, eip), eip), missing_flush(kind, number, linear, is_global)
        place, old, new = entries
        self.reports.append(
            StaleReport(
                kind,
                number,
                world.task(number),
                linear,
                eip,
                text,
                world.name(number, eip),
                place,
                old,
                new,
                frame,
                world.owner(frame),
                missing,
                world.now(),
            )
        )

    def _code(self, shadow: ShadowTlb, eip: int) -> bytes:
        """The bytes of an instruction as the CPU fetches them, by what it holds or else the tables."""
        found = b""
        while len(found) < LONGEST_INSTRUCTION:
            at = eip + len(found) & 0xFFFFFFFF
            held = shadow.find(at)
            if held is None:
                physical = self._walk(shadow, at).physical
            else:
                physical = held[1].physical + (at & held[1].size - 1 & -PAGE_SIZE)
            size = min(LONGEST_INSTRUCTION - len(found), PAGE_SIZE - at % PAGE_SIZE)
            if physical is None or not self._memory.is_ram(physical, PAGE_SIZE):
                break
            found += self._memory.read(physical + at % PAGE_SIZE, size)
        return found


def access_bit(access: int) -> int:
    """The right that an access needs: the number of its bit among the feed's rights."""
    return {tlbfeed.LOAD: 0, tlbfeed.STORE: 1, tlbfeed.FETCH: 2}[access]


def missing_flush(kind: str, cpu: int, linear: int, is_global: bool) -> str:
    """What should have been executed."""
    in_time = _FLUSH_IN_TIME[kind]
    if kind == "pdpte":
        return f"a load of CR3 on CPU {cpu}, {in_time}"
    if kind == "table":
        return f"a load of CR3 or any INVLPG on CPU {cpu}, {in_time}"
    other = "a change of CR4.PGE" if is_global else "a load of CR3"
    return f"INVLPG {linear & -PAGE_SIZE:#x} or {other} on CPU {cpu}, {in_time}"

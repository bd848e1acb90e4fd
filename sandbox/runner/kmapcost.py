"""What it costs to reach pages of highmem: one work on fresh machines that differ in how the kernel maps.

The work is ``images/kmap-work`` or, where addresses go from CPU to CPU, ``images/kmap-share``, between its two calls of
``times``.  Counted from outside of the mechanisms: entries
stored in the tables over windows and pool (``PhysicalMemory.table_observer``), and what the CPUs' MMUs did (the TLB
feed).  Only hits, misses, recycles and sleeps are the mechanism's own books.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import CallEntered
from sandbox.kernel.base.layout import FIXADDR_END, MEGABYTE, Region
from sandbox.kernel.base.policies import POLICIES
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.page_mapper import AtomicMapper
from sandbox.kernel.task.limits import RunLimits
from sandbox.machine.machine import Machine
from sandbox.records import asdict, dataclass, fields
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from sandbox.sanitize.watch import TlbWatch
from sandbox.x86.errors import ConfigurationError, SandboxError
from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, PAGE_SIZE, PS, P

TIMES = 43
WORKS = {
    "copy": "copies between pages of highmem",
    "storm": "a storm of copy-on-write faults",
    "read": "reads of a file in highmem",
    "threads": "addresses handed from CPU to CPU, by threads",
    "processes": "addresses handed from CPU to CPU, by processes",
}
SHARED = ("threads", "processes")
"""Those of ``images/kmap-share``: who gets an address (``kva_get``, ``kmap``) and who uses it are on two CPUs."""
SHARED_PAGES = 1024
"""At most; both pools have slots for half of them, so that some are found and some must be recycled."""
MECHANISMS: dict[str, tuple[str, dict[str, str]]] = {
    "sequence": ("kva pool, sequence numbers", {"high_pages": "kva", "kva_flush": "sequence"}),
    "everywhere": ("kva pool, flush everywhere", {"high_pages": "kva", "kva_flush": "everywhere"}),
    "use": ("kva pool, INVLPG on use", {"high_pages": "kva", "kva_flush": "use"}),
    "kmap": ("kmap", {"high_pages": "kmap"}),
    "slots": ("kmap_atomic, slots", {"high_pages": "atomic", "kmap_atomic": "slots"}),
    "stack": ("kmap_atomic, stack", {"high_pages": "atomic", "kmap_atomic": "stack"}),
    "heap": ("kmap_atomic, heap", {"high_pages": "atomic", "kmap_atomic": "heap"}),
}
"""Names, titles and the policies that choose them."""
LEAST_PAGES, MOST_PAGES = 16, 16384


class WrongData(SandboxError):
    """The work did not end as it must: a page differs from its source, or a limit was reached."""

    exit_status = 1


class Stopped(SandboxError):
    """Somebody at the host ended the comparison."""

    exit_status = 130


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts between the two marks, of all CPUs together; ``blocks_*`` are blocks of guest code."""

    pte_stores: int = 0
    """Entries stored in the tables of kva pool, pkmap and fixmap; a removal counts as one."""
    invlpg: int = 0
    cr3_loads: int = 0
    global_flushes: int = 0
    """Changes of CR4, of which a flush of everything on one CPU makes two, halved."""
    ipis: int = 0
    tlb_misses: int = 0
    page_maps: int = 0
    """Times a page was to be reached, as far as the mechanism tells (0: it does not)."""
    hits: int = 0
    recycles: int = 0
    sleeps: int = 0
    conflicts: int = 0
    """Addresses of the kva pool that were good everywhere only once other CPUs had been interrupted."""
    avoided: int = 0
    """First uses of a changed address on a CPU that had loaded CR3 since."""
    copies: int = 0
    """Copy-on-write faults that copied a page."""
    calls: int = 0
    """System calls."""
    blocks_user: int = 0
    blocks_kernel: int = 0

    def since(self, before: Cost) -> Cost:
        """What was added."""
        old = asdict(before)
        return Cost(**{each.name: getattr(self, each.name) - old[each.name] for each in fields(self)})


@dataclass(frozen=True, slots=True)
class Measured:
    """One work under one mechanism."""

    mechanism: str
    work: str
    cost: Cost


def available() -> list[str]:
    """The mechanisms that this kernel has: those whose policies exist, or are what it does without a choice."""
    return [name for name, (_, chosen) in MECHANISMS.items() if all(_has(*each) for each in chosen.items())]


def _has(policy: str, value: str) -> bool:
    return value in POLICIES.get(policy, {"stack": ""} if policy == "kmap_atomic" else {})


class EntryStores:
    """Counts stored entries by the frame of their table; the word with P is the one that counts."""

    def __init__(self, machine: Machine, entry_size: int) -> None:
        self.alert = True
        self._size, self._physical = entry_size, machine.memory.physical_of
        self.by_frame: Counter[int] = Counter()
        machine.memory.table_observer = self

    def stored(self, offset: int, width: int) -> None:
        """A word of a table was stored."""
        if not offset % self._size:
            self.by_frame[self._physical(offset) >> PAGE_SHIFT] += 1

    def executed(self, offset: int, width: int, cpu: int, linear: int) -> None:
        """A CPU has stored an entry itself."""
        self.stored(offset, width)


class CostSession(Session):
    """A run of the work that counts."""

    marks: list[Cost]

    def before_boot(self, machine: Machine) -> None:
        """Entries are counted from the first one on."""
        self.stores = EntryStores(machine, 8 if self.config.paging == "pae" else 4)

    def watch(self) -> None:
        """Count TLB misses, and note the costs at both calls of ``times``.  Raises NoFeed."""
        self.marks = []
        self.tlb_watch = TlbWatch(self.machine.cpus)
        self.kernel.bus.subscribe(self._called, CallEntered)

    def _called(self, event: CallEntered) -> None:
        if event.number == TIMES:
            self.marks.append(self._now())

    def _now(self) -> Cost:
        kernel, watch = self.kernel, self.tlb_watch
        assert watch is not None
        watch.feed.drain()
        tlb = Counter[str]()
        for counts in watch.stream.counters():
            tlb.update(counts)
        program = kernel.tasks.program
        user = 0 if program is None else program.group.utime + program.group.children_utime
        return Cost(
            pte_stores=sum(self.stores.by_frame[frame] for frame in mapping_tables(kernel)),
            invlpg=tlb["INVLPG"], cr3_loads=tlb["CR3 loads"], global_flushes=tlb["CR4 loads"] // 2,
            ipis=sum(cpu.ipis for cpu in kernel.cpus), tlb_misses=tlb["misses"],
            copies=kernel.stats.cow_copies, calls=kernel.stats.system_calls,
            blocks_user=user, blocks_kernel=sum(cpu.vcpu.clock for cpu in kernel.cpus) - user, **own_books(kernel),
        )  # fmt: skip


def own_books(kernel: Kernel) -> dict[str, int]:
    """What only the mechanism knows; windows have no hits."""
    if isinstance(kernel.highmem.mapper, AtomicMapper):
        return {"page_maps": kernel.highmem.windows.counters.windows}
    counters = kernel.kva.counters if kernel.config.policies["high_pages"] == "kva" else kernel.kmap.counters
    hits = counters.hits
    return {
        "page_maps": hits + counters.misses, "hits": hits, "sleeps": counters.sleeps,
        **{name: getattr(counters, name, 0) for name in ("recycles", "conflicts", "avoided")},
    }  # fmt: skip


def mapping_tables(kernel: Kernel) -> Iterator[int]:
    """The frames of the last-level tables over kva pool, pkmap and fixmap, those that are there."""
    layout, tables = kernel.layout, kernel.tables
    for region in (layout.kva, layout.pkmap, Region("fixmap", layout.fixmap.start, FIXADDR_END)):
        for linear in range(region.start, region.end, tables.large_page):
            entry = _directory_entry(kernel, tables.kernel_pgd << PAGE_SHIFT, linear)
            if entry & P and not entry & PS:
                yield (entry & FRAME_MASK) >> PAGE_SHIFT


def _directory_entry(kernel: Kernel, base: int, linear: int) -> int:
    """The entry that names the last-level table over a kernel address."""
    read = kernel.memory.read_entry
    if kernel.config.paging == "legacy":
        return read(base + (linear >> 22) * 4, 4)
    return read((read(base + (linear >> 30) * 8, 8) & FRAME_MASK) + (linear >> 21 & 511) * 8, 8)


def compare_config(paging: str, ram: int, cpus: int, pages: int, time_limit: float, slots: int = 0) -> KernelConfig:
    """The machine: half of RAM is highmem; the pool has ``slots``, 0 for as many as the layout.

    Raises ConfigurationError.
    """
    if not LEAST_PAGES <= pages <= MOST_PAGES:
        raise ConfigurationError(f"--pages {pages}: {LEAST_PAGES} to {MOST_PAGES}")
    need = (cpus + 1) * pages * PAGE_SIZE
    if need > ram // 2:
        raise ConfigurationError(
            f"{pages} pages for each of {cpus} CPUs and their parent are {need / MEGABYTE:.0f} MB, "
            f"{ram >> 21} MB are highmem",
            "take fewer --pages or --cpus, or more --ram",
        )
    if slots < 0:
        raise ConfigurationError(f"--slots {slots}: a number of pages, 0 for as many as the layout has")
    boot = f"highmem={ram >> 21}m" + (f" kva={slots * PAGE_SIZE >> 10}k" if slots else "")
    return KernelConfig(ram=ram, cpus=cpus, paging=paging, boot=boot, time_limit=time_limit)


def work_line(mechanism: str, work: str, config: KernelConfig, pages: int) -> tuple[str, list[str], str]:
    """The image, its arguments, and the boot options.

    Work that hands addresses on has two workers a CPU, so that a CPU switches between two, and two small pools.
    """
    if work not in SHARED:
        return "images/kmap-work", [work, str(pages), str(max(2, config.cpus))], config.boot
    pages, workers = min(pages, SHARED_PAGES), 2 * max(2, config.cpus)
    slots = max(pages // 2, workers)
    boot = f"{config.boot} pkmap={slots}" + ("" if "kva=" in config.boot else f" kva={slots * PAGE_SIZE >> 10}k")
    way = {"kva": "kva", "kmap": "kmap"}.get(MECHANISMS[mechanism][1]["high_pages"], "windows")
    return "images/kmap-share", [work, str(pages), str(workers), way], boot


def measure(
    mechanism: str, work: str, config: KernelConfig, pages: int, watch: Callable[[RunLimits], None] | None = None
) -> Measured:
    """One work on a fresh machine.  ``watch`` gets its scheduler.  Raises WrongData, Stopped and ConfigurationError."""
    image, words, boot = work_line(mechanism, work, config, pages)
    target = resolve(image)
    chosen = {name: value for name, value in MECHANISMS[mechanism][1].items() if name in POLICIES}
    changed = KernelConfig(
        ram=config.ram, cpus=config.cpus, paging=config.paging, boot=boot, time_limit=config.time_limit,
        policies=chosen, switches=config.switches, seed=config.seed,
    )  # fmt: skip
    with CostSession(target.name, target.data, words, changed, modules=target.modules) as session:
        session.watch()
        if watch is not None:
            watch(session.kernel.sched)
        return Measured(mechanism, work, _cost(session, f"{work} with {MECHANISMS[mechanism][0]}"))


def _cost(session: CostSession, what: str) -> Cost:
    result = session.finish()
    if result.interrupted:
        raise Stopped("interrupted")
    if not result.passed or len(session.marks) != 2:
        raise WrongData(f"{what}: {result.headline()}", result.detail)
    return session.marks[1].since(session.marks[0])

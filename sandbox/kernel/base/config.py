"""What a mini-kernel is built from: sizes, policies, switches, limits."""

from __future__ import annotations

import time
from pathlib import Path

from sandbox.kernel.base.inject import SWITCHES, Breakage
from sandbox.kernel.base.layout import (
    DIRECT_MAP,
    LARGEST_DIRECT_MAP,
    MEGABYTE,
    REGION,
    SMALLEST_DIRECT_MAP,
    scaled_direct_map,
)
from sandbox.kernel.base.policies import complete
from sandbox.kernel.base.races import POINTS, ListSchedule, Schedule, SeedSchedule
from sandbox.kernel.base.time import EPOCH, SECOND
from sandbox.records import dataclass, field
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE

LARGEST = 1 << 64
"""Above it a size is not told to the byte."""
MINIMUM_RAM, MAXIMUM_RAM = 4 * MEGABYTE, 62 << 30
MAXIMUM_CPUS = 8
HIGHMEM = ("off", "4G", "64G")
SCALED = 0
"""A ``direct_map`` in proportion to RAM, as 800 MB are to 1 GB: every zone is there on small machines, too."""


@dataclass(slots=True)
class KernelConfig:
    """One machine and the kernel on it.  Sizes in bytes.

    Raises ConfigurationError for what cannot be built.
    """

    ram: int = 64 * MEGABYTE
    cpus: int = 1
    paging: str = "pae"
    boot: str = ""
    holes: tuple[tuple[int, int], ...] = ()
    switches: frozenset[str] = frozenset()
    seed: int = 0
    races: tuple[tuple[str, int], ...] | None = None
    """Race points, each with the passage (from 1), at which other CPUs go on; empty: the seed chooses; None: never."""
    quantum: int = 100_000
    """Blocks that a task may run while another waits for its CPU."""
    turn: int = 20_000
    """Blocks, on the average, of one CPU's turn on a machine with several."""
    block_limit: int = 0
    """Blocks after which the run is ended, 0 for none."""
    time_limit: float = 60.0
    """Seconds of host time after which the run is ended, 0 for none."""
    limit_waits: bool = True
    """Waiting for a person at the host's terminal counts for ``time_limit``, too."""
    direct_map: int = DIRECT_MAP
    """Bytes of RAM that have kernel addresses for good, at most; ``SCALED`` for a share of ``ram``."""
    highmem: str = ""
    """What becomes of RAM above the direct map: ``off``, it is ignored; ``4G``, it is used up to 4 GB; ``64G``, all of
    it, which needs PAE (CONFIG_NOHIGHMEM, HIGHMEM4G and HIGHMEM64G).  Empty: as much as ``paging`` reaches."""
    devices: tuple[str, ...] = ()
    """Devices besides those of every PC: ``NAME`` or ``NAME@PHYSICAL``."""
    boot_drivers: tuple[tuple[str, bytes], ...] = ()
    """Object files whose ``boot_init`` takes memory at boot, and their names (``arch/bootdriver.py``)."""
    policies: dict[str, str] = field(default_factory=dict)
    """Choices between kernel versions by name (``policies.py``); what is left out gets its default."""
    fail_allocation: int = 0
    """The request for frames that fails on purpose, counted from 1 after boot; 0 for none."""
    stack_limit: int = 8 * MEGABYTE
    clock: str = "virtual"
    """``virtual``: blocks, the same in every run; ``host``: the host's."""
    epoch: int | None = None
    """What the clock shows at the start, in seconds since 1970; None for January 1999, or the host's time."""
    started: int = 0
    """With the host's clock, what it showed at the start of a run that is gone through again, in nanoseconds."""
    sanitize: frozenset[str] = frozenset()
    """What is watched for mistakes of the kernel: ``tlb`` (``sandbox.sanitize``)."""
    root: Path | None = None
    writable: bool = False
    files: dict[str, bytes | Path] = field(default_factory=dict)
    """Single files laid over the tree: contents, or a host file, by absolute guest path."""
    environment: tuple[str, ...] = field(default=("PATH=/bin:/usr/bin", "HOME=/", "TERM=dumb"))

    def __post_init__(self) -> None:
        if not MINIMUM_RAM <= self.ram <= MAXIMUM_RAM:
            raise ConfigurationError(
                f"{_told(self.ram)} of RAM: a machine has 4 MB to {MAXIMUM_RAM >> 30} GB",
                "a size may end in k, M or G: 64M",
            )
        if self.ram % PAGE_SIZE:
            raise ConfigurationError(f"{self.ram} bytes of RAM are not whole pages of 4096 bytes")
        if self.paging not in ("pae", "legacy"):
            raise ConfigurationError(f"paging {self.paging!r}: it is 'pae' or 'legacy'")
        self._check_highmem()
        if self.paging == "legacy" and self.ram > 2 << 30 and not self.highmem:
            raise ConfigurationError(
                f"{self.ram >> 20} MB of RAM with two-level paging: RAM beyond 2 GB lies above 4 GB, which only "
                "PAE reaches",
                "use --paging pae, at most --ram 2G, or --highmem 4G, which ignores it",
            )
        self.highmem = self.highmem or ("64G" if self.paging == "pae" else "4G")
        if not 1 <= self.cpus <= MAXIMUM_CPUS:
            raise ConfigurationError(f"{self.cpus} CPUs: a machine has 1 to {MAXIMUM_CPUS}")
        self._check_races()
        unknown = self.switches - SWITCHES.keys()
        if unknown:
            raise ConfigurationError(
                f"no kernel switch is called {min(unknown)!r}", "switches: " + ", ".join(sorted(SWITCHES))
            )
        if self.quantum < 10_000:
            raise ConfigurationError(f"a quantum of {self.quantum} blocks: it is at least 10,000")
        if not self.time_limit >= 0 or self.block_limit < 0:
            raise ConfigurationError(
                f"limits of {self.time_limit} seconds and {self.block_limit} blocks: 0 is for none"
            )
        if self.fail_allocation < 0:
            raise ConfigurationError(f"allocation {self.fail_allocation} is to fail: they are counted from 1")
        if self.clock not in ("virtual", "host"):
            raise ConfigurationError(f"clock {self.clock!r}: it is 'virtual' or 'host'")
        if self.epoch is not None and not 0 <= self.epoch < 1 << 31:
            raise ConfigurationError(f"an epoch of {self.epoch} seconds since 1970: it is 0 to {(1 << 31) - 1}")
        self.policies = complete(self.policies)
        self._check_direct_map()

    def _check_highmem(self) -> None:
        if self.highmem not in ("", *HIGHMEM):
            raise ConfigurationError(f"highmem {self.highmem!r}: it is {', '.join(HIGHMEM[:-1])} or {HIGHMEM[-1]}")
        if self.highmem == "64G" and self.paging == "legacy":
            raise ConfigurationError(
                "highmem 64G with two-level paging: only PAE's entries reach beyond 4 GB", "use --paging pae"
            )

    def _check_direct_map(self) -> None:
        if self.direct_map == SCALED:
            self.direct_map = scaled_direct_map(self.ram)
        if not SMALLEST_DIRECT_MAP <= self.direct_map <= LARGEST_DIRECT_MAP or self.direct_map % REGION:
            raise ConfigurationError(
                f"a direct map of {_told(self.direct_map)}: it is a multiple of 4 MB, 8 MB to 896 MB",
                "800M is post 001's, 896M that of 2.3 and later; 'scaled' is to RAM as 800 MB are to 1 GB",
            )

    def _check_races(self) -> None:
        unknown = {name for name, _ in self.races or ()} - set(POINTS)
        if unknown:
            raise ConfigurationError(f"no race point is called {min(unknown)!r}", "race points: " + ", ".join(POINTS))
        if self.races and self.cpus == 1:
            raise ConfigurationError("a race with one CPU: nobody comes in between", "give --cpus 2, or more")

    @property
    def start(self) -> int:
        """The guest's time at the start, in nanoseconds since 1970."""
        if self.epoch is not None:
            return self.epoch * SECOND
        return (self.started or time.time_ns()) if self.clock == "host" else EPOCH

    @property
    def latest(self) -> int | None:
        """No file of the host is shown as younger (nanoseconds since 1970); None when the guest has the host's time."""
        return None if self.clock == "host" and self.epoch is None else self.start

    @property
    def schedule(self) -> Schedule | None:
        """Who decides at the race points, None for nobody."""
        if self.races is None:
            return None
        return ListSchedule(self.races) if self.races else SeedSchedule(self.seed)

    @property
    def broken(self) -> Breakage:
        """Asks whether a step is left out on purpose."""
        return Breakage(self.switches)


def _told(size: int) -> str:
    """A size that is refused, however small or large."""
    if abs(size) >= LARGEST:
        return "more than 2^64 bytes" if size > 0 else "less than 0 bytes"
    return f"{size / MEGABYTE:.15g} MB" if size >= MEGABYTE else f"{size} byte{'s' * (size != 1)}"

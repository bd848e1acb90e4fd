"""What a mini-kernel is built from: sizes, policies, switches, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sandbox.kernel.base.policies import complete
from sandbox.x86.errors import ConfigurationError

PAGE_SIZE = 4096
MEGABYTE = 1 << 20
MINIMUM_RAM, MAXIMUM_RAM = 4 * MEGABYTE, 62 << 30
MAXIMUM_CPUS = 8

SWITCHES = {
    "no-zero": "demand pages are handed out with what was in them",
    "no-cow": "fork leaves private pages writable in both",
    "no-reuse": "the sole owner of a page copies it all the same",
    "no-flush": "table changes are not followed by an invalidation",
    "no-shootdown": "other CPUs keep their stale translations",
    "early-free": "frames are released before the flush",
    "no-wp": "CR0.WP stays clear: the kernel writes through read-only user pages",
    "no-nx": "EFER.NXE stays clear and no entry carries NX",
    "no-fixup": "the exception table is ignored",
    "no-access-check": "system calls accept kernel addresses from a program",
    "no-stack-growth": "the stack's VMA does not grow",
    "no-supervisor": "kernel pages are mapped with the user bit",
    "no-code-drop": "translations of a refilled frame are kept",
    "no-fpu-switch": "x87 and SSE state do not follow the task",
    "no-preempt": "a task runs until it sleeps",
    "no-bss-zero": "the tail of the last file page of a segment is not cleared",
    "no-file-private": "writes to a private file mapping go to the page cache",
    "no-mprotect-split": "mprotect changes the whole VMA",
    "null-mapped": "page 0 of every program is mapped",
    "no-unmap": "munmap removes the VMA and leaves the entries",
    "no-tls-switch": "thread-local descriptors are not loaded with the task",
    "no-signal-on-fault": "the instruction of a fatal fault or exception is skipped instead of killing",
    "no-brk-shrink": "a shrinking brk leaves the pages",
    "no-pipe-block": "reading an empty pipe ends the file",
    "no-stack-limit": "the stack grows as long as nothing is in its way",
    "eager-mprotect": "mprotect opens the entries of shared pages too",
    "no-auxv": "exec leaves the auxiliary vector empty",
    "no-exit-free": "the frames of a task that ends are not released",
    "no-sleep": "nanosleep returns at once",
    "no-sigpipe": "a write to a pipe without readers only fails",
    "no-eof-check": "pages of a file mapping behind the file's end are pages of zeros",
    "no-writeback": "stores through a shared file mapping never reach the file",
    "no-truncate-unmap": "a truncated file's pages stay mapped",
    "no-move-unmap": "mremap leaves the entries at the old place",
    "no-dontneed": "madvise(MADV_DONTNEED) keeps the pages",
    "no-sigmask": "a handler runs with the mask of what it interrupted",
    "no-sa-restart": "an interrupted system call is never made again",
    "no-fpu-frame": "sigreturn leaves the x87 and SSE state as the handler left it",
    "no-altstack": "handlers run on the stack that was in use",
    "no-vfork-wait": "the parent goes on beside a vfork child",
    "no-stop": "signals that stop a task are ignored",
    "no-sigqueue": "a real-time signal that waits already is not queued again",
    "no-itimer": "alarm and the interval timers never end",
    "no-trap-flag": "EFLAGS.TF is left out when a program sets it through a frame",
    "no-shared": "a shared mapping is copied on write, as a private one is",
    "no-mem-limit": "the boot option mem= is not obeyed",
    "no-reserve": "what boot reserves goes to the allocator all the same",
    "no-init-free": "the code that only boot needed stays",
    "no-page-clear": "get_free_page leaves in a page what was in it",
    "no-dma-limit": "DMA requests are served from any zone",
    "no-watermark": "ordinary requests may take the reserve",
    "no-hot-list": "single frames are served by the zones, not by the CPU's list",
    "no-buddy-join": "freed blocks are not joined with their buddies",
    "no-hole-check": "blocks are joined across what has no struct page",
    "no-kfree-check": "kfree believes every pointer",
    "no-guard": "the page behind an area is mapped",
    "no-vmalloc-sync": "other page directories never learn of a new area",
    "no-ram-check": "RAM is mapped as if it were a device's",
    "no-verify-area": "verify_area says yes to everything",
    "no-hole-clear": "the ISA hole is opened without moving what lies in it",
    "no-relocate": "modules are loaded and not relocated",
    "no-use-count": "a module that is in use is unloaded",
    "no-extable-sort": "a module's exception table stays in the order of its object file",
    "no-extable-unload": "a module's exception table is left behind",
    "no-add-check": "memory that is added gets no structures",
    "no-release": "a module is not told that a file of its device was closed",
    "no-mm-switch": "use_mm changes whose areas answer faults and leaves CR3",
    "swap-kernel": "reclaim picks frames that belong to the kernel",
}
"""Breakage on purpose: a name, and the step that it leaves out."""


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
    quantum: int = 100_000
    """Blocks that a task may run while another waits for its CPU."""
    turn: int = 20_000
    """Blocks, on the average, of one CPU's turn on a machine with several."""
    block_limit: int = 0
    """Blocks after which the run is ended, 0 for none."""
    time_limit: float = 60.0
    """Seconds of host time after which the run is ended, 0 for none."""
    direct_map: int = 800 * MEGABYTE
    devices: tuple[str, ...] = ()
    """Devices besides those of every PC: ``NAME`` or ``NAME@PHYSICAL``."""
    policies: dict[str, str] = field(default_factory=dict)
    """Choices between kernel versions by name (``policies.py``); what is left out gets its default."""
    fail_allocation: int = 0
    """The request for frames that fails on purpose, counted from 1 after boot; 0 for none."""
    stack_limit: int = 8 * MEGABYTE
    root: Path | None = None
    writable: bool = False
    files: dict[str, bytes | Path] = field(default_factory=dict)
    """Single files laid over the tree: contents, or a host file, by absolute guest path."""
    environment: tuple[str, ...] = field(default=("PATH=/bin:/usr/bin", "HOME=/", "TERM=dumb"))

    def __post_init__(self) -> None:
        if not MINIMUM_RAM <= self.ram <= MAXIMUM_RAM:
            raise ConfigurationError(f"{self.ram / MEGABYTE:g} MB of RAM: a machine has 4 MB to {MAXIMUM_RAM >> 30} GB")
        if self.ram % PAGE_SIZE:
            raise ConfigurationError(f"{self.ram} bytes of RAM are not whole pages of 4096 bytes")
        if self.paging not in ("pae", "legacy"):
            raise ConfigurationError(f"paging {self.paging!r}: it is 'pae' or 'legacy'")
        if self.paging == "legacy" and self.ram > 2 << 30:
            raise ConfigurationError(
                f"{self.ram >> 20} MB of RAM with two-level paging: RAM beyond 2 GB lies above 4 GB, which only "
                "PAE reaches",
                "use --paging pae, or at most --ram 2G",
            )
        if not 1 <= self.cpus <= MAXIMUM_CPUS:
            raise ConfigurationError(f"{self.cpus} CPUs: a machine has 1 to {MAXIMUM_CPUS}")
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
        self.policies = complete(self.policies)
        if self.direct_map not in (800 * MEGABYTE, 896 * MEGABYTE):
            raise ConfigurationError("the direct map is 800 MB (post 001) or 896 MB (2.3 and later)")

"""What is made to go wrong on purpose: steps that the kernel leaves out, and requests for frames that fail.

An image's manifest names the switch under which it must fail, so that none passes for nothing.  Who asks on a hot path
asks once, when it is built.
"""

from __future__ import annotations

from sandbox.x86.errors import SandboxError

SWITCHES = {
    "no-zero": "demand pages are handed out with what was in them",
    "no-cow": "fork leaves private pages writable in both",
    "no-reuse": "the sole owner of a page copies it all the same",
    "no-flush": "table changes are not followed by an invalidation",
    "no-shootdown": "other CPUs keep their stale translations",
    "no-pte-same": "a copied page is entered whatever came there while it was copied",
    "pae-low-first": "PAE: an entry's words are stored one after the other, in the order that makes a torn one present",
    "narrow-pfn": "a page gets a window by a physical address of 32 bits: above 4 GB that is another page",
    "no-tlb": "a CPU begins each of its turns with an empty TLB: what another one changed it sees, told or not",
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
    "no-scm-rights": "descriptors sent over a socket are lost on the way",
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
    "no-group-exit": "exit_group and fatal signals end one thread only",
    "no-clear-tid": "a thread's end neither clears the word for its number nor wakes who waits there",
    "no-robust": "the list of robust mutexes of a thread that ends is not walked",
    "kva-recycle-used": "with no slot free, the kva pool takes the first one, also when it has users",
    "kva-recycle-io": "the kva pool takes the slot of a page that is locked for IO",
    "kva-keep-freed": "a page that is freed keeps its kva",
    "no-kva-wake": "nobody who waits for a slot of the kva pool is woken",
    "pool-nested-wait": "a copy waits for an address of the kva pool or kmap also while its task holds one, or a lock",
    "kva-lazy-switch": "a context switch that loads no CR3 counts as a flush",
    "kva-no-wrap": "when the numbers of the kva pool begin again, what the CPUs have seen still counts",
    "no-clear-before-pop": "a kmap_atomic window is given up before its entry is cleared",
    "no-window-flush": "changes of kmap_atomic windows are not followed by an invalidation",
    "no-window-check": "windows that are open when somebody sleeps or goes back to ring 3 are not noticed",
    "no-window-order": "kmap_atomic's stack gives up any window, last or not (2.6.37 without CONFIG_DEBUG_HIGHMEM)",
    "no-window-limit": "a CPU's stack of kmap_atomic windows takes one more, which is the next CPU's first",
    "no-window-owner": "a kmap_atomic window may be closed on any CPU, which tells only itself",
    "no-slot-check": "a kmap_atomic window that is open is opened again (2.4 without HIGHMEM_DEBUG)",
    "no-task-check": "the two addresses of a task are used where none runs, in the directory that is loaded",
    "no-kunmap-check": "kunmap_atomic does nothing for an address below the windows, a struct page's too (2.4)",
    "heap-any-windows": "kmap_atomic's heap looks for the first window of a run only",
    "kernel-directory": "modules run on the kernel's own page directory, not on the caller's (what post 004 supposes)",
    "no-pkmap-flush": "kmap begins a lap without a flush",
    "pkmap-global": "entries of kmap are global, and a lap only loads CR3 (2.3.27)",
    "no-pkmap-wake": "nobody who waits for a slot of kmap is woken",
    "no-pkmap-recheck": "who has a slot for a page does not look whether the page has got one meanwhile",
    "no-pkmap-deadlock": "nobody notices that all slots of kmap are held by those who wait for one",
    "poke-shared": "ptrace writes to the page that is mapped, whoever else has it",
    "swap-kernel": "reclaim picks frames that belong to the kernel",
}
"""Breakage on purpose: a name, and the step that it leaves out."""


class Breakage:
    """The switches of one machine: ``broken("no-zero")``."""

    __slots__ = ("_switches",)

    def __init__(self, switches: frozenset[str] = frozenset()) -> None:
        self._switches = switches

    def __call__(self, switch: str) -> bool:
        """True when the named step is left out; a name that no switch has is a mistake of ours (KeyError)."""
        SWITCHES[switch]
        return switch in self._switches

    def __bool__(self) -> bool:
        """Any step is left out."""
        return bool(self._switches)


class OutOfMemory(SandboxError):
    """No frame is left for a request.  The process that asked is killed; boot fails."""

    exit_status = 1


class FailingRequest:
    """Counts requests for frames from 1 and lets the chosen one fail; ``at`` 0 is none."""

    __slots__ = ("at", "seen")

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.seen = 0

    def arm(self, at: int) -> None:
        """Count from here; the ``at``-th request fails, none with 0."""
        self.at, self.seen = at, 0

    def count(self) -> None:
        """One request more.  Raises OutOfMemory when it is the one."""
        self.seen += 1
        if self.seen == self.at:
            raise OutOfMemory(f"out of memory: request {self.seen} for frames fails, as asked for")

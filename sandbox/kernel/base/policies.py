"""Choices between what the posts and the kernels did: a name, its values with their meaning, the default first.

Posts count before kernels where the two disagree; the other behaviour is a choice here.  Version numbers are those of
the kernel that did it that way.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.x86.errors import ConfigurationError

POLICIES: dict[str, dict[str, str]] = {
    "gfp_buffer": {
        "reclaim": "GFP_BUFFER gives cached pages up to get memory (post 002)",
        "fail": "GFP_BUFFER never reclaims: it fails when pages are short (1.0 to 2.0)",
    },
    "nonatomic": {
        "2.0": "in an interrupt four requests that might wait are complained about and lowered to GFP_ATOMIC; later "
        "ones go on as asked (1.0 to 2.0)",
        "2.2": "in an interrupt they go on as asked, and nothing is said (2.2)",
        "2.2-debug": "in an interrupt they fail; four are complained about (2.2 with ATOMIC_MEMORY_DEBUGGING)",
        "2.4": "in an interrupt they go on as asked; one that would have to wait is a bug (2.4)",
    },
    "watermarks": {
        "2.0": "one reserve for the machine's lowmem: max(frames / 128, 24) + 24",
        "2.2": "one reserve for the machine's lowmem: frames / 128, at least 10 and at most 256",
        "2.4": "a reserve for each zone, added up over the zones that were passed; frames / 128, 20 to 255",
    },
    "orders": {
        "6": "blocks of up to 32 frames, 128 KB (1.2 to 2.0, and post 002)",
        "10": "of up to 512 frames, 2 MB (2.2 and 2.4)",
        "11": "of up to 1024 frames, 4 MB (2.6)",
    },
    "dma": {
        "zones": "DMA requests take from the DMA zone (2.2 and later)",
        "park": "allocate anywhere, park what lies too high, free it afterwards (1.2)",
    },
    "kmalloc": {
        "1.3": "buckets of 32 to 131056 bytes with 8 bytes of header each (post 002)",
        "1.0": "no bucket above 4080 bytes",
        "1.2": "as 1.3; an area for DMA that empties and is used again joins the list for all",
        "2.0": "as 1.3, and keeps one free area of 4, 8 and 16 KB; the list is filled by order and read by bucket",
        "2.1": "powers of two from 32 to 131072 bytes, nothing in front of a block (slab)",
    },
    "vmalloc_sync": {
        "lazy": "other directories learn of an area by the fault of the first access (2.4.0-test10 and later)",
        "eager": "every directory gets the entries when the area is made (1.2 to 2.4.0-test9)",
    },
    "kernel_pmd": {
        "shared": "PAE: one kernel pmd for all page directories (2.4)",
        "process": "PAE: a kernel pmd for every page directory, so that there is something to propagate",
    },
    "ioremap": {
        "2.6": "any alignment; RAM is refused unless its frames are reserved",
        "2.4": "as 2.6, but a last page of which only the first byte is asked for is left out (2.2.26, 2.4.22)",
        "2.1": "what lies below the end of RAM is returned at its direct address; the rest must be aligned (2.1.0)",
    },
    "mem_model": {
        "flatmem": "one array of struct page up to the highest frame, holes included",
        "sparsemem": "an array for each section that has memory",
        "vmemmap": "a virtual array; pages of it that no frame needs are not there",
    },
    "section": {
        "64M": "sections of 2^26 bytes (2.6, two-level)",
        "512M": "of 2^29 bytes (2.6.37, PAE)",
        "1G": "of 2^30 bytes (2.6.24, PAE)",
    },
    "isa_hole": {
        "ram": "RAM from 14 to 16 MB; a card there is not seen (outcome a of post 002)",
        "card": "the card answers, the RAM behind it is lost, the kernel knows (b)",
        "remap": "the card answers, the chipset moves the RAM above the rest (c)",
        "conflict": "the card answers and nobody told the kernel (d)",
    },
    "kva_flush": {
        "sequence": "a slot of the kva pool that gets another page is flushed by the CPU that uses it next, unless it "
        "has loaded CR3 since (post 001)",
        "everywhere": "every CPU flushes whenever a slot gets another page",
        "use": "INVLPG before each use of a slot",
    },
    "kmap_atomic": {
        "stack": "windows are closed in the reverse order of opening, entries cleared first (2.6.37)",
        "slots": "a window for each purpose, whose entry stays until its next use (2.3 to 2.6.36)",
        "heap": "windows in any order and in runs, from a bitmap of each CPU (post 004)",
    },
    "high_pages": {
        "atomic": "pages are copied and cleared through kmap_atomic windows",
        "kva": 'through the kva pool (post 001, "much better to use the page_kva() style")',
        "kmap": "through the kmap pool, which may sleep (2.4)",
        "local": "through two fixed addresses of each CPU (post 001, point 5)",
        "task": "through two addresses in the task's own page table; elsewhere through windows (post 001, point 5)",
    },
    "bugs": {
        "stop": "a wrong free or call ends the run with an error",
        "report": "the kernel says so and goes on, as 1.x and 2.0 did",
    },
}

DEFAULTS = {name: next(iter(values)) for name, values in POLICIES.items()}


def complete(chosen: Mapping[str, str]) -> dict[str, str]:
    """Every policy with its value.  Raises ConfigurationError for unknown names and values."""
    for name, value in chosen.items():
        if name not in POLICIES:
            raise ConfigurationError(f"no policy is called {name!r}", "policies: " + ", ".join(POLICIES))
        if value not in POLICIES[name]:
            raise ConfigurationError(
                f"policy {name}: {value!r}; known are {', '.join(POLICIES[name])}",
                "\n".join(f"{each}: {meaning}" for each, meaning in POLICIES[name].items()),
            )
    return {**DEFAULTS, **chosen}

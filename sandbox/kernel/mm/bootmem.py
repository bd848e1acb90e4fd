"""Memory before the allocator: what the command line says of RAM, and what boot keeps for ever (MM 5).

Options are words of the command line, behind a space; sizes are numbers as ``simple_strtoul`` reads them (``0x``
hexadecimal, ``0`` octal) with k, m or g behind:

``mem=SIZE``            RAM above SIZE does not exist for the kernel
``mem=SIZE@START``      RAM is there; the first such option discards the machine's own map (2.3)
``mem=exactmap``        discards the machine's own map (2.4.0)
``mem=SIZE$START``      reserved: never allocated (2.4); with # too, which 2.4.22 takes for ACPI data
``mem=nopentium``       no large pages
``memexclude=START-END``  the option that post 002 wants: reserved
``highmem=SIZE``        so much of RAM is highmem; 0 for no highmem at all, as the machine's ``--highmem off``
``kva=SIZE``            the kva pool has so much, where there is room for more
``pkmap=SLOTS``          kmap has so many slots, where the page table has more
``bootmem=NAME:SIZE``   memory_start moves up by SIZE: contiguous, at a known address, never freed

A number ends at the first character that does not belong to it.  The kernels left what came behind it, and words that
they did not know, to init; here nobody reads them, and they are warned about (as 5.13 does for such words).
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.base.cmdline import memparse
from sandbox.kernel.base.layout import KERNEL_LOAD, MEGABYTE, REGION
from sandbox.records import dataclass, field
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE

FOUR_GIGABYTES = 1 << 32


@dataclass(slots=True)
class BootOptions:
    """What the command line says of memory.  Bytes and physical addresses."""

    limit: int | None = None
    exact: bool = False
    """The machine's own map does not count."""
    given: list[tuple[int, int]] = field(default_factory=list)
    """(start, size) of RAM; when there is one, the machine's own map does not count."""
    excluded: list[tuple[int, int]] = field(default_factory=list)
    """(start, end)."""
    highmem: int | None = None
    large_pages: bool = True
    kva: int | None = None
    """The most that the kva pool may have."""
    pkmap: int | None = None
    """The most slots that kmap may have."""
    reservations: list[tuple[str, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What of the line nobody reads, a sentence each."""


def parse_boot(command_line: str) -> BootOptions:
    """Read the options.  Raises ConfigurationError for one that cannot be obeyed."""
    options, unknown = BootOptions(), []
    for word in filter(None, command_line.split(" ")):
        name, equals, value = word.partition("=")
        read = _OPTIONS.get(name) if equals else None
        if read is None:
            unknown.append(word)
        elif rest := read(options, word, value):
            options.warnings.append(f"boot option {word!r}: {rest!r} behind the value is not read")
    if unknown:
        options.warnings.append(f'Unknown kernel command line parameters "{" ".join(unknown)}"')
    return options


def _mem(options: BootOptions, word: str, value: str) -> str:
    """Obey the option, as all of these; what of the value is left over."""
    if value.startswith("nopentium"):
        options.large_pages = False
        return value.removeprefix("nopentium")
    if value.startswith("exactmap"):
        options.exact = True
        return value.removeprefix("exactmap")
    size, rest = _size(value, word)
    sign = rest[:1]
    if sign and sign in "@$#":
        start, rest = _size(rest[1:], word)
        if sign == "@":
            options.given.append((start, size))
        else:
            options.excluded.append((start, start + size))
        return rest
    if size < KERNEL_LOAD + MEGABYTE:
        ends = f" (the number ends at {rest!r})" if rest else ""
        raise ConfigurationError(f"boot option {word!r}: the kernel needs 2 MB, this is {size} B{ends}")
    options.limit = size
    return rest


def _memexclude(options: BootOptions, word: str, value: str) -> str:
    first, rest = _size(value, word)
    if not rest.startswith("-"):
        raise ConfigurationError(f"boot option {word!r}: not a size, a minus and a size")
    last, rest = _size(rest[1:], word)
    if last <= first:
        raise ConfigurationError(f"boot option {word!r}: the range is empty")
    options.excluded.append((first, last))
    return rest


def _highmem(options: BootOptions, word: str, value: str) -> str:
    options.highmem, rest = _size(value, word)
    return rest


def _kva(options: BootOptions, word: str, value: str) -> str:
    options.kva, rest = _size(value, word)
    if options.kva < PAGE_SIZE:
        raise ConfigurationError(f"boot option {word!r}: a slot has {PAGE_SIZE} bytes")
    return rest


def _pkmap(options: BootOptions, word: str, value: str) -> str:
    options.pkmap, rest = _size(value, word)
    if not options.pkmap:
        raise ConfigurationError(f"boot option {word!r}: kmap needs a slot")
    return rest


def _bootmem(options: BootOptions, word: str, value: str) -> str:
    what, colon, text = value.partition(":")
    if not colon or not what:
        raise ConfigurationError(f"boot option {word!r}: give NAME:SIZE")
    size, rest = _size(text, word)
    if not size:
        raise ConfigurationError(f"boot option {word!r}: nothing to reserve")
    options.reservations.append((what, size))
    return rest


_OPTIONS: dict[str, Callable[[BootOptions, str, str], str]] = {
    "mem": _mem, "memexclude": _memexclude, "highmem": _highmem, "bootmem": _bootmem,
    "kva": _kva, "pkmap": _pkmap,
}  # fmt: skip


def _size(text: str, word: str) -> tuple[int, str]:
    """Bytes, and what comes behind; the kernels took no digit at all for 0, which is refused here."""
    value, rest = memparse(text)
    if rest == text:
        raise ConfigurationError(f"boot option {word!r}: not a size")
    return value, rest


def limit_memory(ranges: list[tuple[int, int, int]], options: BootOptions) -> list[tuple[int, int]]:
    """RAM as (physical, bytes) that the kernel is told of, whole pages.

    Raises ConfigurationError when an option names RAM that the machine does not have, or nothing is left.
    """
    known = [(start, start + size) for start, size, _ in ranges]
    if options.given or options.exact:
        present, known = known, []
        for start, size in sorted(options.given):
            met = [(max(start, first), min(start + size, end)) for first, end in present]
            found = [each for each in met if each[0] < each[1]]
            if not found:
                raise ConfigurationError(f"boot option mem={size:#x}@{start:#x}: the machine has no RAM there")
            known += found
        known = _joined(known)
    kept = []
    for start, end in known:
        if options.limit is not None:
            end = min(end, options.limit)
        end &= -PAGE_SIZE
        start = -(-start // PAGE_SIZE) * PAGE_SIZE
        if start < end:
            kept.append((start, end - start))
    if not kept:
        raise ConfigurationError("the boot options leave no RAM")
    return kept


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) in order, those that meet or touch as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def lowmem_limit(options: BootOptions, low_end: int, end: int, direct_map: int) -> int:
    """Bytes of RAM that the direct map shall cover at most.  Raises ConfigurationError."""
    if not options.highmem:
        return direct_map
    wanted = (min(end, low_end) - options.highmem) // REGION * REGION if end <= low_end else direct_map
    if end > low_end:
        # RAM above 4 GB is highmem whatever is said; only what is missing is cut off below.
        missing = options.highmem - (end - FOUR_GIGABYTES)
        wanted = (low_end - missing) // REGION * REGION if missing > 0 else direct_map
    if wanted < 2 * REGION:
        raise ConfigurationError(
            f"boot option highmem={options.highmem >> 20}m: {max(wanted, 0) >> 20} MB of lowmem would be left"
        )
    return min(wanted, direct_map)


def usable_highmem(
    ranges: list[tuple[int, int]], lowmem: int, highmem: str
) -> tuple[list[tuple[int, int]], int | None, list[str]]:
    """The ranges that a kernel with highmem ``off``, ``4G`` or ``64G`` uses, where they end for it, and what it says.

    Ranges are (physical, bytes), ``lowmem`` is the end of the direct map; None where nothing limits it.  The texts are
    those of 2.6.37 (``highmem_pfn_init``); RAM that is ignored has no structure and joins no zone.
    """
    limit = {"off": lowmem, "4G": FOUR_GIGABYTES, "64G": None}[highmem]
    end = max(start + size for start, size in ranges)
    if limit is None or end <= limit:
        return ranges, limit, []
    kept = limit_memory([(*each, 0) for each in ranges], BootOptions(limit=limit))
    if highmem == "4G":
        return kept, limit, ["Warning: only 4GB will be used. Use a HIGHMEM64G enabled kernel!"]
    needed = "HIGHMEM64G" if end > FOUR_GIGABYTES else "HIGHMEM"
    return kept, limit, [f"Warning only {lowmem >> 20}MB will be used.", f"Use a {needed} enabled kernel."]


def without(ranges: list[tuple[int, int]], holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, bytes) of ranges less the (start, end) of holes, whole pages."""
    pieces = [(start, start + size) for start, size in ranges]
    for first, end in holes:
        first, end = first & -PAGE_SIZE, -(-end // PAGE_SIZE) * PAGE_SIZE
        pieces = [
            piece
            for start, stop in pieces
            for piece in ((start, min(stop, first)), (max(start, end), stop))
            if piece[0] < piece[1]
        ]
    return [(start, stop - start) for start, stop in pieces]


@dataclass(slots=True)
class BootMemory:
    """Frames handed out at boot, contiguous and for ever: ``memory_start`` moves up (physical address)."""

    memory_start: int
    limit: int
    ranges: list[tuple[int, int]]
    """RAM as (physical, bytes): what is taken lies in one of these."""
    taken: list[tuple[str, int, int]] = field(default_factory=list)

    def left(self) -> tuple[int, int]:
        """memory_start and memory_end as drivers get them: physical addresses with RAM from one to the other."""
        for first, length in self.ranges:
            start, end = max(first, self.memory_start), min(first + length, self.limit)
            if start < end:
                return start, end
        return self.memory_start, self.memory_start

    def take(self, name: str, size: int, align: int = PAGE_SIZE) -> int:
        """Physical address of ``size`` bytes.  Raises ConfigurationError when lowmem is too small."""
        for first, length in self.ranges:
            start = -(-max(first, self.memory_start) // align) * align
            end = start + -(-size // PAGE_SIZE) * PAGE_SIZE
            if end <= min(first + length, self.limit):
                break
        else:
            raise ConfigurationError(
                f"lowmem is too small: {name} needs {size} bytes in one piece between {self.memory_start:#x} and "
                f"the end of lowmem at {self.limit:#x}",
                "take more RAM, a larger --direct-map, or --highmem 4G or off, which have fewer frames to describe",
            )
        self.memory_start = end
        self.taken.append((name, start, end))
        return start

"""The page walk as the manual has it (SDM 3A, 4.3 to 4.8), over a read function, touching nothing.

It is the second opinion against which the engine's MMU is tested, and the one that explains faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from sandbox.x86.paging import LEGACY, NX, PAE, PHYSICAL_BITS, PS, RW, US, A, D, P, PagingFormat, describe_entry

CR0_WP, CR0_PG = 1 << 16, 1 << 31
CR4_PSE, CR4_PAE = 1 << 4, 1 << 5
EFER_NXE = 1 << 11
_FRAME_MASK = (1 << PHYSICAL_BITS) - 1 & ~0xFFF
_ABOVE_PHYSICAL = (1 << 63) - (1 << PHYSICAL_BITS)
_PDPTE_RESERVED = 0x1E6 | 1 << 63 | _ABOVE_PHYSICAL
_LARGE_PAE_RESERVED = 0x1FE000

Read = Callable[[int, int], int]
"""``read(physical, size)``: the little-endian integer at a physical address."""


class Reason(Enum):
    """Why a walk stopped."""

    MAPPED = "mapped"
    NOT_PRESENT = "not present"
    RESERVED = "reserved bit set"
    SUPERVISOR = "supervisor page, user access"
    READ_ONLY = "read-only page, write"
    NO_EXECUTE = "no-execute page, fetch"


@dataclass(frozen=True, slots=True)
class Access:
    """What is attempted, and at which privilege."""

    write: bool = False
    user: bool = False
    fetch: bool = False

    @classmethod
    def of_error_code(cls, code: int) -> Access:
        """The access that a page-fault error code tells of."""
        return cls(bool(code & 2), bool(code & 4), bool(code & 16))


@dataclass(frozen=True, slots=True)
class Profile:
    """Whose walk: the manual's, or the engine's, which is the first with named deviations.

    ``accessed_before_verdict``: the engine sets A in a directory entry that points to a table as soon as it has
    read it, even when the walk then faults; the manual (4.8) says that A is set when the entry is *used*, and
    hardware sets it only once the translation succeeds.

    ``pdpte_reserved``: the engine checks only some of the reserved bits of a PDPTE (bit 63 and those above the
    physical width), and does so at the walk; hardware checks them at the load of CR3 and raises #GP there.
    """

    name: str
    accessed_before_verdict: bool
    pdpte_reserved: int


MANUAL = Profile("manual", False, _PDPTE_RESERVED)
ENGINE = Profile("engine", True, NX | _ABOVE_PHYSICAL)


@dataclass(frozen=True, slots=True)
class LevelSeen:
    """One entry that the walk read: ``physical`` is the entry's own address."""

    name: str
    depth: int
    index: int
    physical: int
    entry: int


@dataclass(slots=True)
class Walk:
    """What a walk found.

    ``physical`` is the translated address, or None with ``error_code`` set.  ``updates`` are the A and D bits that
    the processor writes on the way: (physical address of the entry, new entry).
    """

    format: PagingFormat | None
    linear: int
    levels: list[LevelSeen] = field(default_factory=list)
    physical: int | None = None
    page_size: int = 4096
    error_code: int | None = None
    reason: Reason = Reason.MAPPED
    updates: list[tuple[int, int]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line a level, then the verdict."""
        if self.format is None:
            return ["paging is off: linear is physical"]
        told = [
            f"{seen.name:<5} [{seen.index:#05x}] at {seen.physical:#010x} = "
            f"{seen.entry:0{2 * self.format.entry_size}x}  {describe_entry(self.format, seen.depth, seen.entry)}"
            for seen in self.levels
        ]
        if self.physical is None:
            told.append(f"stops here: {self.reason.value}")
        else:
            told.append(f"physical {self.physical:#x} ({self.page_size >> 10} KB page)")
        return told


def walk(
    read: Read,
    cr3: int,
    linear: int,
    access: Access,
    *,
    cr0: int,
    cr4: int,
    efer: int,
    profile: Profile = MANUAL,
) -> Walk:
    """Translate a linear address for an access."""
    if not cr0 & CR0_PG:
        return Walk(None, linear, physical=linear)
    fmt = PAE if cr4 & CR4_PAE else LEGACY
    found = Walk(fmt, linear)
    nxe = bool(efer & EFER_NXE) and fmt is PAE
    table = cr3 & 0xFFFFFFE0 if fmt is PAE else cr3 & 0xFFFFF000
    writable = user = True
    no_execute = False
    last = len(fmt.levels) - 1
    passed: list[LevelSeen] = []
    for depth in range(last + 1):
        level = fmt.levels[depth]
        index = linear >> level.shift & (1 << level.width) - 1
        at = table + index * fmt.entry_size
        entry = read(at, fmt.entry_size)
        seen = LevelSeen(level.name, depth, index, at, entry)
        found.levels.append(seen)
        if not entry & P:
            return _fault(found, passed, profile, access, Reason.NOT_PRESENT, nxe)
        large = level.large and bool(entry & PS) and (fmt is PAE or bool(cr4 & CR4_PSE))
        if entry & _reserved(fmt, depth, large, nxe, profile):
            return _fault(found, passed, profile, access, Reason.RESERVED, nxe)
        if fmt is PAE and depth == 0:
            table = entry & _FRAME_MASK
            continue
        writable = writable and bool(entry & RW)
        user = user and bool(entry & US)
        no_execute = no_execute or (nxe and bool(entry & NX))
        if large or depth == last:
            return _leaf(found, passed, profile, access, seen, large, writable, user, no_execute, cr0, nxe)
        passed.append(seen)
        table = entry & _FRAME_MASK
    raise AssertionError("the last level is always a leaf")


def _reserved(fmt: PagingFormat, depth: int, large: bool, nxe: bool, profile: Profile) -> int:
    """The bits that must be zero in an entry."""
    if fmt is LEGACY:
        return 1 << 21 if large else 0
    if depth == 0:
        return profile.pdpte_reserved
    bits = _ABOVE_PHYSICAL | (0 if nxe else NX)
    return bits | _LARGE_PAE_RESERVED if large else bits


def _leaf(
    found: Walk,
    passed: list[LevelSeen],
    profile: Profile,
    access: Access,
    seen: LevelSeen,
    large: bool,
    writable: bool,
    user: bool,
    no_execute: bool,
    cr0: int,
    nxe: bool,
) -> Walk:
    if access.user and not user:
        return _fault(found, passed, profile, access, Reason.SUPERVISOR, nxe)
    if access.write and not writable and (access.user or cr0 & CR0_WP):
        return _fault(found, passed, profile, access, Reason.READ_ONLY, nxe)
    if access.fetch and no_execute:
        return _fault(found, passed, profile, access, Reason.NO_EXECUTE, nxe)
    assert found.format is not None
    if not large:
        base, size = seen.entry & _FRAME_MASK, 4096
    elif found.format is PAE:
        base, size = seen.entry & _FRAME_MASK & ~0x1FFFFF, 2 << 20
    else:
        base, size = seen.entry & 0xFFC00000 | (seen.entry >> 13 & 0xFF) << 32, 4 << 20
    found.page_size = size
    found.physical = base + (found.linear & size - 1)
    found.updates = [(each.physical, each.entry | A) for each in passed if not each.entry & A]
    leaf = seen.entry | A | (D if access.write else 0)
    if leaf != seen.entry:
        found.updates.append((seen.physical, leaf))
    return found


def _fault(found: Walk, passed: list[LevelSeen], profile: Profile, access: Access, reason: Reason, nxe: bool) -> Walk:
    found.reason = reason
    code = 0 if reason is Reason.NOT_PRESENT else 1
    code |= (8 if reason is Reason.RESERVED else 0) | (2 if access.write else 0) | (4 if access.user else 0)
    if access.fetch and nxe:
        code |= 16
    found.error_code = code
    if profile.accessed_before_verdict:
        found.updates = [(each.physical, each.entry | A) for each in passed if not each.entry & A]
    return found

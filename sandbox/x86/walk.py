"""The page walk as the manual has it (SDM 3A, 4.3 to 4.8), over a read function, touching nothing.

It is the second opinion against which the engine's MMU is tested, and the one that explains faults.  Two-level
paging with 4 MB pages (PSE-36, 40 physical bits), PAE with 2 MB pages and NX, CR0.WP, reserved bits, and paging off.
Not modelled: SMEP, SMAP and protection keys, which the engine's CPU model lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from sandbox.records import dataclass, field
from sandbox.x86.masks import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    EFER_NXE,
    PF_INSTR,
    PF_PROT,
    PF_RSVD,
    PF_USER,
    PF_WRITE,
)
from sandbox.x86.paging import (
    ABOVE_PHYSICAL,
    LEGACY,
    NX,
    PAE,
    PAGE_SIZE,
    PDPTE_RESERVED,
    PS,
    RW,
    US,
    A,
    D,
    P,
    PagingFormat,
    describe_entry,
    is_leaf,
    reserved_bits,
    target,
)

VECTOR_GP, VECTOR_PF = 13, 14

Read = Callable[[int, int], int]
"""``read(physical, size)``: the little-endian integer of 4 or 8 bytes at a physical address."""


class Reason(Enum):
    """Why a walk stopped."""

    MAPPED = "mapped"
    NOT_PRESENT = "not present"
    RESERVED = "reserved bit set"
    SUPERVISOR = "supervisor page, user access"
    READ_ONLY = "read-only page, write"
    NO_EXECUTE = "no-execute page, fetch"
    BAD_PDPTE = "reserved bit in a PDPTE: loading CR3 raises #GP(0)"


_RIGHT = {Reason.SUPERVISOR: US, Reason.READ_ONLY: RW}


@dataclass(frozen=True, slots=True)
class Access:
    """What is attempted, and at which privilege; ``user`` is CPL 3, and not the processor's own table accesses."""

    write: bool = False
    user: bool = False
    fetch: bool = False
    modify: bool = False
    """One operand is read and then written, as by INC, XCHG or CMPXCHG."""

    @classmethod
    def of_error_code(cls, code: int) -> Access:
        """The access that a page-fault error code tells of."""
        return cls(bool(code & PF_WRITE), bool(code & PF_USER), bool(code & PF_INSTR))


@dataclass(frozen=True, slots=True)
class Profile:
    """Whose walk: the manual's, or the engine's, which is the first with named deviations."""

    name: str
    accessed_before_verdict: bool = False
    """A is set in a directory entry that points to a table as soon as it was read, though the table's entry then
    faults.  The manual (4.8) promises A in the entries that a translation used; a walk that faults made none."""
    pdptes_in_memory: bool = False
    """The four PDPTEs are read at every walk.  Hardware has them in registers, loaded with CR3 (4.4.1): an edit in
    memory does nothing until CR3 is loaded again."""
    pdpte_reserved: int = PDPTE_RESERVED
    """Which bits of a PDPTE are checked.  Hardware checks all that are reserved, in all four entries."""
    pdpte_page_fault: bool = False
    """A reserved bit in the PDPTE is a page fault at the access (error code P and RSVD); on hardware it is #GP(0) at
    the load of CR3, and the access never happens."""
    modify_reads_first: bool = False
    """What reads and writes its operand is first a read to the MMU: a read-only page gets A before the write faults.
    Hardware asks for the write at once.  (The W bit that the engine leaves out, ``sandbox.engine`` puts back.)"""


MANUAL = Profile("manual")
ENGINE = Profile("engine", True, True, NX | ABOVE_PHYSICAL, True, True)
PDPTES_IN_MEMORY = Profile("manual, PDPTEs in memory", False, True, NX | ABOVE_PHYSICAL, True)
"""The processor's own accesses beside the engine's: the PDPTEs are those that its walks see, the rest is the manual's.
The loads of CR0, CR3 and CR4 have checked them (``sandbox.engine``); a guest may have damaged them afterwards."""


@dataclass(slots=True)
class LevelSeen:
    """One entry that the walk used: ``physical`` is the entry's own address."""

    name: str
    depth: int
    index: int
    physical: int
    entry: int


@dataclass(slots=True)
class Walk:
    """What a walk found.

    ``physical`` is the translated address, or None with ``error_code`` set (both None for BAD_PDPTE, which is not a
    page fault).  ``page_size`` is in bytes, None where no page was reached or paging is off.  ``updates`` are the A
    and D bits that the processor writes on the way: (physical address of the entry, new entry).
    """

    format: PagingFormat | None
    linear: int
    levels: list[LevelSeen] = field(default_factory=list)
    physical: int | None = None
    page_size: int | None = None
    error_code: int | None = None
    reason: Reason = Reason.MAPPED
    updates: list[tuple[int, int]] = field(default_factory=list)
    pse: bool = True
    nxe: bool = True

    @property
    def vector(self) -> int | None:
        """14 for a page fault, 13 where hardware refuses the PDPTEs, None for a translation."""
        if self.reason is Reason.MAPPED:
            return None
        return VECTOR_GP if self.error_code is None else VECTOR_PF

    @property
    def withheld_by(self) -> tuple[str, ...]:
        """For a protection fault, the levels that withhold the right (4.6: every level must grant it)."""
        checked = [seen for seen in self.levels if seen.name != "PDPTE"]
        if self.reason is Reason.NO_EXECUTE:
            return tuple(seen.name for seen in checked if seen.entry & NX)
        right = _RIGHT.get(self.reason)
        return () if right is None else tuple(seen.name for seen in checked if not seen.entry & right)

    def lines(self) -> list[str]:
        """One line a level, then the verdict."""
        if self.format is None:
            return ["paging is off: linear is physical"]
        told = [
            f"{seen.name:<5} [{seen.index:#05x}] at {seen.physical:#010x} = "
            f"{seen.entry:0{2 * self.format.entry_size}x}  "
            f"{describe_entry(self.format, seen.depth, seen.entry, self.pse, self.nxe)}"
            for seen in self.levels
        ]
        if self.physical is not None and self.page_size is not None:
            told.append(f"physical {self.physical:#x} ({self.page_size >> 10} KB page)")
        else:
            by = f" ({' and '.join(self.withheld_by)})" if self.withheld_by else ""
            told.append(f"stops here: {self.reason.value}{by}")
        return told

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers as they are, ``text`` as in ``lines``; ``physical`` is null where the walk stopped."""
        mapped = self.physical is not None
        texts = self.lines()
        return {
            "linear": self.linear,
            "levels": [
                {
                    "name": seen.name, "index": seen.index, "physical": seen.physical, "entry": seen.entry,
                    "text": text,
                }
                for seen, text in zip(self.levels, texts, strict=False)
            ],
            "physical": self.physical,
            "page_size": self.page_size if mapped else None,
            "error_code": self.error_code,
            "reason": self.reason.value,
            "withheld_by": list(self.withheld_by),
        }  # fmt: skip


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
    pdptes: Sequence[int] | None = None,
) -> Walk:
    """Translate a linear address for an access that does not cross a page.

    ``pdptes`` are the four PDPTE registers; without them the walk is one right after a load of CR3.  Raises
    whatever ``read`` raises for a table that is not in RAM.
    """
    if not cr0 & CR0_PG:
        return Walk(None, linear, physical=linear)
    if access.modify:
        return _modify(
            lambda one: walk(read, cr3, linear, one, cr0=cr0, cr4=cr4, efer=efer, profile=profile, pdptes=pdptes),
            access.user,
            profile,
        )
    pse, nxe = bool(cr4 & CR4_PSE), bool(efer & EFER_NXE)
    if not cr4 & CR4_PAE:
        found = Walk(LEGACY, linear, pse=pse, nxe=False)
        return _tables(read, found, LEGACY, cr3 & LEGACY.cr3_mask, 0, access, cr0, profile)
    found = Walk(PAE, linear, pse=pse, nxe=nxe)
    in_registers = None if profile.pdptes_in_memory else pdptes
    entry = _entry(read, found, PAE, cr3 & PAE.cr3_mask, 0, in_registers)
    if not entry & P:
        return _fault(found, Reason.NOT_PRESENT, access, profile)
    if entry & profile.pdpte_reserved:
        if profile.pdpte_page_fault:
            return _fault(found, Reason.RESERVED, access, profile)
        found.reason = Reason.BAD_PDPTE
        return found
    return _tables(read, found, PAE, entry & PAE.frame_mask, 1, access, cr0, profile)


def _modify(walked: Callable[[Access], Walk], user: bool, profile: Profile) -> Walk:
    """Both accesses of an operand that is read and then written; a fault is told as the write's."""
    found = walked(Access(not profile.modify_reads_first, user))
    if found.error_code is not None:
        found.error_code |= PF_WRITE
    if not profile.modify_reads_first or found.physical is None:
        return found
    then = walked(Access(True, user))
    if then.physical is None:
        then.updates = found.updates
    return then


def _entry(
    read: Read, found: Walk, fmt: PagingFormat, table: int, depth: int, registers: Sequence[int] | None = None
) -> int:
    """The entry of a table, or of the registers that hold it, noted as seen."""
    level = fmt.levels[depth]
    index = found.linear >> level.shift & level.mask
    at = table + index * fmt.entry_size
    entry = read(at, fmt.entry_size) if registers is None else registers[index]
    found.levels.append(LevelSeen(level.name, depth, index, at, entry))
    return entry


def _tables(
    read: Read, found: Walk, fmt: PagingFormat, table: int, depth: int, access: Access, cr0: int, profile: Profile
) -> Walk:
    """Directory and table: the two levels that both formats share."""
    pde = _entry(read, found, fmt, table, depth)
    if not pde & P:
        return _fault(found, Reason.NOT_PRESENT, access, profile)
    large = bool(pde & PS) and is_leaf(fmt, depth, pde, found.pse)
    reserved = reserved_bits(fmt, depth, large, found.nxe)
    if pde & reserved:
        return _fault(found, Reason.RESERVED, access, profile)
    if large:
        found.page_size = fmt.large_page
        return _leaf(found, target(fmt, depth, pde, large), pde, pde, access, cr0, profile)
    pte = _entry(read, found, fmt, pde & fmt.frame_mask, depth + 1)
    if not pte & P:
        return _fault(found, Reason.NOT_PRESENT, access, profile)
    if pte & reserved:
        return _fault(found, Reason.RESERVED, access, profile)
    found.page_size = PAGE_SIZE
    granted = pde & pte & (RW | US) | (pde | pte) & NX
    return _leaf(found, pte & fmt.frame_mask, pte, granted, access, cr0, profile)


def _leaf(found: Walk, base: int, entry: int, granted: int, access: Access, cr0: int, profile: Profile) -> Walk:
    """A page was reached: rights (4.6), then the address and the A and D bits (4.8)."""
    if access.user and not granted & US:
        return _fault(found, Reason.SUPERVISOR, access, profile)
    if access.write and not granted & RW and (access.user or cr0 & CR0_WP):
        return _fault(found, Reason.READ_ONLY, access, profile)
    if access.fetch and granted & NX:
        return _fault(found, Reason.NO_EXECUTE, access, profile)
    assert found.page_size is not None
    found.physical = base + (found.linear & found.page_size - 1)
    _mark_directory(found)
    used = entry | A | D if access.write else entry | A
    if used != entry:
        found.updates.append((found.levels[-1].physical, used))
    return found


def _mark_directory(found: Walk) -> None:
    """A in the entry that points to the table, when the walk went through one."""
    last = found.levels[-1]
    if last.name == "PTE":
        pde = found.levels[-2]
        if not pde.entry & A:
            found.updates.append((pde.physical, pde.entry | A))


def _fault(found: Walk, reason: Reason, access: Access, profile: Profile) -> Walk:
    found.reason = reason
    code = 0 if reason is Reason.NOT_PRESENT else PF_PROT
    if reason is Reason.RESERVED:
        code |= PF_RSVD
    if access.write:
        code |= PF_WRITE
    if access.user:
        code |= PF_USER
    if access.fetch and found.nxe:
        code |= PF_INSTR
    found.error_code = code
    if profile.accessed_before_verdict:
        _mark_directory(found)
    return found

"""Error codes: of page faults (SDM 3A, 4.7) and of exceptions that name a selector (6.13)."""

from __future__ import annotations

from sandbox.records import dataclass
from sandbox.x86 import masks
from sandbox.x86.bits import Bits


class PageFaultCode(Bits):
    """The bits that a page fault pushes."""

    P = masks.PF_PROT
    """The page was present: a protection violation."""
    W = masks.PF_WRITE
    """A write, else a read or a fetch (W/R)."""
    U = masks.PF_USER
    """At CPL 3 (U/S); an access by the processor itself, as to the TSS, is a supervisor's at any CPL."""
    RSVD = masks.PF_RSVD
    """A reserved bit is set in an entry; P is set with it."""
    I = masks.PF_INSTR  # noqa: E741 - the manual's name
    """Instruction fetch (I/D); reported only with CR4.SMEP, or with CR4.PAE and EFER.NXE."""
    PK = 1 << 5
    """A protection key; no 32-bit mode has them."""
    SS = 1 << 6
    """An access to a shadow stack."""

    def describe(self) -> str:
        """``user write protection``, ``kernel read not-present``, ``user fetch reserved-bit``."""
        code = int(self)
        who = "user" if code & masks.PF_USER else "kernel"
        access = "write" if code & masks.PF_WRITE else "fetch" if code & masks.PF_INSTR else "read"
        why = "reserved-bit" if code & masks.PF_RSVD else "protection" if code & masks.PF_PROT else "not-present"
        return f"{who} {access} {why}"

    def describe_at(self, eip: int, address: int) -> str:
        """The same, with ``fetch`` also where the CPU has no NX and reports one as a read: of the address in EIP.

        An instruction that came so far as to read its own page would not find it missing.
        """
        words = self.describe()
        return words.replace(" read ", " fetch ") if eip == address and not self & PageFaultCode.P else words


@dataclass(frozen=True, slots=True)
class SelectorCode:
    """EXT, IDT, TI and the index, as #TS, #NP, #SS and #GP push them (SDM 3A, figure 6-7)."""

    external: bool
    in_idt: bool
    in_ldt: bool
    """Meaningless, and zero, when ``in_idt`` is set."""
    index: int

    @classmethod
    def decode(cls, value: int) -> SelectorCode:
        """From the word that was pushed; its upper half is reserved and ignored."""
        return cls(bool(value & 1), bool(value & 2), bool(value & 4), value >> 3 & 0x1FFF)

    @classmethod
    def of_selector(cls, selector: int, external: bool = False) -> SelectorCode:
        """The code that names a GDT or LDT selector; its RPL is dropped."""
        return cls(external, False, bool(selector & 4), selector >> 3 & 0x1FFF)

    @classmethod
    def of_vector(cls, vector: int, external: bool = False) -> SelectorCode:
        """The code that names an IDT entry."""
        return cls(external, True, False, vector)

    def encode(self) -> int:
        return self.external | self.in_idt << 1 | self.in_ldt << 2 | self.index << 3

    def describe(self) -> str:
        """``IDT entry 0x80``, ``GDT selector 0x28, external``; ``no selector`` for a code of zero."""
        if not self.in_idt and not self.in_ldt and not self.index:
            return "no selector, external" if self.external else "no selector"
        table = "IDT entry" if self.in_idt else "LDT selector" if self.in_ldt else "GDT selector"
        number = self.index if self.in_idt else self.index << 3
        return f"{table} {number:#x}" + (", external" if self.external else "")

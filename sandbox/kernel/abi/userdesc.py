"""Segments as programs ask for them: ``struct user_desc``."""

from __future__ import annotations

from struct import pack, unpack_from

from sandbox.records import dataclass


@dataclass(slots=True)
class UserDesc:
    """``struct user_desc`` of set_thread_area(243) and modify_ldt(123): a segment as a program asks for it.

    ``limit`` is in bytes, or in pages less one if ``limit_in_pages``; ``contents`` 0 data, 1 expand-down,
    2 code, 3 conforming code.  Entry number -1 asks for any free entry.
    """

    entry_number: int
    base: int
    limit: int
    seg_32bit: bool = True
    contents: int = 0
    read_exec_only: bool = False
    limit_in_pages: bool = True
    seg_not_present: bool = False
    useable: bool = True

    SIZE = 16

    @classmethod
    def unpack(cls, data: bytes) -> UserDesc:
        entry, base, limit, bits = unpack_from("<i3I", data)
        return cls(
            entry, base, limit,
            bool(bits & 1), bits >> 1 & 3, bool(bits & 8),
            bool(bits & 0x10), bool(bits & 0x20), bool(bits & 0x40),
        )  # fmt: skip

    @classmethod
    def of_descriptor(cls, entry_number: int, word: int) -> UserDesc:
        """What a 64-bit descriptor of the GDT was made from; an empty one is the pattern that empties it."""
        access, flags = word >> 40 & 0xFF, word >> 52 & 0xF
        return cls(
            entry_number,
            word >> 16 & 0xFFFFFF | (word >> 56) << 24,
            word & 0xFFFF | (word >> 48 & 0xF) << 16,
            bool(flags & 4), access >> 2 & 3, not access & 2,
            bool(flags & 8), not access & 0x80, bool(flags & 1),
        )  # fmt: skip

    def pack(self) -> bytes:
        bits = (
            self.seg_32bit
            | self.contents << 1
            | self.read_exec_only << 3
            | self.limit_in_pages << 4
            | self.seg_not_present << 5
            | self.useable << 6
        )
        return pack("<i3I", self.entry_number, self.base, self.limit, bits)

    @property
    def clears(self) -> bool:
        """True if it asks for an entry of the GDT to be emptied: all zero, or ``empty``."""
        return self._blank and self.read_exec_only == self.seg_not_present

    @property
    def empty(self) -> bool:
        """The pattern that empties an entry of the LDT too, where all zero is a segment (Linux's LDT_empty)."""
        return self._blank and self.read_exec_only and self.seg_not_present

    @property
    def _blank(self) -> bool:
        named = self.base or self.limit or self.contents or self.seg_32bit or self.limit_in_pages or self.useable
        return not named

    @property
    def fits_tls(self) -> bool:
        """set_thread_area takes it: nothing, or a 32-bit data segment that is present (tls_desc_okay)."""
        return self.clears or (self.seg_32bit and self.contents <= 1 and not self.seg_not_present)

    @property
    def access(self) -> int:
        """The descriptor's access byte: DPL 3, accessed (SDM volume 3, 3.4.5.1)."""
        kind = (not self.read_exec_only) << 1 | self.contents << 2 | 1
        return kind | 0x70 | (not self.seg_not_present) << 7

    @property
    def granularity(self) -> int:
        """The descriptor's flag nibble: G, D/B, 0, AVL."""
        return self.limit_in_pages << 3 | self.seg_32bit << 2 | self.useable

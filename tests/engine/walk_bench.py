"""A CPU over sparse RAM on which one page walk after the other is tried."""

from __future__ import annotations

import ctypes
import mmap
from array import array

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit
from sandbox.x86.paging import PAGE_SIZE, RW, US, A, D, P

from . import walk_cases as layout
from .walk_cases import Case

TAG, SCRATCH = 8, 12
"""In each 16-byte slot of a page block: ``mov eax, tag; int 0x80``, the tag as data, and four bytes for stores."""
SLOT_OFFSET = {"read": TAG, "write": SCRATCH, "modify": SCRATCH, "fetch": 0}
CODE_OFFSET = {"read": 0, "write": 16, "modify": 32}
CODE = b"".join(
    (instruction + b"\xcd\x80").ljust(16, b"\x90") for instruction in (b"\x8b\x06", b"\x89\x16", b"\x01\x16")
)
"""In a code page: ``mov eax, [esi]``, ``mov [esi], edx``, ``add [esi], edx``, each with ``int 0x80`` behind it."""
DONE = 0x80
STORED = 0x5EED0000
FULL = P | RW | US | A | D


class Bench:
    """Write a case's entries, ``run`` it, read them back, clear them."""

    def __init__(self) -> None:
        tables = [(start, layout.TABLE_BLOCK) for start in layout.LOW_TABLES + layout.HIGH_TABLES]
        code = [(frame, PAGE_SIZE) for frame in layout.CODE_FRAMES]
        pages = [(start, layout.PAGE_BLOCK) for start in layout.PAGES]
        self.tables_end = sum(size for _, size in tables)
        self._buffer = mmap.mmap(-1, sum(size for _, size in tables + code + pages))
        host = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self.bytes = memoryview(self._buffer)
        self.words, self.quads = self.bytes.cast("I"), self.bytes.cast("Q")
        self.cpu = Cpu()
        self.frames: dict[int, int] = {}
        """Offset in the buffer of each frame of tables and code, by frame number."""
        self.blocks: dict[int, int] = {}
        """Offset in the buffer of each block of pages, by physical address."""
        offset = 0
        for start, size in tables + code + pages:
            self.cpu.map_ram(start, size, host + offset)
            if size == layout.PAGE_BLOCK:
                self.blocks[start] = offset
            else:
                self.frames.update({(start + at) // PAGE_SIZE: offset + at for at in range(0, size, PAGE_SIZE)})
            offset += size
        self._fill_pages()
        self._map_code()
        self.untouched = bytes(self.bytes[: self.tables_end])
        self.contexts = []
        for ring in layout.RINGS:
            context = self.cpu.new_context()
            for name in ("es", "ds", "fs", "gs", "ss"):
                context.set_segment(name, 0x18 | ring, 0, 0xFFFFFFFF, 0xCF9300 | ring << 13)
            context.set_segment("cs", 0x10 | ring, 0, 0xFFFFFFFF, 0xCF9B00 | ring << 13)
            self.contexts.append(context)

    def _fill_pages(self) -> None:
        """``mov eax, tag`` ends in the second word with the tag's last byte, which is always 0."""
        start = self.blocks[layout.PAGES[0]] >> 2
        count = (len(self.words) - start) // 4
        slots = array("I", [0, 0x80CD00, 0, 0]) * count
        slots[0::4] = array("I", range(0xB8, 0xB8 + (count << 8), 1 << 8))
        slots[2::4] = array("I", range(count))
        self.words[start:] = memoryview(slots)

    def _map_code(self) -> None:
        """Both code pages, in both formats, under every root."""
        free = layout.LOW_TABLES[0] + layout.CODE_TABLES
        for frame in layout.CODE_FRAMES:
            at = self.frames[frame // PAGE_SIZE]
            self.bytes[at : at + len(CODE)] = CODE
            pte, pae_table, directory = free, free + PAGE_SIZE, free + 2 * PAGE_SIZE
            free += 3 * PAGE_SIZE
            self._store(pte + (frame >> 12 & 0x3FF) * 4, 4, frame | FULL)
            self._store(pae_table + (frame >> 12 & 0x1FF) * 8, 8, frame | FULL)
            self._store(directory + (frame >> 21 & 0x1FF) * 8, 8, pae_table | FULL)
            for block in layout.LOW_TABLES:
                self._store(block + layout.LEGACY_ROOT + (frame >> 22) * 4, 4, pte | FULL)
                for root in layout.PAE_ROOTS:
                    self._store(block + root + (frame >> 30) * 8, 8, directory | P)

    def _store(self, physical: int, size: int, value: int) -> None:
        at = self.frames[physical // PAGE_SIZE] + physical % PAGE_SIZE
        self.bytes[at : at + size] = value.to_bytes(size, "little")

    # -- memory --------------------------------------------------------------------------------------------------

    def read(self, physical: int, size: int) -> int:
        """An entry as the walker sees it; 0 where no RAM is."""
        at = self.frames.get(physical >> 12)
        if at is None:
            return 0
        at += physical & 0xFFF
        return self.quads[at >> 3] if size == 8 else self.words[at >> 2]

    def slot(self, physical: int) -> int:
        """Index in ``words`` of the slot that holds a physical address."""
        block = physical & -layout.PAGE_BLOCK
        return (self.blocks[block] + (physical - block & ~15)) >> 2

    def tag(self, physical: int) -> int:
        """What a slot's code and data give."""
        return self.slot(physical) - (self.blocks[layout.PAGES[0]] >> 2) >> 2

    def set_entries(self, case: Case) -> None:
        view, shift = (self.quads, 3) if case.cell.format == "pae" else (self.words, 2)
        for physical, entry in case.entries:
            view[self.frames[physical >> 12] + (physical & 0xFFF) >> shift] = entry

    def entries(self, case: Case) -> list[int]:
        size = 8 if case.cell.format == "pae" else 4
        return [self.read(physical, size) for physical, _ in case.entries]

    def clear_entries(self, case: Case) -> None:
        """Back to the tables that map the code and nothing else."""
        view, shift = (self.quads, 3) if case.cell.format == "pae" else (self.words, 2)
        for physical, _ in case.entries:
            at = self.frames[physical >> 12] + (physical & 0xFFF)
            view[at >> shift] = int.from_bytes(self.untouched[at : at + (1 << shift)], "little")

    # -- running -------------------------------------------------------------------------------------------------

    def linear(self, case: Case) -> int:
        """Where in its slot the access goes."""
        return case.linear + SLOT_OFFSET[case.cell.access]

    def eip(self, case: Case) -> int:
        """Where the instruction is: in a code page, or for a fetch at the address under test."""
        if case.cell.access == "fetch":
            return case.linear
        return layout.CODE_FRAMES[case.code] + CODE_OFFSET[case.cell.access]

    def run(self, case: Case) -> Exit:
        """The case's instruction, from an empty TLB; its entries must be in place."""
        cpu = self.cpu
        context = cpu.context = self.contexts[case.cell.ring]
        context.cr0, context.cr3, context.cr4, context.efer = case.cr0, case.cr3, case.cr4, case.efer
        context.eax, context.edx, context.esi = 0xFFFFFFFF, STORED, self.linear(case)
        context.eip = self.eip(case)
        cpu.flush_tlb()
        return cpu.run(100)

"""A CPU on a small board: RAM, page tables and descriptor tables built by hand, code assembled by GNU as."""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit
from sandbox.image.assemble import assemble_text
from sandbox.x86.masks import CR0_PAGED, CR0_PROTECTED, CR4_PAE, CR4_PSE, CR4_SSE, EFER_NXE
from sandbox.x86.paging import PAGE_SIZE, RW, US, P

RAM = 4 << 20
HOLE = 0x5000000
"""A physical address where nobody answers."""
DIRECTORY, TABLE, HIGH_TABLE = 0x1000, 0x3000, 0x4000
GDT, TSS, FIRST_FRAME = 0x6000, 0x7000, 0x20
CODE, DATA, STACK = 0x400000, 0x410000, 0x420000
"""Linear addresses; page n of each lies in a frame of its own, with a missing page behind the last."""
PAGES = 4
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, TASK = 0x08, 0x10, 0x1B, 0x23, 0x28


@functools.cache
def assembled(text: str, address: int = CODE) -> bytes:
    """Bytes of Intel-syntax text at a linear address."""
    return assemble_text(text, address)


class Memory:
    """4 MB of RAM with page tables, two-level or PAE, and descriptors; the first MB one to one for the supervisor."""

    def __init__(self, pae: bool = False, memory: mmap.mmap | None = None) -> None:
        self.memory = memory or mmap.mmap(-1, RAM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.pae = pae
        self._frames = FIRST_FRAME
        if memory is None:
            self._build()

    @property
    def host_address(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def _build(self) -> None:
        put = self.memory
        if self.pae:
            struct.pack_into("<Q", put, DIRECTORY, 0x2000 | P)
            struct.pack_into("<Q", put, 0x2000, TABLE | P | RW)
            struct.pack_into("<Q", put, 0x2010, HIGH_TABLE | P | RW | US)
        else:
            struct.pack_into("<I", put, DIRECTORY, TABLE | P | RW)
            struct.pack_into("<I", put, DIRECTORY + 4, HIGH_TABLE | P | RW | US)
        for page in range(256):
            self.set_entry(page << 12, page << 12 | P | RW)
        for base in (CODE, DATA, STACK):
            for page in range(PAGES):
                self.map(base + page * PAGE_SIZE)
        flat = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF, 0x0000890070000067)
        struct.pack_into("<6Q", put, GDT, *flat)
        struct.pack_into("<3I", put, TSS, 0, 0x9000, KERNEL_DATA)

    def place(self, linear: int) -> int:
        """Where the leaf entry of a page lies."""
        table = TABLE if linear < CODE else HIGH_TABLE
        page = (linear - (0 if linear < CODE else CODE)) >> 12
        return table + page * (8 if self.pae else 4)

    def set_entry(self, linear: int, entry: int) -> None:
        """Store a leaf entry, without any flush."""
        struct.pack_into("<Q" if self.pae else "<I", self.memory, self.place(linear), entry)

    def entry(self, linear: int) -> int:
        return int(struct.unpack_from("<Q" if self.pae else "<I", self.memory, self.place(linear))[0])

    def map(self, linear: int, flags: int = P | RW | US, frame: int | None = None) -> int:
        """Map a page, to a frame of its own unless one is given.  Returns the frame's physical address."""
        if frame is None:
            frame = self._frames << 12
            self._frames += 1
        self.set_entry(linear, frame | flags)
        return frame

    def physical(self, linear: int) -> int:
        """Where a linear address of a mapped page lies."""
        return self.entry(linear) & 0xFFFFF000 | linear & 0xFFF

    def poke(self, linear: int, data: bytes) -> None:
        """Store bytes across pages."""
        for offset, byte in enumerate(data):
            self.memory[self.physical(linear + offset)] = byte

    def peek(self, linear: int, size: int = 4) -> int:
        """A little-endian value, across pages."""
        return sum(self.memory[self.physical(linear + offset)] << 8 * offset for offset in range(size))


class Board(Memory):
    """A CPU on such a memory."""

    def __init__(self, pae: bool = False, index: int = 0, memory: mmap.mmap | None = None) -> None:
        super().__init__(pae, memory)
        self.cpu = Cpu(index)
        self.cpu.map_ram(0, RAM, self.host_address)
        self.start(CODE)

    def unmap(self, linear: int) -> int:
        """Clear a page's present bit and flush.  Returns the entry as it was."""
        before = self.entry(linear)
        self.set_entry(linear, before & ~P)
        self.cpu.flush_tlb()
        return before

    def start(self, address: int = CODE, ring: int = 3, paging: bool = True) -> None:
        """A fresh state at an address: flat segments of a ring, stack in the middle of its pages."""
        cpu = self.cpu
        cpu.reset()
        state = cpu.context
        state.eip, state.esp = address, STACK + 0x2000
        state.cr3 = DIRECTORY
        state.cr4 = CR4_SSE | CR4_PSE | (CR4_PAE if self.pae else 0)
        state.efer = EFER_NXE if self.pae else 0
        state.cr0 = CR0_PAGED if paging else CR0_PROTECTED
        code, data = (USER_CODE, USER_DATA) if ring else (KERNEL_CODE, KERNEL_DATA)
        state.set_segment("cs", code, 0, 0xFFFFFFFF, 0xCF9B00 | ring << 13)
        for name in ("ss", "ds", "es", "fs", "gs"):
            state.set_segment(name, data, 0, 0xFFFFFFFF, 0xCF9300 | ring << 13)
        state.set_segment("gdtr", 0, GDT, 0x2F, 0)
        state.set_segment("tr", TASK, TSS, 0x67, 0x8900)
        state.resumes_at = state.passes = -1
        cpu.flush_tlb()

    def load(self, text: str, address: int = CODE, ring: int = 3) -> bytes:
        """Assemble, place, and get ready to run from there."""
        code = assembled(text, address)
        self.poke(address, code)
        self.cpu.drop_all_code()
        self.start(address, ring)
        return code

    def run(self, text: str, ring: int = 3, blocks: int = 10_000, steps: int | None = None) -> Exit:
        """Assemble at CODE and run to the first exit."""
        self.load(text, ring=ring)
        return self.cpu.run(blocks, steps)

"""Memory as a debugger sees it: through the tables, by no access of the CPU, with no effect; and what lies behind."""

from __future__ import annotations

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pte import is_present
from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE, PS


class BadPointer(SandboxError):
    """A call was given an address where nothing is."""

    exit_status = 1


class Peek:
    """Reads of any address space that leave no trace."""

    __slots__ = ("_memory", "_tables")

    def __init__(self, memory: PhysicalMemory, tables: PageTables) -> None:
        self._memory, self._tables = memory, tables

    def peek(self, mm: Mm | None, linear: int, size: int) -> bytes:
        """Bytes at a linear address, None for the kernel's own space; short where nothing is mapped."""
        tables, memory = self._tables, self._memory
        pgd = tables.kernel_pgd if mm is None else mm.pgd
        found = b""
        while size:
            entry = tables.lookup_pte(pgd, linear & 0xFFFFFFFF)
            if not is_present(entry):
                break
            offset = linear & PAGE_SIZE - 1
            if entry & PS and linear >= PAGE_OFFSET:
                physical = (entry & tables.entry_mask & -tables.large_page) + (linear & tables.large_page - 1)
            else:
                physical = tables.pte_pfn(entry) * PAGE_SIZE + offset
            take = min(size, PAGE_SIZE - offset)
            at = memory.host_index(physical)
            found += bytes(memory.bytes[at : at + take])
            linear += take
            size -= take
        return found

    def word(self, linear: int) -> int:
        """The 32-bit word at a kernel address, 0 where nothing is mapped."""
        return int.from_bytes(self.peek(None, linear, 4), "little")

    def kernel_string(self, linear: int, limit: int = PAGE_SIZE) -> bytes:
        """The string at a kernel address, without its NUL; as far as it is mapped, ``limit`` bytes at most.

        Raises BadPointer where nothing is.
        """
        if not self.peek(None, linear, 1):
            raise BadPointer(f"a string at {linear:#010x}, where nothing is mapped")
        found = b""
        while len(found) < limit:
            size = min(PAGE_SIZE - (linear & PAGE_SIZE - 1), limit - len(found))
            piece = self.peek(None, linear, size)
            text, nul, _ = piece.partition(b"\0")
            found += text
            if nul or len(piece) < size:
                break
            linear += size
        return found

    def read_user(self, mm: Mm | None, address: int, size: int) -> bytes:
        """Bytes of a program, also of pages that no access has brought in yet; short where there is no mapping."""
        found = b""
        while mm is not None and size > 0 and address < 1 << 32:
            take = min(size, PAGE_SIZE - address % PAGE_SIZE)
            piece = self.peek(mm, address, take)
            if len(piece) < take:
                piece = _behind(mm, address, take)
            found += piece
            if len(piece) < take:
                break
            address += take
            size -= take
        return found

    def read_string(self, mm: Mm | None, address: int, limit: int = PAGE_SIZE) -> bytes | None:
        """A NUL-terminated string without its NUL; None when it cannot be read as far as that, or is too long."""
        found = b""
        while len(found) < limit:
            take = min(256, PAGE_SIZE - address % PAGE_SIZE)
            piece = self.read_user(mm, address, take)
            head, end, _ = piece.partition(b"\0")
            found += head
            if end:
                return found
            if len(piece) < take:
                return None
            address += take
        return None


def _behind(mm: Mm, address: int, take: int) -> bytes:
    """What a fault would bring: the file's bytes, or zeros."""
    vma = mm.vmas.find(address)
    if vma is None or address < vma.start or not vma.prot:
        return b""
    if vma.inode is None:
        return bytes(take)
    try:
        block = vma.inode.read_block(vma.page_of(address & -PAGE_SIZE))
    except KernelError:
        return b""
    return block.ljust(PAGE_SIZE, b"\0")[address % PAGE_SIZE : address % PAGE_SIZE + take]

"""User access: every byte between a program and the kernel is moved by ``copy_user`` on the CPU.

User addresses are linear and below TASK_SIZE.  Faults on the way are ordinary page faults; where nothing resolves
one, the exception table ends the copy and the residue (bytes not copied) is exact.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, ENAMETOOLONG, KernelError
from sandbox.kernel.arch.cpu import WINDOW_BYTES
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET, TASK_SIZE
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.mm import Process
from sandbox.kernel.vfs.operations import Pieces, parts
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SIZE

PATH_MAX = 4096
STRING_PIECE = 2048
"""Bytes of a long string that one call of the routine reads."""


class UserAccess:
    """Copies between the memory of a task's process and the kernel, on the task's CPU."""

    __slots__ = ("_highmem", "_memory", "_stats", "_unchecked")

    def __init__(self, memory: PhysicalMemory, highmem: Highmem, stats: Stats, broken: Breakage) -> None:
        self._memory, self._highmem, self._stats = memory, highmem, stats
        self._unchecked = broken("no-access-check")

    def clear_user(self, task: Process, address: int, size: int) -> None:
        """Zero bytes of user memory.  Raises KernelError(EFAULT) when not all of it could be reached."""
        cpu = task.cpu
        if cpu.call(cpu.routines.clear_user, ecx=size, edi=address):
            raise KernelError(EFAULT)
        self._stats.bytes_by_guest += size

    def access_ok(self, address: int, size: int) -> bool:
        """The range lies below TASK_SIZE (2.1's form of verify_area)."""
        return address + size <= TASK_SIZE or self._unchecked

    def copy_user(self, task: Process, target: int, source: int, size: int) -> int:
        """Run the copy between two linear addresses; bytes that were not copied."""
        if not size:
            return 0
        cpu = task.cpu
        left = cpu.call(cpu.routines.copy_user, ecx=size, esi=source, edi=target)
        self._stats.bytes_by_guest += size - left
        return left

    def copy_to_user(self, task: Process, address: int, data: bytes) -> int:
        """Bytes of the kernel's own making into user memory; bytes that were not copied."""
        if not self.access_ok(address, len(data)):
            return len(data)
        if 0 < len(data) <= WINDOW_BYTES:
            left = task.cpu.put(address, task.scratch, data)
            self._stats.bytes_by_guest += len(data) - left
            return left
        done = 0
        while done < len(data):
            piece = data[done : done + PAGE_SIZE]
            task.cpu.store(task.scratch, piece)
            left = self.copy_user(task, address + done, task.scratch, len(piece))
            done += len(piece) - left
            if left:
                break
        return len(data) - done

    def put_user(self, task: Process, address: int, data: bytes) -> None:
        """``copy_to_user`` for structures.  Raises KernelError(EFAULT) when not all of it could be stored."""
        if self.copy_to_user(task, address, data):
            raise KernelError(EFAULT)

    def copy_from_user(self, task: Process, address: int, size: int) -> tuple[bytes, int]:
        """What could be read of a user range, and the bytes that could not."""
        if not self.access_ok(address, size):
            return b"", size
        pieces, done = [], 0
        while done < size:
            want = min(PAGE_SIZE, size - done)
            left = self.copy_user(task, task.scratch, address + done, want)
            at = task.scratch - PAGE_OFFSET
            pieces.append(bytes(self._memory.bytes[at : at + want - left]))
            done += want - left
            if left:
                break
        return b"".join(pieces), size - done

    def get_user(self, task: Process, address: int, size: int) -> bytes:
        """``copy_from_user`` for structures.  Raises KernelError(EFAULT) when not all of it could be read."""
        data, left = self.copy_from_user(task, address, size)
        if left:
            raise KernelError(EFAULT)
        return data

    def get_word(self, task: Process, address: int) -> int:
        """One 32-bit word of user memory.  Raises KernelError(EFAULT)."""
        return int.from_bytes(self.get_user(task, address, 4), "little")

    def cmpxchg_user(self, task: Process, address: int, old: int, new: int) -> int:
        """Replace a word of user memory if it is ``old``, as one step for all CPUs; the word that was there.

        Raises KernelError(EFAULT).
        """
        cpu = task.cpu
        if not self.access_ok(address, 4) or cpu.call(
            cpu.routines.cmpxchg_user, eax=old, ecx=new, esi=task.scratch, edi=address
        ):
            raise KernelError(EFAULT)
        return self._memory.words[(task.scratch - PAGE_OFFSET) >> 2]

    def get_string(self, task: Process, address: int, limit: int = PATH_MAX) -> bytes:
        """A NUL-terminated string of at most ``limit`` bytes with its NUL (``limit`` up to 4096).

        Raises KernelError: EFAULT, or ENAMETOOLONG when there is no NUL in the limit.
        """
        found, ended = self._strncpy(task, address, limit)
        if not ended:  # short of the limit, the kernel's addresses begin
            raise KernelError(EFAULT if len(found) < limit else ENAMETOOLONG)
        return found

    def get_long_string(self, task: Process, address: int, limit: int) -> bytes | None:
        """A string of at most ``limit`` bytes with its NUL, None for a longer one.  Raises KernelError(EFAULT)."""
        pieces: list[bytes] = []
        ended, done = False, 0
        while not ended:
            if done >= limit:
                return None
            piece, ended = self._strncpy(task, address + done, min(STRING_PIECE, limit - done))
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)

    def _strncpy(self, task: Process, address: int, limit: int) -> tuple[bytes, bool]:
        """The bytes up to a NUL or the limit (up to 4096), and whether the NUL was there."""
        if address >= TASK_SIZE and not self._unchecked:
            raise KernelError(EFAULT)
        limit = min(limit, PAGE_SIZE, TASK_SIZE - address if address < TASK_SIZE else limit)
        cpu = task.cpu
        length = cpu.call(cpu.routines.strncpy_from_user, ecx=limit, esi=address, edi=task.scratch)
        if length > PAGE_SIZE:
            raise KernelError(EFAULT)
        self._stats.bytes_by_guest += length
        at = task.scratch - PAGE_OFFSET
        return bytes(self._memory.bytes[at : at + length]), length < limit

    def put_device_bytes(self, task: Process, address: int, data: bytes) -> int:
        """Bytes that a device brought, by DMA into the scratch page and on to user memory; the bytes that arrived.

        Raises KernelError(EFAULT) when none did.
        """
        physical, done = task.scratch - PAGE_OFFSET, 0
        while done < len(data):
            piece = data[done : done + PAGE_SIZE]
            self._memory.host_write(physical, piece, Reason.DMA)
            left = self.copy_frame_to_user(task, address + done, physical // PAGE_SIZE, 0, len(piece))
            done += len(piece) - left
            if left:
                break
        if data and not done:
            raise KernelError(EFAULT)
        return done

    def copy_frame_to_user(self, task: Process, address: int, pfn: int, offset: int, size: int) -> int:
        """Part of one frame into user memory; bytes that were not copied."""
        if not self.access_ok(address, size):
            return size
        window = self._highmem.mapper.map(task.cpu, pfn)
        left = self.copy_user(task, address, window + offset, size)
        self._highmem.mapper.unmap(task.cpu, pfn, window)
        if left and not self._highmem.is_low(pfn) and self._fault_in_writeable(task, address + size - left):
            return self.copy_frame_to_user(task, address + size - left, pfn, offset + size - left, left)
        return left

    def copy_frame_from_user(self, task: Process, address: int, pfn: int, offset: int, size: int) -> int:
        """User memory into part of one frame; bytes that were not copied."""
        if not self.access_ok(address, size):
            return size
        window = self._highmem.mapper.map(task.cpu, pfn)
        left = self.copy_user(task, window + offset, address, size)
        self._highmem.mapper.unmap(task.cpu, pfn, window)
        if left and not self._highmem.is_low(pfn) and self._fault_in_readable(task, address + size - left):
            return self.copy_frame_from_user(task, address + size - left, pfn, offset + size - left, left)
        return left

    # While a window is open nothing may sleep, so that a fault there is not answered but ends the copy (Linux's
    # in_atomic in do_page_fault).  The page is touched again without a window, and the copy goes on where it ended.

    def _fault_in_writeable(self, task: Process, address: int) -> bool:
        """Touch a page that is about to be written; its first byte goes, as in fault_in_pages_writeable."""
        return not task.cpu.call(task.cpu.routines.clear_user, ecx=1, edi=address)

    def _fault_in_readable(self, task: Process, address: int) -> bool:
        """Touch a page that is about to be read."""
        return not self.copy_user(task, task.scratch, address, 1)

    def copy_frame_to_vector(self, task: Process, pieces: Pieces, done: int, pfn: int, offset: int, size: int) -> int:
        """Part of one frame to what a vector names after its first ``done`` bytes; bytes that were not copied."""
        for address, part in parts(pieces, done, size):
            left = self.copy_frame_to_user(task, address, pfn, offset, part)
            offset, size = offset + part - left, size - part + left
            if left:
                break
        return size

    def copy_frame_from_vector(self, task: Process, pieces: Pieces, done: int, pfn: int, offset: int, size: int) -> int:
        """What a vector names after its first ``done`` bytes into part of one frame; bytes that were not copied."""
        for address, part in parts(pieces, done, size):
            left = self.copy_frame_from_user(task, address, pfn, offset, part)
            offset, size = offset + part - left, size - part + left
            if left:
                break
        return size

    def gather(self, task: Process, pieces: Pieces) -> tuple[bytes, int]:
        """What could be read of the memory that a vector names, and the bytes that could not."""
        found, wanted = b"", sum(length for _, length in pieces)
        for address, length in pieces:
            data, left = self.copy_from_user(task, address, length)
            found += data
            if left:
                break
        return found, wanted - len(found)

    def scatter_device_bytes(self, task: Process, pieces: Pieces, data: bytes) -> int:
        """``put_device_bytes`` to the memory that a vector names.  Raises KernelError(EFAULT)."""
        done = 0
        for address, part in parts(pieces, 0, len(data)):
            try:
                moved = self.put_device_bytes(task, address, data[done : done + part])
            except KernelError:
                if done:
                    break
                raise
            done += moved
            if moved < part:
                break
        return done

    def copy_frame(self, task: Process, pfn: int, offset: int, source: int, start: int, size: int) -> int:
        """Part of frame ``source`` into part of frame ``pfn``; bytes that were not copied."""
        target = self._highmem.mapper.map(task.cpu, pfn)
        try:
            window = self._highmem.source_mapper.map(task.cpu, source)
        except OutOfMemory:
            self._highmem.mapper.unmap(task.cpu, pfn, target)
            raise
        left = self.copy_user(task, target + offset, window + start, size)
        self._highmem.source_mapper.unmap(task.cpu, source, window)
        self._highmem.mapper.unmap(task.cpu, pfn, target)
        return left

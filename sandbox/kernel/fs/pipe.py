"""Pipes: a ring of pages in guest RAM, of which only the bookkeeping is here.

A pipe has up to 16 slots; a slot is a page frame with ``length`` bytes from ``offset`` on.  A write adds to
the last page if all of its odd part fits there, then takes one page for each 4096 bytes; so up to PIPE_BUF
(4096) bytes always lie together.  A read consumes from the first page, which is freed when it is empty::

    first                          last
    [....dddd] [dddddddd] [dddddddd] [ddd.....]
         ^ read from here               ^ write here

Who calls gives ``move``, which copies between a frame and the program, and ``sleep``.  Both may let other
tasks run: a lock keeps the ring to one task while data move, and none is held while it sleeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandbox.kernel.abi.errno import EAGAIN, EBUSY, EFAULT, EINVAL, EPERM, EPIPE, KernelError
from sandbox.kernel.abi.flags import (
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    S_IFIFO,
)
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.base.wait import Sleep, WaitQueue
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID, Inode
from sandbox.kernel.vfs.operations import FileOperations
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

SLOTS = 16
MAXIMUM_SLOTS = 256
PIPE_DEVICE = makedev(0, 13)

Move = Callable[[int, int, int, int], int]
"""``move(frame, offset, length, done)`` copies ``length`` bytes between ``offset`` in a frame and the place
that is ``done`` bytes into the program's buffer; it returns the bytes that could not be copied."""
Put = Callable[[int, int, int, int], int]
"""``put(frame, offset, length, done)`` hands ``length`` bytes from ``offset`` in a frame to a file, ``done`` bytes
after the first; it returns the bytes that were taken."""


@dataclass(slots=True)
class Slot:
    """One page of the ring: ``length`` bytes from ``offset`` on in frame number ``frame``."""

    frame: int
    offset: int
    length: int
    merge: bool = True
    """A write may add to it: not where splice or tee brought a frame that another ring reads too."""


class Pipe:
    """One pipe.  ``alloc`` gives a frame number (its contents do not matter), ``free`` gives a reference back.

    ``share`` takes one more reference on a frame, so that it can be in two rings.
    """

    def __init__(
        self,
        alloc: Callable[[], int],
        free: Callable[[int], None],
        wake: Callable[[WaitQueue], None],
        share: Callable[[int], None],
    ) -> None:
        self.slots: deque[Slot] = deque()
        self.slot_limit = SLOTS
        self.readers = 0
        self.writers = 0
        self.readable = WaitQueue("data in a pipe")
        self.writable = WaitQueue("room in a pipe")
        self.unlocked = WaitQueue("the lock of a pipe")
        self._locked = False
        self._alloc, self._free, self._wake, self._share = alloc, free, wake, share

    @property
    def available(self) -> int:
        """Bytes that can be read (FIONREAD)."""
        return sum(slot.length for slot in self.slots)

    @property
    def capacity(self) -> int:
        """Bytes that fit when every page is full (F_GETPIPE_SZ)."""
        return self.slot_limit * PAGE_SIZE

    def read(self, size: int, move: Move, sleep: Sleep, nonblock: bool = False) -> int:
        """Bytes read, waiting for the first; 0 when nobody writes any more.

        Raises KernelError: EAGAIN (``nonblock`` and empty), EFAULT, and what ``sleep`` raises.
        """
        done = 0
        while size:
            with self._lock(sleep):
                full = len(self.slots) >= self.slot_limit
                done = self._take(size, move)
                if full and len(self.slots) < self.slot_limit:
                    self._wake(self.writable)
            if done or not self.writers:
                break
            if nonblock:
                raise KernelError(EAGAIN)
            if not self.slots:
                sleep(self.readable)
        return done

    def write(self, size: int, move: Move, sleep: Sleep, nonblock: bool = False) -> int:
        """Bytes written: all of them, unless something happens after the first were.

        If ``readers`` is 0 when it returns or raises, the writer gets SIGPIPE.  Raises KernelError: EPIPE,
        EAGAIN (``nonblock`` and full), EFAULT, and what ``sleep`` raises.
        """
        done = 0
        while done < size:
            try:
                with self._lock(sleep):
                    if not self.readers:
                        raise KernelError(EPIPE)
                    before = done
                    done, fault = self._put(size, done, move)
                    if done > before:
                        self._wake(self.readable)
                if done < size:
                    if fault:
                        raise KernelError(EFAULT)
                    if nonblock:
                        raise KernelError(EAGAIN)
                    if len(self.slots) >= self.slot_limit and self.readers:
                        sleep(self.writable)
            except KernelError:
                if done:
                    return done
                raise
        return done

    # -- splice, tee -----------------------------------------------------------------------------------------------

    def drain(self, size: int, put: Put, sleep: Sleep, nonblock: bool = False) -> int:
        """Bytes that ``put`` took out of the pipe: waits for the first, then takes what is there.

        Raises KernelError: EAGAIN, and before the first byte what ``put`` and ``sleep`` raise.
        """
        while True:
            with self._lock(sleep):
                if self.slots:
                    return self._drain(size, put)
            if not self.writers:
                return 0
            if nonblock:
                raise KernelError(EAGAIN)
            sleep(self.readable)

    def wait_for_room(self, sleep: Sleep, nonblock: bool = False) -> None:
        """Until a page fits.  Raises KernelError: EPIPE, EAGAIN, and what ``sleep`` raises."""
        while True:
            if not self.readers:
                raise KernelError(EPIPE)
            if len(self.slots) < self.slot_limit:
                return
            if nonblock:
                raise KernelError(EAGAIN)
            sleep(self.writable)

    def move_to(self, out: Pipe, size: int, sleep: Sleep, nonblock: bool = False) -> int:
        """Hand up to ``size`` bytes on: frames change the ring, no byte moves.  Raises like ``write``."""
        self._wait_for_both(out, sleep, nonblock)
        done = 0
        while self.slots and done < size and len(out.slots) < out.slot_limit:
            slot = self.slots[0]
            if slot.length <= size - done:
                out.slots.append(self.slots.popleft())
                done += slot.length
            else:
                out.slots.append(self._shared(slot, size - done))
                slot.offset += size - done
                slot.length -= size - done
                done = size
        if done:
            self._wake(self.writable)
            out._wake(out.readable)
        return done

    def tee_to(self, out: Pipe, size: int, sleep: Sleep, nonblock: bool = False) -> int:
        """The same, with what was handed on still here: each frame is in both rings.  Raises like ``write``."""
        self._wait_for_both(out, sleep, nonblock)
        done = 0
        for slot in list(self.slots):
            if done == size or len(out.slots) >= out.slot_limit:
                break
            length = min(slot.length, size - done)
            out.slots.append(self._shared(slot, length))
            done += length
        if done:
            out._wake(out.readable)
        return done

    def _shared(self, slot: Slot, length: int) -> Slot:
        self._share(slot.frame)
        return Slot(slot.frame, slot.offset, length, merge=False)

    def _wait_for_both(self, out: Pipe, sleep: Sleep, nonblock: bool) -> None:
        """Until there are bytes here, or will be none any more, and ``out`` has room; both rings are at rest then."""
        while True:
            if self.slots or not self.writers:
                out.wait_for_room(sleep, nonblock)
                busy = next((each for each in (self, out) if each._locked), None)
                if busy is None and (self.slots or not self.writers):
                    return
                if busy is not None:
                    sleep(busy.unlocked)
            elif nonblock:
                raise KernelError(EAGAIN)
            else:
                sleep(self.readable)

    def _drain(self, size: int, put: Put) -> int:
        done, full = 0, len(self.slots) >= self.slot_limit
        try:
            while self.slots and done < size:
                slot = self.slots[0]
                length = min(slot.length, size - done)
                moved = put(slot.frame, slot.offset, length, done)
                self._consume(slot, moved)
                done += moved
                if moved < length:
                    break
        except KernelError:
            if not done:
                raise
        if full and len(self.slots) < self.slot_limit:
            self._wake(self.writable)
        return done

    def _consume(self, slot: Slot, length: int) -> None:
        slot.offset += length
        slot.length -= length
        if not slot.length:
            self.slots.popleft()
            self._free(slot.frame)

    # -- ends ------------------------------------------------------------------------------------------------------

    def open_end(self, writing: bool) -> None:
        """An open file description for one end exists from now on."""
        if writing:
            self.writers += 1
        else:
            self.readers += 1

    def close_end(self, writing: bool) -> None:
        """An open file description is gone; who waits at the other end learns it, the last frees the ring."""
        if writing:
            self.writers -= 1
        else:
            self.readers -= 1
        if not self.readers and not self.writers:
            while self.slots:
                self._free(self.slots.popleft().frame)
        self._wake(self.readable)
        self._wake(self.writable)

    def resize(self, size: int) -> int:
        """F_SETPIPE_SZ: the new capacity, a power of two of pages.

        Raises KernelError(EBUSY, EINVAL, EPERM).
        """
        if not 0 <= size < 1 << 31:
            raise KernelError(EINVAL)
        limit = 1 << (max(size - 1, 0) // PAGE_SIZE).bit_length()
        if limit > MAXIMUM_SLOTS:
            raise KernelError(EPERM)
        if limit < len(self.slots):
            raise KernelError(EBUSY)
        self.slot_limit = limit
        self._wake(self.writable)
        return self.capacity

    def poll(self, writing: bool) -> int:
        """POLL* bits of one end."""
        if writing:
            return (POLLOUT if len(self.slots) < self.slot_limit else 0) | (0 if self.readers else POLLERR)
        return (POLLIN if self.slots else 0) | (0 if self.writers else POLLHUP)

    def _take(self, size: int, move: Move) -> int:
        done = 0
        while self.slots and done < size:
            slot = self.slots[0]
            length = min(slot.length, size - done)
            if move(slot.frame, slot.offset, length, done):
                if not done:
                    raise KernelError(EFAULT)
                break
            self._consume(slot, length)
            done += length
        return done

    def _put(self, size: int, done: int, move: Move) -> tuple[int, bool]:
        """Bytes written so far, and whether a fault of the program's memory ended it."""
        odd = size % PAGE_SIZE
        if not done and odd and self.slots:
            last = self.slots[-1]
            end = last.offset + last.length
            if last.merge and end + odd <= PAGE_SIZE:
                if move(last.frame, end, odd, 0):
                    return 0, True
                last.length += odd
                done = odd
        while done < size and len(self.slots) < self.slot_limit:
            length = min(PAGE_SIZE, size - done)
            frame = self._alloc()
            try:
                left = move(frame, 0, length, done)
            except BaseException:
                self._free(frame)
                raise
            if left:
                self._free(frame)
                return done, True
            self.slots.append(Slot(frame, 0, length))
            done += length
        return done, False

    @contextmanager
    def _lock(self, sleep: Sleep) -> Iterator[None]:
        while self._locked:
            sleep(self.unlocked)
        self._locked = True
        try:
            yield
        finally:
            self._locked = False
            self._wake(self.unlocked)


class PipeInode(Inode):
    """The inode that both ends of a pipe share."""

    kind = S_IFIFO

    def __init__(self, ino: int, pipe: Pipe, f_op: FileOperations) -> None:
        self.ino = ino
        self.pipe = pipe
        self._f_op = f_op
        self.name = f"pipe:[{ino}]"

    def operations(self) -> FileOperations:
        return self._f_op

    def stat(self) -> Stat:
        return self.aged(Stat(dev=PIPE_DEVICE, ino=self.ino, mode=S_IFIFO | 0o600, uid=GUEST_UID, gid=GUEST_GID))

    def opened(self, file: File) -> None:
        self.pipe.open_end(file.writable)

    def released(self, file: File) -> None:
        self.pipe.close_end(file.writable)


def make_pipe(ino: int, pipe: Pipe, f_op: FileOperations, flags: int = 0) -> tuple[File, File]:
    """The open files of pipe(2): for reading and for writing; of ``flags`` O_NONBLOCK counts."""
    inode = PipeInode(ino, pipe, f_op)
    flags &= O_NONBLOCK
    return File(inode, O_RDONLY | flags), File(inode, O_WRONLY | flags)

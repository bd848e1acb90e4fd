"""Pipes: pipe(7)'s rules, with greenlets as tasks and a bytearray as guest RAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from greenlet import getcurrent, greenlet
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.fs.pipe import PAGE_SIZE, SLOTS, Move, Pipe, make_pipe
from sandbox.kernel.vfs.operations import NO_OPERATIONS


class Machine:
    """RAM, a frame allocator that knows double frees, and a scheduler that runs tasks in a given order."""

    def __init__(self, frames: int = 64) -> None:
        self.ram = bytearray(frames * PAGE_SIZE)
        self.free_frames = set(range(frames))
        self.shared: Counter[int] = Counter()
        """References beyond the first."""
        self.ready: list[greenlet] = []
        self.hub = getcurrent()
        self.pipe = Pipe(self.free_frames.pop, self.free, self.wake, self.share)
        self.pipe.open_end(False)
        self.pipe.open_end(True)

    def share(self, frame: int) -> None:
        assert frame not in self.free_frames
        self.shared[frame] += 1

    def free(self, frame: int) -> None:
        assert frame not in self.free_frames
        if self.shared[frame]:
            self.shared[frame] -= 1
        else:
            self.free_frames.add(frame)

    def wake(self, queue: WaitQueue) -> None:
        self.ready += queue.tasks
        queue.tasks.clear()

    def sleep(self, queue: WaitQueue) -> None:
        if getcurrent() is self.hub:
            raise KernelError(errno.ERESTARTSYS)
        queue.tasks.append(getcurrent())
        self.hub.switch()

    def pause(self) -> None:
        """What a fault does in the middle of a copy: other tasks run."""
        if getcurrent() is not self.hub:
            self.ready.append(getcurrent())
            self.hub.switch()

    def put(self, data: bytes, limit: int | None = None) -> Move:
        """A program's buffer to write from; behind ``limit`` bytes its memory cannot be read."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            self.pause()
            good = length if limit is None else max(0, min(length, limit - done))
            at = frame * PAGE_SIZE + offset
            assert frame not in self.free_frames and offset + length <= PAGE_SIZE
            self.ram[at : at + good] = data[done : done + good]
            return length - good

        return move

    def get(self, buffer: bytearray, limit: int | None = None) -> Move:
        """A program's buffer to read into."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            self.pause()
            good = length if limit is None else max(0, min(length, limit - done))
            at = frame * PAGE_SIZE + offset
            assert frame not in self.free_frames and offset + length <= PAGE_SIZE
            buffer[done : done + good] = self.ram[at : at + good]
            return length - good

        return move

    def write(self, data: bytes, nonblock: bool = True, limit: int | None = None) -> int:
        return self.pipe.write(len(data), self.put(data, limit), self.sleep, nonblock)

    def read(self, size: int, nonblock: bool = True, limit: int | None = None) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.pipe.read(size, self.get(buffer, limit), self.sleep, nonblock)])


def fails(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


class TestRing:
    def test_order_and_merging(self) -> None:
        machine = Machine()
        machine.write(b"abc")
        machine.write(b"defgh")
        assert len(machine.pipe.slots) == 1
        assert machine.pipe.available == 8
        assert machine.read(4) == b"abcd"
        assert machine.read(99) == b"efgh"
        assert not machine.pipe.slots

    def test_capacity_is_64_kilobytes(self) -> None:
        machine = Machine()
        assert machine.write(bytes(70000)) == 65536 == machine.pipe.capacity
        assert fails(lambda: machine.write(b"x")) == errno.EAGAIN
        assert machine.read(1) == b"\0"
        assert fails(lambda: machine.write(bytes(4096))) == errno.EAGAIN
        machine.read(4095)
        assert machine.write(bytes(4096)) == 4096

    def test_up_to_pipe_buf_all_or_nothing(self) -> None:
        machine = Machine()
        machine.write(bytes(SLOTS * PAGE_SIZE - 10))
        assert fails(lambda: machine.write(bytes(11))) == errno.EAGAIN
        assert machine.write(bytes(10)) == 10

    def test_frames_come_back(self) -> None:
        machine = Machine()
        machine.write(bytes(30000))
        machine.read(5000)
        machine.pipe.close_end(False)
        machine.pipe.close_end(True)
        assert len(machine.free_frames) == 64

    def test_resize(self) -> None:
        machine = Machine()
        machine.write(bytes(20000))
        assert fails(lambda: machine.pipe.resize(8192)) == errno.EBUSY
        assert machine.pipe.resize(20001) == 32768
        assert machine.pipe.resize(1 << 20) == 1 << 20
        assert fails(lambda: machine.pipe.resize(1 << 21)) == errno.EPERM
        assert fails(lambda: machine.pipe.resize(-1)) == errno.EINVAL
        machine.read(20000)
        assert machine.pipe.resize(0) == 4096


class TestEnds:
    def test_end_of_file(self) -> None:
        machine = Machine()
        machine.write(b"last")
        machine.pipe.close_end(True)
        assert (machine.read(9), machine.read(9)) == (b"last", b"")

    def test_nobody_reads(self) -> None:
        machine = Machine()
        machine.pipe.close_end(False)
        assert fails(lambda: machine.write(b"x")) == errno.EPIPE
        assert machine.write(b"") == 0

    def test_empty(self) -> None:
        machine = Machine()
        assert fails(lambda: machine.read(1)) == errno.EAGAIN
        assert fails(lambda: machine.read(1, nonblock=False)) == errno.ERESTARTSYS
        assert machine.read(0) == b""

    def test_poll(self) -> None:
        machine = Machine()
        assert (machine.pipe.poll(False), machine.pipe.poll(True)) == (0, POLLOUT)
        machine.write(bytes(65536))
        assert (machine.pipe.poll(False), machine.pipe.poll(True)) == (POLLIN, 0)
        machine.pipe.close_end(True)
        assert machine.pipe.poll(False) == POLLIN | POLLHUP
        machine.pipe.close_end(False)
        assert machine.pipe.poll(True) & POLLERR

    def test_open_files(self) -> None:
        machine = Machine()
        pipe = Pipe(machine.free_frames.pop, machine.free, machine.wake, machine.share)
        reader, writer = make_pipe(7, pipe, NO_OPERATIONS, O_NONBLOCK)
        assert (pipe.readers, pipe.writers) == (1, 1)
        assert reader.inode is writer.inode
        assert (reader.readable, writer.writable, reader.flags) == (True, True, O_NONBLOCK)
        reader.get().put()
        assert (pipe.readers, pipe.writers) == (0, 1)
        assert fails(lambda: writer.seek(0, 0)) == errno.ESPIPE


class TestFaults:
    def test_writing_from_bad_memory(self) -> None:
        machine = Machine()
        assert fails(lambda: machine.write(bytes(10), limit=5)) == errno.EFAULT
        assert machine.write(bytes(9000), limit=5000) == 4096
        assert machine.pipe.available == 4096
        machine.write(b"x")
        assert fails(lambda: machine.write(b"merged", limit=2)) == errno.EFAULT
        assert machine.pipe.available == 4097
        assert len(machine.free_frames) == 62

    def test_reading_into_bad_memory_loses_nothing(self) -> None:
        machine = Machine()
        machine.write(bytes(range(200)) * 50)
        assert fails(lambda: machine.read(10, limit=5)) == errno.EFAULT
        assert len(machine.read(9000, limit=5000)) == 4096
        assert machine.read(2) == bytes((4096 % 200, 4096 % 200 + 1))

    def test_no_frame_left(self) -> None:
        machine = Machine(frames=2)

        def write() -> int:
            return machine.write(bytes(4096 * 3))

        with pytest.raises(KeyError):
            write()
        assert machine.pipe.available == 8192
        assert len(machine.read(9999)) == 8192
        assert machine.write(b"the lock is free") == 16


messages = st.lists(st.integers(1, 9000), min_size=1, max_size=12)
reads = st.lists(st.integers(1, 20000), min_size=1)


@settings(deadline=None, max_examples=150)
@given(st.lists(messages, min_size=1, max_size=3), reads, st.randoms())
def test_writers_and_readers(lengths: list[list[int]], sizes: list[int], order: Random) -> None:
    """Switched at every copy: no message up to PIPE_BUF is torn, and each writer's order is kept."""
    machine = Machine()
    pipe = machine.pipe
    received = bytearray()
    total = sum(map(sum, lengths))

    def message(writer: int, number: int, length: int) -> bytes:
        return bytes((writer * 16 + number,)) * length

    def writer(index: int) -> None:
        for number, length in enumerate(lengths[index]):
            assert machine.write(message(index, number, length), nonblock=False) == length
        pipe.close_end(True)

    def reader() -> None:
        turn = 0
        while data := machine.read(sizes[turn % len(sizes)], nonblock=False):
            received.extend(data)
            turn += 1

    pipe.writers = len(lengths)
    machine.ready = [greenlet(partial(writer, index)) for index in range(len(lengths))]
    machine.ready.append(greenlet(reader))
    while machine.ready:
        position = order.randrange(len(machine.ready))
        machine.ready.pop(position).switch()
    assert len(received) == total
    pipe.close_end(False)
    assert len(machine.free_frames) == 64
    for index, each in enumerate(lengths):
        mine = bytes(byte for byte in received if byte // 16 == index)
        assert mine == b"".join(message(index, number, length) for number, length in enumerate(each))
        for number, length in enumerate(each):
            if length <= 4096:
                assert message(index, number, length) in received

"""Standard streams and memory devices; a pipe of the host stands for its standard streams."""

from __future__ import annotations

import fcntl
import os
import pty

import pytest

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT, S_IFCHR, S_IFIFO, S_IFMT
from sandbox.kernel.drivers.chrdev import memory_devices
from sandbox.kernel.drivers.console import (
    BytesSource,
    CaptureSink,
    Console,
    HostSink,
    HostSource,
    standard_streams,
)
from sandbox.kernel.process.stdio import standard_files
from sandbox.kernel.vfs.operations import NO_OPERATIONS
from sandbox.runner.run import run_program
from sandbox.runner.session import Streams
from tests.conftest import Program


def test_buffers() -> None:
    output, error = CaptureSink(), CaptureSink()
    stdin, stdout, stderr = standard_streams(NO_OPERATIONS, BytesSource(b"hello"), output, error)
    assert (stdin.read_bytes(3), stdin.read_bytes(9), stdin.read_bytes(9)) == (b"hel", b"lo", b"")
    assert stdout.write_bytes(b"out") == 3
    stderr.write_bytes(b"err")
    assert (bytes(output.data), bytes(error.data)) == (b"out", b"err")
    assert stdin.stat().mode & S_IFMT == S_IFIFO
    assert not stdin.is_terminal
    assert (stdin.ready_mask(), stdout.ready_mask()) == (POLLIN, POLLOUT)


def test_wrong_direction_and_full() -> None:
    stdin, stdout, _ = standard_streams(NO_OPERATIONS, BytesSource(), CaptureSink(limit=4), CaptureSink())
    stdout.write_bytes(b"1234")
    for call, error in (
        (lambda: stdin.write_bytes(b"x"), errno.EBADF),
        (lambda: stdout.read_bytes(1), errno.EBADF),
        (lambda: stdout.write_bytes(b"5"), errno.ENOSPC),
    ):
        with pytest.raises(KernelError) as caught:
            call()
        assert caught.value.errno == error


def test_host_descriptors() -> None:
    reading, writing = os.pipe()
    console = Console(1, "both", NO_OPERATIONS, HostSource(reading), HostSink(writing))
    try:
        assert console.ready_mask() == POLLOUT
        assert console.write_bytes(b"x" * 5000) == 5000
        assert console.ready_mask() == POLLIN | POLLOUT
        assert console.read_bytes(9999) == b"x" * 5000
    finally:
        os.close(reading)
    try:
        with pytest.raises(KernelError) as caught:
            console.write_bytes(b"nobody reads this")
        assert caught.value.errno == errno.EPIPE
    finally:
        os.close(writing)


def test_terminal() -> None:
    main, side = pty.openpty()
    try:
        console = Console(1, "tty", NO_OPERATIONS, HostSource(side), HostSink(side), side)
        assert console.is_terminal
        assert console.stat().mode & S_IFMT == S_IFCHR
        assert len(console.window_size()) == 2
    finally:
        os.close(main)
        os.close(side)


def test_standard_files() -> None:
    table = standard_files(standard_streams(NO_OPERATIONS, BytesSource(), CaptureSink(), CaptureSink()))
    modes = [(fd, file.readable, file.writable) for fd, file in table]
    assert modes == [(0, True, False), (1, False, True), (2, False, True)]


def test_memory_devices() -> None:
    devices, same, other = (memory_devices(NO_OPERATIONS, seed) for seed in (1, 1, 2))
    null, zero, full = devices[b"null"], devices[b"zero"], devices[b"full"]
    assert (null.read_bytes(5), null.write_bytes(b"abc")) == (b"", 3)
    assert (zero.read_bytes(5), len(zero.read_bytes(1 << 30))) == (bytes(5), 1 << 16)
    with pytest.raises(KernelError) as caught:
        full.write_bytes(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert devices[b"urandom"].read_bytes(16) == same[b"urandom"].read_bytes(16) != other[b"urandom"].read_bytes(16)
    assert null.stat().rdev == 0x103
    null.truncate(0)


def test_output_that_nobody_takes_is_looked_after() -> None:
    """A pipe that is full and not read: ``look`` is asked, and what it raises ends the wait."""
    reading, writing = os.pipe()
    sink, looks = HostSink(writing), []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise TimeoutError

    sink.look = look
    with pytest.raises(TimeoutError):
        sink(bytes(1 << 20))
    assert len(os.read(reading, 1 << 20)) == fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.close(reading)
    os.close(writing)


def test_nobody_reads_the_output_any_more(program: Program) -> None:
    """write(2): SIGPIPE beside EPIPE, as natively before ``head -1``; ignored, EPIPE is left."""

    def gone(data: bytes) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    write = 'sys write, 1, "offset line", 2'
    data = '.data\nline: .ascii "y\\n"\n'
    ended = run_program("t", program(f"_start: {write}\n pass\n{data}"), streams=Streams(stdout=gone))
    assert (ended.signal, ended.error) == (13, "")
    ignores = f".set SYS_signal, 48\n_start: sys signal, 13, 1\n {write}\n expect eax, -32, 1\n pass\n{data}"
    kept = run_program("t", program(ignores), streams=Streams(stdout=gone))
    assert (kept.signal, kept.status) == (0, 0)

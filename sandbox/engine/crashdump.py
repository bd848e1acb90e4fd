"""What a worker leaves behind for its parent: where its CPUs keep their state, so that its death can be explained.

A worker that a fatal signal has stopped (``stubs.stop_on``) is read through ``/proc/<pid>/mem``: which CPU ran, which
block it had entered last, and that block's bytes through the guest's own page tables.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sandbox.engine import context as ctx
from sandbox.engine import stubs
from sandbox.engine.library import NO_ADDRESS
from sandbox.x86.instruction import LONGEST_INSTRUCTION

_DUMP_SIZE = 1 << 16
_HEAD, _CPU, _RANGE = struct.Struct("<QQI"), struct.Struct("<QQQI"), struct.Struct("<QQQ")
_MOST_BYTES = 64


class OpenHandle(Protocol):
    """What a dump tells of an engine handle: its pad, the size of its CPU's state, and its RAM."""

    pad: stubs.HookPad
    pad_address: int
    state_size: int
    ram: list[tuple[int, int, int]]


_handles: weakref.WeakSet[OpenHandle] = weakref.WeakSet()
_mine: CrashDump | None = None


@dataclass(frozen=True, slots=True)
class LastSeen:
    """A running CPU at its end: the signal, the EIP it was started at, the block entered last with its bytes.

    Addresses are linear; ``block`` is None before the first one.
    """

    signal: int
    started_at: int
    block: int | None
    code: bytes


def register(handle: OpenHandle) -> None:
    """An engine handle is new in this process, or has new RAM."""
    _handles.add(handle)
    if _mine is not None:
        _mine.update()


def keep(dump: CrashDump) -> None:
    """From now on this process is a worker and writes to a dump that its parent holds too."""
    global _mine
    _mine = dump
    dump.update()


class CrashDump:
    """Shared memory with the addresses of every open handle's pad, CPU state and RAM."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _DUMP_SIZE)

    def update(self) -> None:
        """Write down this process's handles."""
        if not stubs.native_host():
            return
        entries = []
        for handle in _handles:
            head = _CPU.pack(handle.pad_address, handle.pad.env or 0, handle.state_size, len(handle.ram))
            entries.append(head + b"".join(_RANGE.pack(*each) for each in handle.ram))
        links = stubs.link_address("running"), stubs.link_address("fatal_signal")
        text = _HEAD.pack(*links, len(entries)) + b"".join(entries)
        if len(text) <= _DUMP_SIZE:
            self._memory[: len(text)] = text

    def read(self, pid: int) -> LastSeen | None:
        """What a stopped process was at; None if no CPU ran, or the host forbids to look."""
        try:
            descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        except OSError:
            return None
        try:
            return self._read(lambda address, size: os.pread(descriptor, size, address))
        except (OSError, struct.error):
            return None
        finally:
            os.close(descriptor)

    def _read(self, host: Callable[[int, int], bytes]) -> LastSeen | None:
        running_at, signal_at, count = _HEAD.unpack_from(self._memory, 0)
        if not running_at:
            return None
        (running,), (number,) = (struct.unpack("<Q", host(at, 8)) for at in (running_at, signal_at))
        at = _HEAD.size
        for _ in range(count):
            pad, env, state_size, ranges = _CPU.unpack_from(self._memory, at)
            at += _CPU.size
            ram = [_RANGE.unpack_from(self._memory, at + each * _RANGE.size) for each in range(ranges)]
            at += ranges * _RANGE.size
            if pad != running:
                continue
            words = struct.unpack(f"<{ctypes.sizeof(stubs.HookPad) // 8}Q", host(pad, ctypes.sizeof(stubs.HookPad)))
            context = words[stubs.PAD_CONTEXT] + ctx.BLOB_HEADER
            started = struct.unpack("<I", host(context + 8 * ctx.EIP, 4))[0]
            block, end = words[stubs.PAD_FIRST], words[stubs.PAD_END]
            state = host(env, state_size)
            if block == NO_ADDRESS:
                return LastSeen(number, started, None, _guest_bytes(host, state, ram, started, LONGEST_INSTRUCTION))
            return LastSeen(
                number, started, block, _guest_bytes(host, state, ram, block, min(end - block, _MOST_BYTES))
            )
        return None


def _guest_bytes(
    host: Callable[[int, int], bytes], state: bytes, ram: list[tuple[int, int, int]], linear: int, size: int
) -> bytes:
    """Guest memory from a linear address on, as far as it can be read."""
    from sandbox.x86.walk import ENGINE, Access, walk

    def physical(address: int, width: int) -> int:
        for first, length, at in ram:
            if first <= address <= first + length - width:
                return int.from_bytes(host(at + address - first, width), "little")
        raise LookupError

    cr0, _, _, cr3, cr4 = struct.unpack_from("<5Q", state, 8 * ctx.CR0)
    efer = struct.unpack_from("<Q", state, 8 * ctx.EFER)[0]
    read = bytearray()
    with contextlib.suppress(LookupError):
        for address in range(linear, linear + size):
            found = walk(
                physical, cr3, address & 0xFFFFFFFF, Access(fetch=True), cr0=cr0, cr4=cr4, efer=efer, profile=ENGINE
            )
            if found.physical is None:
                break
            read.append(physical(found.physical, 1))
    return bytes(read)

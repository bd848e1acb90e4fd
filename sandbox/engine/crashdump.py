"""What a worker leaves behind for its parent: where its CPUs keep their state, so that its death can be explained.

A worker that a fatal signal has stopped (``stubs.stop_on``) is read through ``/proc/<pid>/mem``: which CPU ran, which
block it had entered last, and that block's bytes through the guest's own page tables.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from sandbox.engine import context as ctx
from sandbox.engine import stubs
from sandbox.engine.library import NO_ADDRESS
from sandbox.records import dataclass
from sandbox.x86.instruction import LONGEST_INSTRUCTION

_DUMP_SIZE = 1 << 16
_MOST_BYTES = 64
Host = Callable[[int, int], bytes]
"""Reads another process: address and size."""


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
        from sandbox.engine import crashlayout

        self._memory = mmap.mmap(-1, _DUMP_SIZE)
        self._layout = crashlayout

    def update(self) -> None:
        """Write down this process's handles."""
        if not stubs.native_host():
            return
        text: bytes = self._layout.DUMP.build(
            {
                "running_at": stubs.link_address("running"),
                "signal_at": stubs.link_address("fatal_signal"),
                "handles": [_record(handle) for handle in _handles],
            }
        )
        if len(text) <= _DUMP_SIZE:
            self._memory[: len(text)] = text

    def read(self, pid: int) -> LastSeen | None:
        """What a stopped process was at; None if no CPU ran, or the host forbids to look."""
        from construct import ConstructError

        try:
            descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        except OSError:
            return None
        try:
            return self._read(lambda address, size: os.pread(descriptor, size, address))
        except (OSError, ConstructError, ValueError, OverflowError):
            return None
        finally:
            os.close(descriptor)

    def _read(self, host: Host) -> LastSeen | None:
        dump = self._layout.DUMP.parse(self._memory[:])
        if not dump.running_at:
            return None
        running, number = (self._layout.QUAD.parse(host(at, 8)) for at in (dump.running_at, dump.signal_at))
        for handle in dump.handles:
            if handle.pad == running:
                return self._last_seen(host, handle, number)
        return None

    def _last_seen(self, host: Host, handle: Any, number: int) -> LastSeen:
        pad = stubs.HookPad.from_buffer_copy(host(handle.pad, ctypes.sizeof(stubs.HookPad)))
        started = self._layout.WORD.parse(host((pad.context or 0) + ctx.BLOB_HEADER + 8 * ctx.EIP, 4))
        block = None if pad.first == NO_ADDRESS else pad.first
        size = LONGEST_INSTRUCTION if block is None else min(pad.end - block, _MOST_BYTES)
        state = self._layout.PAGING.parse(host(handle.env, handle.state_size))
        code = _guest_bytes(host, state, handle.ram, started if block is None else block, size)
        return LastSeen(number, started, block, code)


def _record(handle: OpenHandle) -> dict[str, object]:
    """A handle as the layout names it."""
    return {
        "pad": handle.pad_address,
        "env": handle.pad.env or 0,
        "state_size": handle.state_size,
        "ram": [{"first": first, "size": size, "host": host} for first, size, host in handle.ram],
    }


def _guest_bytes(host: Host, state: Any, ram: Any, linear: int, size: int) -> bytes:
    """Guest memory from a linear address on, as far as it can be read."""
    from sandbox.x86.walk import ENGINE, Access, walk

    def physical(address: int, width: int) -> int:
        for each in ram:
            if each.first <= address <= each.first + each.size - width:
                return int.from_bytes(host(each.host + address - each.first, width), "little")
        raise LookupError

    cr0, cr3, cr4, efer = state.cr0, state.cr3, state.cr4, state.efer
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

"""``siginfo_t`` of Linux i386: 128 bytes, three words and a union that the code decides."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from

from sandbox.records import dataclass, field

SIGINFO_BYTES = 128
_HEAD_BYTES = 12
CLOCK_TICK = 10_000_000
"""Nanoseconds of a ``clock_t``."""


@dataclass(frozen=True, slots=True)
class SigInfo:
    """One signal and what is known of it; ``union`` is what follows the first three words."""

    signo: int
    code: int
    union: bytes = b""
    errno: int = 0
    taken: Callable[[SigInfo], SigInfo | None] | None = field(default=None, compare=False, repr=False)
    """What is to be done when it leaves the queue, and gives what is delivered: a timer counts its overruns then,
    or has been set anew meanwhile (None)."""

    @classmethod
    def sent(cls, signo: int, code: int, pid: int, uid: int = 0, value: int = 0) -> SigInfo:
        """By a process: kill, tkill, sigqueue."""
        return cls(signo, code, pack("<3I", pid, uid, value & 0xFFFFFFFF))

    @classmethod
    def fault(cls, signo: int, code: int, address: int) -> SigInfo:
        """By an instruction; ``address`` is linear: the operand's, or the instruction's own."""
        return cls(signo, code, pack("<I", address))

    @classmethod
    def child(cls, signo: int, code: int, pid: int, uid: int, status: int, user: int, system: int) -> SigInfo:
        """By a child's end, stop or continuation; ``user`` and ``system`` are its times in nanoseconds."""
        ticks = (each // CLOCK_TICK & 0x7FFFFFFF for each in (user, system))
        return cls(signo, code, pack("<2I3i", pid, uid, status, *ticks))

    @property
    def pid(self) -> int:
        """Of who sent it, if a process did."""
        return int.from_bytes(self.union[:4], "little")

    @classmethod
    def unpack(cls, data: bytes) -> SigInfo:
        signo, errno, code = unpack_from("<3i", data)
        return cls(signo, code, data[_HEAD_BYTES:], errno)

    def pack(self) -> bytes:
        return (pack("<3i", self.signo, self.errno, self.code) + self.union).ljust(SIGINFO_BYTES, b"\0")

"""sigreturn from frames of random bytes: the program may lose its way, never its ring, and nothing else suffers."""

from __future__ import annotations

import random
import struct

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.kernel.task.sigframe import SignalFrames
from sandbox.kernel.task.task import Task
from sandbox.runner.run import Session, Streams
from tests.conftest import Program

FRAMES, ROOM = 1500, 4096
BODY = f"""
_start: sys mmap2, 0x30000000, {8 * ROOM}, 3, 0x32, -1, 0
1:      mov     edi, 0x30000000 + 2 * {ROOM}
2:      sys     read, 0, edi, {ROOM}
        test    eax, eax
        jz      9f
        fork_to child
        mov     ebp, eax
        push    0
        push    0
        mov     dword ptr [esp+4], 200000   # let it run for a while
        sys     nanosleep, esp, 0
        add     esp, 8
        mov     eax, 37
        mov     ebx, ebp
        mov     ecx, 9
        int     0x80
        sys     waitpid, ebp, 0, 0
        jmp     1b
9:      pass
child:  mov     esp, 0x30000000 + 2 * {ROOM} + 8
        movzx   eax, byte ptr [edi]
        test    al, 1
        mov     eax, 119
        jz      1f
        mov     eax, 173
        sub     esp, 4
1:      int     0x80
        jmp     child
"""


def frame(rng: random.Random) -> bytes:
    """Random bytes, or a sane context with one field gone wild; the FPU's state somewhere or nowhere."""
    data = bytearray(rng.randbytes(ROOM))
    if rng.random() < 0.7:
        base = 0x30000000 + 2 * ROOM
        fields = [0, 0, 0x2B, 0x2B, 1, 2, 3, base + 512, 4, 5, 6, 7, 0, 0, 0x08048000, 0x23, 0x202, base + 512, 0x2B,
                  base + 64 * rng.randrange(24), 0, 0]  # fmt: skip
        fields[rng.randrange(len(fields))] = rng.choice((0, 8, 0x10, 0x18, 0x33, 0xFFFF, rng.getrandbits(32)))
        packed = struct.pack("<22I", *(each & 0xFFFFFFFF for each in fields))
        at = 8 if not data[0] & 1 else 4 + 16 + 128 + 20 - 8
        data[at : at + len(packed)] = packed
    return bytes(data)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_frames(program: Program, paging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(paging)
    seen = 0

    def watched(original: object) -> object:
        def restore(frames: SignalFrames, task: Task) -> int:
            nonlocal seen
            seen += 1
            try:
                return original(frames, task)  # type: ignore[operator,no-any-return]
            finally:
                assert task.context.cpl == 3
                assert task.context.eflags & 0x3000 == 0
                assert task.context.eflags & 0x200

        return restore

    for name in ("restore_old_frame", "restore_rt_frame"):
        monkeypatch.setattr(SignalFrames, name, watched(getattr(SignalFrames, name)))
    config = KernelConfig(paging=paging, time_limit=60, block_limit=FRAMES * 1_000_000)
    source = BytesSource(b"".join(frame(rng) for _ in range(FRAMES)))
    with Session("hostile", program(BODY), (), config, Streams(source)) as session:
        result = session.finish()
    assert result.passed, (result.error, result.detail, result.deaths[-1:])
    assert seen >= FRAMES

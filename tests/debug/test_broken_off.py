"""Functions that return elsewhere, and code that was broken off: by a signal's handler, on its own stack too."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import resolve
from tests.conftest import Program
from tests.debug.test_travel import remote

ELSEWHERE = """
_start: call sub
back:   nop
other:  mov eax, 1
        xor ebx, ebx
        int 0x80
sub:    push ebp
        mov ebp, esp
        add dword ptr [ebp + 4], 1
        pop ebp
        ret
"""
SIGNAL = """
        .equ SIGALTSTACK, 186
_start: mov eax, SIGALTSTACK
        mov ebx, offset stack
        xor ecx, ecx
        int 0x80
        mov eax, 174                    # rt_sigaction of SIGSEGV
        mov ebx, 11
        mov ecx, offset action
        xor edx, edx
        mov esi, 8
        int 0x80
        mov eax, 1
        xor ebx, ebx
fault:  mov [0x1000], eax
after:  int 0x80
handler: mov eax, [esp + 12]            # ucontext: over the instruction, 20 + 14 * 4 is EIP
        add dword ptr [eax + 20 + 14 * 4], 5
        ret
restorer: mov eax, 173
        int 0x80
        .data
        .align 4
action: .long handler, {flags}, restorer, 0, 0
stack:  .long room, 0, 8192
        .bss
room:   .skip 8192
"""


def made_of(source: bytes, tmp_path: Path) -> Remote:
    path = tmp_path / "made"
    path.write_bytes(source)
    image = resolve(path)
    return Remote(lambda: open_target(image, KernelConfig(time_limit=0)))


def test_finish_tells_of_a_changed_return_address(program: Program, tmp_path: Path) -> None:
    """``back`` is one byte before ``other``, and the function adds 1 to its return address."""
    with made_of(program(ELSEWHERE), tmp_path) as made:
        back, other = (made.execute(f"print {each}").data["value"] for each in ("back", "other"))
        made.execute("step 3")
        stop = made.execute("finish").stop
        assert stop is not None and stop.moment.eip == other == back + 1
        assert stop.headline == f"the function has changed its return address {back:08x}, and returns to {other:08x}"


@pytest.mark.parametrize("flags", [0x04000004, 0x0C000004], ids=["the same stack", "a stack of its own"])
def test_reverse_next_goes_over_a_handler(flags: int, program: Program, tmp_path: Path) -> None:
    """From the instruction behind the faulting one back over rt_sigreturn: SA_SIGINFO, SA_RESTORER, SA_ONSTACK."""
    with made_of(program(SIGNAL.format(flags=flags)), tmp_path) as made:
        fault, after = (made.execute(f"print {each}").data["value"] for each in ("fault", "after"))
        assert after == fault + 5, "MOV of EAX to an address is five bytes (SDM 2B, A3)"
        made.execute("break after")
        stop = made.execute("continue").stop
        while stop is not None and stop.moment.eip != after:  # it stops at deaths by itself
            stop = made.execute("continue").stop
        back = made.execute("reverse-next").stop
        assert back is not None and back.moment.eip == fault


def test_the_access_of_a_stop() -> None:
    """cow-fork's third fault is a write, its first page fault a fetch: as the trace of faults says."""
    with remote("cow-fork") as made:
        assert not made.execute("catch fault if $access == 'w' && $pid == 4").error
        made.execute("continue")
        assert made.execute("print $access").data["value"] == ord("w")
        assert made.execute("walk $address $access").lines[-1] == "stops here: read-only page, write (PTE)"
        made.execute("delete")
        made.execute("run to fault 6")
        assert made.execute("print $access == 'r'").data["value"] == 1
        made.execute("watch 0x804a000")
        refused = made.execute("catch flush if $access == 'w'").error
        assert refused.startswith("$access: no such register; this tells $address, ")

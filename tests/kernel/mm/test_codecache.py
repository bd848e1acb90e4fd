"""Translated code never outlives the bytes it was made from, on any CPU."""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.codecache import CodeCache
from sandbox.machine.memory import PhysicalMemory, Reason
from tests.conftest import Run

REUSE = """
_start: mov dword ptr [n], 40
again:  sys mmap2, 0, PAGE, 7, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0
        mov esi, eax
        mov byte ptr [esi], 0xb8
        mov ecx, [n]
        mov [esi+1], ecx
        mov byte ptr [esi+5], 0xc3
        call esi
        cmp eax, [n]
        jne bad
        sys munmap, esi, PAGE
        fork_to child
        wait_child
        expect eax, 0, 1
        dec dword ptr [n]
        jnz again
        pass
bad:    mov ebx, 9
        jmp fail
child:  sys mmap2, 0, PAGE, 7, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0
        mov esi, eax
        mov byte ptr [esi], 0xb8
        mov ecx, [n]
        not ecx
        mov [esi+1], ecx
        mov byte ptr [esi+5], 0xc3
        call esi
        not eax
        cmp eax, [n]
        jne bad
        sys exit, 0
        .data
n:      .long 0
"""
SHARED_LOOP = """
_start: sys mmap2, 0, PAGE, 7, 0x21, -1, 0
        mov esi, eax
        mov word ptr [esi], 0xfeeb
        mov byte ptr [esi+2], 0xc3
        fork_to child
        sys nanosleep, "offset t", 0
        mov word ptr [esi], 0x9090
        expect_exit 0, 1
        pass
child:  call esi
        sys exit, 0
        .data
t:      .long 0, 100000
"""


@pytest.mark.parametrize("cpus", [1, 2])
def test_code_in_a_reused_frame(run: Run, paging: str, cpus: int) -> None:
    """Frames go round between two processes, on two CPUs, with other code in them each time."""
    result = run(REUSE, paging=paging, cpus=cpus, ram=8 << 20)
    assert (result.status, result.error) == (0, "")


@pytest.mark.parametrize("cpus", [1, 2])
def test_exec_again_and_again(run: Run, program, cpus: int) -> None:
    """Two programs in turn: the second one's text often lands in frames that held the first one's."""
    other = program("_start: mov ebx, 6\n mov eax, 1\n int 0x80\n .fill 8000, 1, 0x90")
    text = """
_start: mov dword ptr [n], 20
1:      fork_to child
        expect_exit 6, 1
        dec dword ptr [n]
        jnz 1b
        pass
child:  mov eax, 11
        mov ebx, offset name
        xor ecx, ecx
        xor edx, edx
        int 0x80
        sys exit, 99
        .data
name:   .asciz "/bin/other"
n:      .long 0
"""
    result = run(text, cpus=cpus, ram=8 << 20, files={"/bin/other": other})
    assert (result.status, result.error) == (0, "")


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_patching_a_loop_that_another_cpu_runs(run: Run, paging: str) -> None:
    """A store into shared code is seen by a CPU that is inside it, in bounded time (SDM 3A, 8.1.3)."""
    result = run(SHARED_LOOP, paging=paging, cpus=2, block_limit=3_000_000)
    assert (result.status, result.error) == (0, "")


class FakeCpu:
    drops = 0

    def drop_all_code(self) -> None:
        self.drops += 1


@pytest.fixture
def parts() -> tuple[PhysicalMemory, list[FakeCpu]]:
    return PhysicalMemory(4 << 20), [FakeCpu(), FakeCpu()]


def test_a_data_frame_costs_nothing(parts) -> None:
    memory, cpus = parts
    cache = CodeCache(memory, cpus, True)
    cache.mapped(5, False, True)
    cache.freed(5)
    cache.reused(5)
    cache.host_wrote(5)
    cache.turn_over()
    assert cache.drops == 0


def test_a_code_frame_is_dropped_before_it_is_used_again(parts) -> None:
    memory, cpus = parts
    cache = CodeCache(memory, cpus, True)
    cache.mapped(5, True, False)
    cache.freed(5)
    assert cache.drops == 0
    cache.reused(6)
    assert cache.drops == 0
    cache.reused(5)
    assert [cpu.drops for cpu in cpus] == [1, 1]
    cache.reused(5)
    assert cache.drops == 1


def test_host_bytes_into_code(parts) -> None:
    memory, cpus = parts
    cache = CodeCache(memory, cpus, True)
    cache.mapped(5, True, False)
    cache.host_wrote(5)
    assert cpus[0].drops == 1


def test_watched_frames_are_compared_when_turns_change(parts) -> None:
    memory, cpus = parts
    cache = CodeCache(memory, cpus, True)
    cache.mapped(5, True, True)
    cache.turn_over()
    assert cache.drops == 0
    memory.host_write(5 << 12, b"\x90", Reason.IMAGE)
    cache.turn_over()
    cache.turn_over()
    assert cache.drops == 1

"""Flows that stand half done while another CPU goes on, and interrupts that are pending meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import RaceSwitch
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import run_target
from sandbox.runner.session import Streams
from sandbox.runner.target import resolve
from tests.campaign import part
from tests.conftest import MakeSession

IMAGES = Path(__file__).resolve().parents[3] / "images"

TWO = """
_start: mov     eax, 2                          # fork
        int     0x80
        test    eax, eax
        jz      child
        mov     edi, 200                        # touch pages, one fault each
1:      mov     byte ptr [ebx+area], 1
        add     ebx, 4096
        dec     edi
        jnz     1b
        mov     eax, 7
        mov     ebx, -1
        xor     ecx, ecx
        xor     edx, edx
        int     0x80
        xor     ebx, ebx
        mov     eax, 1
        int     0x80
child:  mov     ecx, 3000000
2:      dec     ecx
        jnz     2b
        xor     ebx, ebx
        mov     eax, 1
        int     0x80
        .bss
        .balign 4096
area:   .space  200 * 4096
"""


def test_the_sender_waits_until_each_has_answered(session: MakeSession) -> None:
    """Cleared, and not yet acknowledged: the moment exists, and others run in it."""
    kernel = session("_start: pass", cpus=3).kernel
    smp, told = kernel.smp, list[tuple[int, int]]()
    pending = []

    def patience() -> bool:
        pending.append([len(cpu.pending_ipis) for cpu in smp.cpus])
        smp.take_ipis(smp.cpus[len(pending)])
        return True

    def handler(cpu: KernelCpu) -> None:
        told.append((cpu.index, smp.this_cpu.index))

    smp.patience = patience
    smp.call_on(smp.cpus[1:], handler)
    assert pending == [[0, 1, 1], [0, 0, 1]]
    assert told == [(1, 1), (2, 2)], "each runs the handler as its own"
    assert smp.this_cpu is smp.cpus[0]


def test_where_nobody_can_wait_they_are_taken_at_once(session: MakeSession) -> None:
    kernel = session("_start: pass", cpus=2).kernel
    told = []
    for patience in (None, lambda: False):
        kernel.smp.patience = patience
        kernel.smp.call_on(kernel.cpus[1:], lambda cpu: told.append(cpu.index))
        assert not kernel.cpus[1].pending_ipis
    assert told == [1, 1]


def test_a_seed_runs_the_same_again(session: MakeSession) -> None:
    def history(seed: int) -> list[tuple[int, str, int]]:
        made = session(TWO, cpus=2, seed=seed, races=())
        seen: list[RaceSwitch] = []
        made.kernel.bus.subscribe(seen.append, RaceSwitch)
        assert made.finish().status == 0
        return [(event.time, event.name, event.times) for event in seen]

    assert history(3) == history(3) != []
    assert history(3) != history(4)


def test_a_list_stands_where_it_says(session: MakeSession) -> None:
    made = session(TWO, cpus=2, races=(("install", 5), ("install", 9)))
    seen: list[RaceSwitch] = []
    made.kernel.bus.subscribe(seen.append, RaceSwitch)
    assert made.finish().status == 0
    assert [(event.name, event.times) for event in seen] == [("install", 5), ("install", 9)]


def test_one_cpu_has_nobody_to_give_way_to(session: MakeSession) -> None:
    made = session(TWO, cpus=1, seed=3, races=())
    seen: list[RaceSwitch] = []
    made.kernel.bus.subscribe(seen.append, RaceSwitch)
    assert made.finish().status == 0
    assert seen == []


@pytest.mark.parametrize("seed", part(range(20), 6))
@pytest.mark.parametrize("name", ["fork-tree", "smp-refill", "smp-patch", "shared-tree", "swap-daemon", "pipe-bulk"])
def test_images_hold_under_every_seed(name: str, seed: int) -> None:
    """What the image prints and how it ends is what it does on one CPU, wherever others come in between."""
    target = resolve(IMAGES / name)
    assert target.manifest is not None
    config = target.config(cpus=2 + seed % 3, seed=seed, races=(), paging=("pae", "legacy")[seed % 2])
    result = run_target(target, config, Streams(BytesSource(target.manifest.stdin.encode())))
    assert (result.error, result.status, result.signal) == ("", target.manifest.status, 0)
    assert result.stdout.decode() == target.manifest.stdout

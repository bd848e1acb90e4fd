"""Interrupts that the kernel answers itself, in Python: on the CPU that devices interrupt, and on no other."""

from __future__ import annotations

from sandbox.kernel.arch.cpu import KernelCpu
from tests.conftest import MakeSession

VECTOR = 0x31


def test_a_handler_in_python_runs_on_the_interrupted_cpu(session: MakeSession) -> None:
    kernel = session("_start: pass", cpus=2).kernel
    board = kernel.machine.board
    seen: list[tuple[int, int, list[bool]]] = []

    def handler(cpu: KernelCpu) -> None:
        seen.append((cpu.index, kernel.this_cpu.index, [each.in_interrupt for each in kernel.cpus]))
        assert kernel.sched.in_atomic()

    kernel.irq.handlers[VECTOR] = handler
    board.interrupt_cpu = 1
    kernel.smp.this_cpu = kernel.cpus[0]
    board.request_interrupt(VECTOR, "a test")
    kernel.irq.do_irq()
    assert seen == [(1, 1, [False, True])]
    assert kernel.this_cpu is kernel.cpus[0] and not kernel.sched.in_atomic()

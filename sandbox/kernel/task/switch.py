"""The context switch: what a CPU loads with a task."""

from __future__ import annotations

from sandbox.engine.context import FPU_TOP, XMM, XMM_STRIDE
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.mmu_context import MmuContext
from sandbox.kernel.task.desc import Descriptors, load_ldt
from sandbox.kernel.task.task import Task

_FPU_FIRST, _FPU_END = FPU_TOP, XMM + 8 * XMM_STRIDE


class ContextSwitch:
    """Address space, kernel stack, thread-local descriptors, control registers."""

    __slots__ = ("_broken_fpu", "_broken_tls", "_desc", "_mmu", "_smp")

    def __init__(self, smp: Smp, mmu: MmuContext, desc: Descriptors, broken: Breakage) -> None:
        self._smp, self._mmu, self._desc = smp, mmu, desc
        self._broken_tls, self._broken_fpu = broken("no-tls-switch"), broken("no-fpu-switch")

    def switch_to(self, cpu: KernelCpu, task: Task) -> None:
        """Load a task on a CPU."""
        self._smp.this_cpu = cpu
        context = task.context
        for each in (context, *task.kstack.contexts):
            each.copy_system_from(cpu.template)
        self._mmu.switch_mm(cpu, task.borrowed_mms[-1] if task.borrowed_mms else task.mm)
        context.cr3 = cpu.cr3 if task.mm is None else task.mm.cr3
        for each in task.kstack.contexts:
            each.cr3 = cpu.cr3
        self._desc.load_kernel_stack(cpu, task.kstack.stack_top)
        if not self._broken_tls:
            self._desc.load_tls(cpu, task)
        if task.mm is not None and task.mm.ldt:
            load_ldt(task)
        if self._broken_fpu:
            last = cpu.vcpu.context
            context.data[_FPU_FIRST:_FPU_END] = last.data[_FPU_FIRST:_FPU_END]

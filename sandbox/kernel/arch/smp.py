"""The CPUs together: which one the present flow runs on, and interrupts from one to another (kernel/smp.c)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.kernel.arch.cpu import Ipi, KernelCpu


class Smp:
    """The CPUs of a machine, and the one that the present flow of control runs on.

    ``patience`` lets other flows go on while a sender waits, and is False where none can: then interrupts are taken at
    once, as they are without a schedule of races.
    """

    __slots__ = ("cpus", "patience", "sent", "this_cpu")

    def __init__(self, cpus: Sequence[KernelCpu]) -> None:
        self.cpus = tuple(cpus)
        self.this_cpu = cpus[0]
        """Set by the scheduler whenever a flow goes on, so that each flow finds its own."""
        self.patience: Callable[[], bool] | None = None
        self.sent: Callable[[int], object] = lambda target: None
        """Told of each interrupt that a CPU sends, with the receiver's index."""

    @property
    def in_interrupt(self) -> bool:
        """A device's interrupt is being answered on the present CPU."""
        return self.this_cpu.in_interrupt

    def call_on(self, targets: Sequence[KernelCpu], handler: Callable[[KernelCpu], None]) -> None:
        """Have other CPUs run a handler, and wait until each has: an inter-processor interrupt to each of them.

        A receiver takes it when it can next be interrupted.  While it waits the sender can be interrupted itself, so
        that two who call each other both go on.
        """
        sent = [Ipi(handler) for _ in targets]
        for target, ipi in zip(targets, sent, strict=True):
            target.pending_ipis.append(ipi)
            self.sent(target.index)
        while self.patience is not None and not all(ipi.taken for ipi in sent):
            if not self.patience():
                break
        for target in targets:
            self.take_ipis(target)

    def take_ipis(self, target: KernelCpu) -> None:
        """A CPU answers what was sent to it, now."""
        if target.pending_ipis:
            this_cpu, self.this_cpu = self.this_cpu, target
            try:
                target.take_ipis()
            finally:
                self.this_cpu = this_cpu

"""Who used the host's time of a run: the engine for the program, the engine for the kernel's routines, Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.records import dataclass

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel


@dataclass(slots=True)
class Shares:
    """Host seconds; ``ring3`` and ``ring0`` are the engine's, translation included; who measures sets ``whole``."""

    ring3: float = 0.0
    ring0: float = 0.0
    whole: float = 0.0

    def add(self, cpl: int, seconds: float) -> None:
        """An entry of the engine took so long."""
        if cpl == 3:
            self.ring3 += seconds
        else:
            self.ring0 += seconds

    def __str__(self) -> str:
        parts = {"guest": self.ring3, "kernel routines": self.ring0, "Python": self.whole - self.ring3 - self.ring0}
        return ", ".join(f"{name} {100 * part / self.whole:.0f} %" for name, part in parts.items())


def measure(kernel: Kernel, shares: Shares) -> None:
    """From now on add up the engine's time; each entry of the engine costs half a microsecond more."""
    for cpu in kernel.cpus:
        cpu.vcpu.time_entries(shares.add)

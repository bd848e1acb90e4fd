"""The exit port at 0xF4: a guest without a system call says how it went.

A byte written is the exit status, 0 for passed; a wider value keeps its low byte.  Reads give zero.  (QEMU's
isa-debug-exit at the same port ends the emulator with twice the value plus one, so the same image runs there.)
"""

from __future__ import annotations

from sandbox.machine.devices.device import Host

EXIT_PORT = 0xF4


class ExitPort:
    """Remembers the status and stops the CPU; instructions left in the writing block may still execute."""

    name = "exit port"
    port_width = 4

    def __init__(self, host: Host) -> None:
        self._host = host
        self.status: int | None = None
        """What was written first, or None."""

    def read_port(self, offset: int, size: int) -> int:
        return 0

    def write_port(self, offset: int, size: int, value: int) -> None:
        if self.status is None:
            self.status = value & 0xFF
        self._host.stop()

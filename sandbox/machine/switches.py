"""The names of what a bare machine can leave out on purpose; ``breakage.py`` and ``delivery.py`` do it."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.x86.errors import ConfigurationError

SWITCHES = {
    "no-error-code": "exceptions push no error code",
    "no-stack-switch": "a handler in ring 0 goes on at the interrupted stack pointer",
    "no-accessed": "the processor's own accesses set no accessed and dirty bits",
    "no-gate-check": "INT n ignores the gate's privilege level",
    "no-if-clear": "interrupt gates leave IF set",
    "no-interrupt-shadow": "STI opens for interrupts at once, not behind the next instruction",
    "no-invlpg": "INVLPG does nothing",
    "no-large-pages": "CR4.PSE stays clear",
    "no-wp": "CR0.WP stays clear",
    "no-nx": "EFER.NXE stays clear",
    "no-shootdown": "interrupts between processors are lost",
    "no-port-check": "IN and OUT ask neither IOPL nor the TSS's bitmap",
    "no-code-drop": "a CPU keeps its translations of code that another CPU, or a device, has changed",
}
"""A name, and what is left out."""


def checked(names: Iterable[str]) -> frozenset[str]:
    """The switches as a set.  Raises ConfigurationError for one that does not exist."""
    switches = frozenset(names)
    if unknown := switches - SWITCHES.keys():
        raise ConfigurationError(
            f"no switch of a bare machine is called {min(unknown)!r}", "switches: " + ", ".join(sorted(SWITCHES))
        )
    return switches

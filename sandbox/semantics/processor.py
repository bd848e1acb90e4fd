"""Which CPU gave results."""

from __future__ import annotations

from pathlib import Path

from sandbox.records import dataclass


@dataclass(frozen=True, slots=True)
class Processor:
    """Vendor and name as CPUID has them, and the microcode's revision, as /proc/cpuinfo tells."""

    vendor: str
    name: str
    microcode: str


def this_host() -> Processor:
    """Of the first CPU; unknown where there is no such file."""
    found: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        found[name.strip()] = value.strip()
    return Processor(
        found.get("vendor_id", "unknown"), found.get("model name", "unknown"), found.get("microcode", "unknown")
    )

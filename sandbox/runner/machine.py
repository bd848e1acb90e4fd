"""The machine that a configuration asks for: RAM, holes, CPUs, and devices plugged in."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.kernel.base.config import KernelConfig
from sandbox.machine.devices.card import CARD_ADDRESS, PCI_CARD_ADDRESS, PCI_REACH, Card
from sandbox.machine.devices.device import WindowDevice
from sandbox.machine.devices.framebuffer import FRAME_BUFFER_ADDRESS, FrameBuffer
from sandbox.machine.devices.isacard import HOLE_ADDRESS, HOLE_BYTES, ISA_ADDRESS, IsaMemory
from sandbox.machine.devices.openbus import OpenBus
from sandbox.machine.machine import Machine
from sandbox.machine.memory import HIGH_START, LOW_END
from sandbox.x86.errors import ConfigurationError

DEVICES: dict[str, tuple[int, str]] = {
    "card": (CARD_ADDRESS, "registers, 1 MB of memory, ISA DMA, interrupts"),
    "pcicard": (PCI_CARD_ADDRESS, "the same on a bus with 32 address lines, and no boundary"),
    "framebuffer": (FRAME_BUFFER_ADDRESS, "320 by 200 pixels of one byte"),
    "isa": (ISA_ADDRESS, "an ISA card's 16 KB of shared memory"),
    "holecard": (HOLE_ADDRESS, "2 MB of a card's memory, seen when the hole from 14 to 16 MB is opened"),
}
"""Name, usual physical address, what it is."""
_HEXADECIMAL = re.compile(r"(0[xX])?[0-9a-fA-F]+")


def build_machine(config: KernelConfig) -> Machine:
    """Raises ConfigurationError for devices and holes that cannot be."""
    hole = config.policies["isa_hole"]
    ram, holes = config.ram, config.holes
    if hole in ("card", "remap"):
        holes = (*holes, (HOLE_ADDRESS, HOLE_BYTES))
        if hole == "remap" and ram > HOLE_ADDRESS:
            ram += HOLE_BYTES
    if hole == "conflict" and ram < HOLE_ADDRESS + HOLE_BYTES:
        raise ConfigurationError(
            f"isa_hole=conflict: {ram >> 20} MB of RAM do not reach 16 MB, where a card could be in their way"
        )
    machine = Machine(ram, config.cpus, holes)
    if hole in ("card", "remap"):
        machine.board.add_window(HOLE_ADDRESS, _hole_card())
    elif hole == "conflict":
        machine.cover(HOLE_ADDRESS, _hole_card())
    for text in config.devices:
        _plug(machine, text)
    _open_bus(machine)
    return machine


def _open_bus(machine: Machine) -> None:
    """Let the gaps from 640 KB to 1 MB read as ones: drivers look for cards there."""
    at = LOW_END
    windows = sorted(
        (start, start + device.window_bytes) for start, device in machine.board.windows if start < HIGH_START
    )
    for start, end in [*windows, (HIGH_START, HIGH_START)]:
        if at < start <= HIGH_START:
            machine.board.add_window(at, OpenBus(start - at))
        at = max(at, end)


def _hole_card() -> IsaMemory:
    return IsaMemory("hole card", HOLE_BYTES)


def _plug(machine: Machine, text: str) -> None:
    name, at, place = text.partition("@")
    if name not in DEVICES:
        known = "\n".join(f"{each:12} at {address:#010x}: {what}" for each, (address, what) in DEVICES.items())
        raise ConfigurationError(f"no device is called {name!r}", known)
    address = DEVICES[name][0]
    if at:
        address = int(place, 16) if _HEXADECIMAL.fullmatch(place) else -1
    if not 0 <= address < 1 << 36:
        raise ConfigurationError(f"device {text!r}: give NAME@ADDRESS, a physical address in hexadecimal")
    makers: dict[str, Callable[[], WindowDevice]] = {
        "card": lambda: Card(machine.board),
        "pcicard": lambda: Card(machine.board, PCI_REACH, PCI_REACH),
        "framebuffer": FrameBuffer,
        "isa": IsaMemory,
    }
    if name == "holecard":
        taken = any(start == HOLE_ADDRESS for start, _ in machine.board.windows)
        if taken or not machine.memory.is_ram(HOLE_ADDRESS, HOLE_BYTES):
            raise ConfigurationError(
                "holecard: it waits behind RAM from 14 to 16 MB, which this machine does not have",
                "take at least 16 MB of RAM; --policy isa_hole=card has the card there at once",
            )
        machine.hole_device = _hole_card()
    else:
        machine.board.add_window(address, makers[name]())

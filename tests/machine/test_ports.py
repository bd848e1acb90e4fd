"""The port bus: who answers, what nobody answers, how wide accesses are cut."""

from __future__ import annotations

import pytest

from sandbox.machine.ports import PortBus
from sandbox.x86.errors import ConfigurationError


class Recorder:
    """Answers with its offset in every byte and writes down what it gets."""

    def __init__(self, name: str, port_width: int) -> None:
        self.name = name
        self.port_width = port_width
        self.seen: list[tuple[int, int, int | None]] = []

    def read_port(self, offset: int, size: int) -> int:
        self.seen.append((offset, size, None))
        return 0xA0 + offset

    def write_port(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_unclaimed_ports_read_as_ones(size: int, ones: int) -> None:
    bus = PortBus()
    assert bus.read(0x80, size) == ones
    bus.write(0x80, size, 0)


def test_offsets_count_from_the_first_port() -> None:
    bus, device = PortBus(), Recorder("eight", 1)
    bus.register(0x3F8, 0x3FF, device)
    assert bus.read(0x3FD, 1) == 0xA5
    bus.write(0x3F8, 1, 0x41)
    assert device.seen == [(5, 1, None), (0, 1, 0x41)]
    assert bus.name_at(0x3FF) == "eight"
    assert bus.name_at(0x400) == ""


def test_wide_accesses_to_a_narrow_device_are_cut_upwards() -> None:
    bus, device = PortBus(), Recorder("narrow", 1)
    bus.register(0x10, 0x11, device)
    bus.write(0x10, 4, 0x44332211)
    assert device.seen == [(0, 1, 0x11), (1, 1, 0x22)]
    assert bus.read(0x10, 4) == 0xFFFFA1A0


def test_a_wide_device_gets_what_fits_into_its_ports() -> None:
    bus, device = PortBus(), Recorder("wide", 4)
    bus.register(0xF4, 0xF7, device)
    bus.write(0xF4, 4, 0xDEADBEEF)
    bus.write(0xF6, 4, 0x44332211)
    assert device.seen == [(0, 4, 0xDEADBEEF), (2, 2, 0x2211)]


def test_the_last_port_wraps_to_the_first() -> None:
    bus, device = PortBus(), Recorder("zero", 1)
    bus.register(0, 0, device)
    assert bus.read(0xFFFF, 2) == 0xA0FF


def test_a_port_has_one_device() -> None:
    bus = PortBus()
    bus.register(0x10, 0x1F, Recorder("first", 1))
    with pytest.raises(ConfigurationError, match="0x1f is first's"):
        bus.register(0x1F, 0x20, Recorder("second", 1))
    assert bus.name_at(0x20) == ""
    with pytest.raises(ConfigurationError):
        bus.register(0xFFFF, 0x10000, Recorder("third", 1))
    assert [(first, last) for first, last, _ in bus.devices] == [(0x10, 0x1F)]

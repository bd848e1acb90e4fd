"""Read-only memory, and the form of an adapter's."""

from __future__ import annotations

import pytest

from sandbox.machine.devices.rom import Rom, adapter_rom
from sandbox.x86.errors import ConfigurationError


def test_reads_and_lost_writes() -> None:
    rom = Rom(b"\x01\x02\x03\x04\x05")
    assert rom.window_bytes == 4096
    assert rom.read_window(0, 4) == 0x04030201
    assert rom.read_window(4, 4) == 0xFFFFFF05
    assert rom.read_window(4094, 4) == 0xFFFFFFFF
    rom.write_window(0, 4, 0)
    assert rom.read_window(0, 4) == 0x04030201
    assert rom.writes == 1


def test_an_adapter_rom_passes_the_bios_s_check() -> None:
    """55 AA, the length in 512-byte units, and all bytes adding up to zero."""
    rom = adapter_rom(b"hello" * 200)
    assert rom.read_window(0, 2) == 0xAA55
    units = rom.read_window(2, 1)
    assert units == 2
    assert sum(rom.read_window(at, 1) for at in range(units * 512)) & 0xFF == 0


def test_impossible_roms() -> None:
    with pytest.raises(ConfigurationError):
        Rom(b"")
    with pytest.raises(ConfigurationError):
        adapter_rom(bytes(255 * 512))

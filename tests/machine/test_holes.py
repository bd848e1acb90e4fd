"""RAM that a chipset gives to the bus, for a CPU and for good."""

from __future__ import annotations

import pytest

from sandbox.engine.exits import Halt
from sandbox.machine.devices.isacard import IsaMemory
from sandbox.machine.machine import Machine
from sandbox.machine.memory import OutsideRam, Reason, pieces_without

HOLE, SIZE = 0x400000, 0x10000


def read_at(machine: Machine, address: int, cpu: int = 0) -> int:
    """A load with paging off."""
    each = machine.cpus[cpu]
    machine.memory.host_write(0x1000, b"\xa1" + address.to_bytes(4, "little") + b"\xf4", Reason.IMAGE)
    each.drop_all_code()
    each.reset()
    each.context.eip = 0x1000
    assert isinstance(each.run(100), Halt)
    return each.context.eax & 0xFFFFFFFF


@pytest.mark.parametrize("cpus", [1, 2])
def test_covered_ram_is_the_cards(cpus: int) -> None:
    machine = Machine(8 << 20, cpus)
    machine.memory.host_write(HOLE, b"ram!", Reason.IMAGE)
    machine.memory.host_write(HOLE + SIZE, b"next", Reason.IMAGE)
    assert read_at(machine, HOLE) == int.from_bytes(b"ram!", "little")
    machine.cover(HOLE, IsaMemory("card", SIZE))
    for cpu in range(cpus):
        assert read_at(machine, HOLE, cpu) == int.from_bytes(b"ISA ", "little")
        assert read_at(machine, HOLE + SIZE, cpu) == int.from_bytes(b"next", "little")
        assert read_at(machine, HOLE - 4, cpu) == 0
    assert machine.memory.read(HOLE, 4) == b"ram!", "the host still has it"
    machine.close()


def test_opened_for_good() -> None:
    machine = Machine(8 << 20)
    machine.open_hole(HOLE, IsaMemory("card", SIZE))
    assert not machine.memory.is_ram(HOLE)
    assert machine.memory.is_ram(HOLE + SIZE, 100)
    with pytest.raises(OutsideRam):
        machine.memory.host_write(HOLE, b"x", Reason.DMA)
    with pytest.raises(OutsideRam):
        machine.open_hole(HOLE, IsaMemory("card", SIZE))
    machine.close()


def test_pieces() -> None:
    assert pieces_without([(0, 10, 0), (20, 10, 10)], 22, 3) == [(0, 10, 0), (20, 2, 10), (25, 5, 15)]
    assert pieces_without([(0, 10, 5)], 0, 10) == []

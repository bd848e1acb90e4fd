"""The board over a real CPU: ports, windows, DMA, interrupts, events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.engine.exits import BusError, Halt, Stopped
from sandbox.image.assemble import assemble_text
from sandbox.machine.devices.card import Card
from sandbox.machine.devices.exit_port import ExitPort
from sandbox.machine.devices.rom import adapter_rom
from sandbox.machine.devices.serial import Serial
from sandbox.machine.events import DeviceInterrupt, DmaTransfer, Event, MmioAccess, PortAccess
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.x86.errors import ConfigurationError

CODE = 0x100000


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine(16 << 20)
    yield made
    made.close()


def load(machine: Machine, text: str) -> None:
    machine.memory.host_write(CODE, assemble_text(text, CODE), Reason.IMAGE)
    machine.cpus[0].context.eip = CODE
    machine.cpus[0].drop_all_code()


def run(machine: Machine, text: str) -> object:
    load(machine, text)
    return machine.cpus[0].run(10_000)


def test_ports_of_every_width(machine: Machine) -> None:
    serial = Serial(machine.board)
    machine.board.add_ports(0x3F8, 0x3FF, serial)
    exit_ = run(
        machine,
        """
        mov dx, 0x3F8
        mov al, 'H'
        out dx, al
        mov dx, 0x3FF
        mov al, 0x5A
        out dx, al
        xor eax, eax
        mov dx, 0x3FE
        in ax, dx
        mov ebx, eax
        mov dx, 0x500
        in eax, dx
        hlt
        """,
    )
    assert isinstance(exit_, Halt)
    assert serial.sent == b"H"
    assert machine.cpus[0].context.ebx == 0x5AB0
    assert machine.cpus[0].context.eax == 0xFFFFFFFF


def test_windows_may_be_added_late(machine: Machine) -> None:
    run(machine, "nop\nhlt")
    card = Card(machine.board)
    machine.board.add_window(0x80000000, card)
    machine.board.add_window(0xC8000, adapter_rom(b"hello"))
    exit_ = run(
        machine,
        """
        mov eax, [0x80000000]
        mov dword ptr [0x80100000], 0x12345678
        movzx ebx, word ptr [0x80100001]
        movzx ecx, word ptr [0xC8000]
        mov word ptr [0xC8000], 0
        movzx edx, word ptr [0xC8000]
        hlt
        """,
    )
    assert isinstance(exit_, Halt)
    state = machine.cpus[0].context
    assert (state.eax, state.ebx, state.ecx, state.edx) == (0x44524143, 0x3456, 0xAA55, 0xAA55)
    assert card.memory[:4] == b"\x78\x56\x34\x12"


def test_a_window_may_not_meet_ram_nor_another(machine: Machine) -> None:
    board = machine.board
    for address in (0x200000, 0x80000001, 0x0):
        with pytest.raises(ConfigurationError):
            board.add_window(address, Card(board))
    board.add_window(0x80000000, Card(board))
    with pytest.raises(ConfigurationError, match="meets card"):
        board.add_window(0x80100000, Card(board))


def test_what_nobody_answers_is_a_bus_error(machine: Machine) -> None:
    exit_ = run(machine, "mov eax, [0xB0000000]\nhlt")
    assert isinstance(exit_, BusError)
    assert (exit_.physical, exit_.write, exit_.size) == (0xB0000000, False, 4)


def test_an_interrupt_request_brings_the_cpu_back(machine: Machine) -> None:
    card = Card(machine.board)
    machine.board.add_window(0x80000000, card)
    exit_ = run(machine, "mov dword ptr [0x80000010], 0x50\nmov dword ptr [0x80000014], 1\n1: inc ebx\njmp 1b")
    assert isinstance(exit_, Stopped)
    assert machine.cpus[0].clock < 10
    assert machine.board.pending(0) == 0x50
    assert machine.board.acknowledge(0) == 0x50
    assert machine.board.pending(0) is None


def test_the_highest_vector_comes_first(machine: Machine) -> None:
    for vector in (0x30, 0x50, 0x40, 0x50):
        machine.board.post(0, vector)
    assert machine.board.waiting(0) == {0x30, 0x40, 0x50}
    assert [machine.board.acknowledge(0) for _ in range(3)] == [0x50, 0x40, 0x30]
    assert machine.board.waiting(1) == set()


def test_dma_goes_through_the_door_and_tells(machine: Machine) -> None:
    told: list[tuple[int, int]] = []
    machine.board.dma_done = lambda physical, size: told.append((physical, size))
    assert machine.board.dma_write(0x300000, b"disk", "card")
    assert machine.memory.read(0x300000, 4) == b"disk"
    assert machine.memory.host_bytes()["dma"] == 4
    assert told == [(0x300000, 4)]
    assert machine.board.dma_read(0x300001, 2, "card") == b"is"
    assert not machine.board.dma_write(0x9FFFE, b"disk", "card")
    assert machine.board.dma_read(0x80000000, 4, "card") is None


def test_events_of_devices(machine: Machine) -> None:
    machine.board.add_ports(0xF4, 0xF7, ExitPort(machine.board))
    machine.board.add_window(0x80000000, Card(machine.board))
    machine.board.clock = lambda: 42
    seen: list[Event] = []
    machine.bus.subscribe(seen.append)
    run(
        machine,
        """
        mov eax, [0x80000008]
        mov dword ptr [0x80000010], 0x50
        mov dword ptr [0x80000014], 1
        mov dword ptr [0x80000020], 0x300000
        mov dword ptr [0x80000028], 4
        mov dword ptr [0x80000034], 1
        mov al, 3
        out 0xF4, al
        hlt
        """,
    )
    assert MmioAccess(42, 0, 0x80000008, 4, False, 0x100000, "card") in seen
    assert DeviceInterrupt(42, 0, 0x50, "card") in seen
    assert DmaTransfer(42, 0, 0x300000, 4, "card") in seen
    assert PortAccess(42, 0, 0xF4, 1, True, 3, "exit port") in seen
    assert all(event.to_dict()["event"] == type(event).__name__ for event in seen)


def test_an_error_in_a_device_comes_out_of_run(machine: Machine) -> None:
    class Broken:
        name, port_width = "broken", 1

        def read_port(self, offset: int, size: int) -> int:
            raise RuntimeError("smoke")

        def write_port(self, offset: int, size: int, value: int) -> None: ...

    machine.board.add_ports(0x10, 0x10, Broken())
    with pytest.raises(RuntimeError, match="smoke"):
        run(machine, "in al, 0x10\nhlt")

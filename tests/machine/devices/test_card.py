"""The card, against the register table in its docstring."""

from __future__ import annotations

import pytest

from sandbox.machine.devices.card import Card
from tests.machine.devices.host import FakeHost

MEMORY = 0x100000


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def card(host: FakeHost) -> Card:
    return Card(host)


def command(card: Card, number: int, address: int, length: int, pattern: int = 0, offset: int = 0) -> int:
    for register, value in ((0x20, address & 0xFFFFFFFF), (0x24, address >> 32), (0x28, length)):
        card.write_window(register, 4, value)
    card.write_window(0x2C, 4, pattern)
    card.write_window(0x30, 4, offset)
    card.write_window(0x34, 4, number)
    status = card.read_window(0x0C, 4)
    card.write_window(0x0C, 4, 3)
    assert card.read_window(0x0C, 4) == 0
    return status


def test_identification(card: Card) -> None:
    assert card.read_window(0, 4).to_bytes(4, "little") == b"CARD"
    assert card.read_window(1, 1) == ord("A")
    assert card.read_window(2, 2) == int.from_bytes(b"RD", "little")
    assert card.read_window(4, 4) == 1
    assert card.read_window(8, 4) == 1 << 20


def test_memory_takes_every_size(card: Card) -> None:
    card.write_window(MEMORY + 3, 4, 0x11223344)
    card.write_window(MEMORY, 1, 0xAA)
    assert card.read_window(MEMORY, 8) == 0x00_11_22_33_44_00_00_AA
    card.write_window(MEMORY + 0xFFFFC, 4, 0xCAFEF00D)
    assert card.memory[-4:] == bytes.fromhex("0df0feca")


def test_what_nobody_answers(card: Card) -> None:
    assert card.read_window(0x3C, 4) == 0xFFFFFFFF
    assert card.read_window(0x80000, 2) == 0xFFFF
    assert card.read_window(0x06, 4) == 0xFFFFFFFF
    card.write_window(0x10, 1, 0x50)
    card.write_window(0, 4, 7)
    assert card.unanswered == [(0x3C, 4, False), (0x80000, 2, False), (6, 4, False), (0x10, 1, True), (0, 4, True)]
    assert card.read_window(0x10, 4) == 0
    assert card.read_window(0, 1) == ord("C")


def test_doorbell(card: Card, host: FakeHost) -> None:
    card.write_window(0x14, 4, 1)
    assert host.interrupts == []
    card.write_window(0x10, 4, 0x50)
    card.write_window(0x14, 4, 99)
    assert host.interrupts == [0x50]
    assert card.read_window(0x18, 4) == 99
    assert card.read_window(0x1C, 4) == 2


def test_fill_repeats_a_word_and_cuts_the_last(card: Card, host: FakeHost) -> None:
    assert command(card, 1, 0x100010, 6, pattern=0x04030201) == 1
    assert host.ram[0x0F:0x17] == b"\0\x01\x02\x03\x04\x01\x02\0"


def test_store_and_load(card: Card, host: FakeHost) -> None:
    card.memory[0x500:0x508] = b"from me."
    assert command(card, 2, 0x100100, 8, offset=0x500) == 1
    assert host.ram[0x100:0x108] == b"from me."
    host.ram[0x200:0x204] = b"back"
    assert command(card, 3, 0x100200, 4, offset=0xFFFFC) == 1
    assert card.memory[-4:] == b"back"
    assert host.interrupts == []


def test_a_command_may_interrupt_when_done(card: Card, host: FakeHost) -> None:
    card.write_window(0x10, 4, 0x51)
    command(card, 0x101, 0x100000, 4)
    assert host.interrupts == [0x51]


@pytest.mark.parametrize(
    ("address", "length"),
    [
        (0x1000000, 4),
        (0xFFFFFE, 4),
        (0x1_0010_0000, 4),
        (0x10FFFE, 4),
        (0x100000, 0),
        (0x110000, 4),
    ],
    ids=["beyond 16 MB", "last bytes beyond", "above 4 GB", "across 64 KB", "nothing", "not RAM"],
)
def test_refused_dma_moves_nothing(card: Card, host: FakeHost, address: int, length: int) -> None:
    assert command(card, 1, address, length, pattern=0xFFFFFFFF) == 3
    assert not any(host.ram)


def test_a_64_kb_boundary_inside_ram(host: FakeHost) -> None:
    """An 8237's counter has 16 bits: a transfer that would wrap is refused though there is RAM on both sides."""
    whole = Card(host, boundary=0x8000)
    assert command(whole, 1, 0x107FFE, 4, pattern=0xFFFFFFFF) == 3
    assert not any(host.ram)
    assert command(whole, 1, 0x107FFC, 4, pattern=0xFFFFFFFF) & 2 == 0


def test_refused_commands(card: Card) -> None:
    assert command(card, 9, 0x100000, 4) == 3
    assert command(card, 2, 0x100000, 8, offset=0xFFFFC) == 3


def test_a_card_without_isa_s_limits(host: FakeHost) -> None:
    free = Card(host, reach=1 << 36, boundary=1 << 36)
    assert command(free, 1, 0x100000, 0x10000, pattern=0x01010101) == 1
    assert bytes(host.ram) == b"\x01" * 0x10000


# -- transfers that take time ----------------------------------------------------------------------------------------


def test_a_transfer_in_bursts(card: Card, host: FakeHost) -> None:
    """Six bytes, four at once: the first load of STATUS sees four, the second all, and then the interrupt."""
    for register, value in ((0x10, 0x52), (0x20, 0x100000), (0x28, 6), (0x2C, 0x04030201), (0x38, 4), (0x34, 0x101)):
        card.write_window(register, 4, value)
    assert not any(host.ram) and host.interrupts == []
    assert card.read_window(0x0C, 4) == 4 and bytes(host.ram[:8]) == bytes((1, 2, 3, 4, 0, 0, 0, 0))
    card.write_window(0x20, 4, 0)
    card.write_window(0x0C, 4, 4)
    assert card.read_window(0x0C, 4) == 1 and bytes(host.ram[:8]) == bytes((1, 2, 3, 4, 1, 2, 0, 0))
    assert host.interrupts == [0x52]


def test_a_second_command_is_refused_while_one_is_under_way(card: Card, host: FakeHost) -> None:
    card.memory[:8] = b"in parts"
    for register, value in ((0x20, 0x100000), (0x28, 8), (0x38, 5), (0x34, 2), (0x34, 1)):
        card.write_window(register, 4, value)
    assert card.read_window(0x0C, 4) == 7
    assert card.read_window(0x0C, 4) == 3
    assert bytes(host.ram[:8]) == b"in parts"


def test_a_burst_that_meets_no_ram_ends_the_transfer(host: FakeHost) -> None:
    free = Card(host, reach=1 << 36, boundary=1 << 36)
    for register, value in ((0x20, 0x10FFFC), (0x28, 8), (0x2C, 0x01010101), (0x38, 4), (0x34, 1)):
        free.write_window(register, 4, value)
    assert [free.read_window(0x0C, 4) for _ in range(3)] == [4, 3, 3]
    assert bytes(host.ram[-4:]) == b"\x01" * 4

"""The 16550, register by register, as its data sheet has them."""

from __future__ import annotations

from sandbox.machine.devices.serial import COM1_VECTOR, Serial
from tests.machine.devices.host import FakeHost

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR = IIR


def test_bytes_go_to_the_sink() -> None:
    got = bytearray()
    serial = Serial(FakeHost(), got.extend)
    for byte in b"hi":
        serial.write_port(RBR, 1, byte)
    assert got == b"hi"
    assert serial.sent == b""


def test_without_a_sink_they_collect() -> None:
    serial = Serial(FakeHost())
    serial.write_port(RBR, 1, 0x41)
    assert serial.sent == b"A"


def test_line_status_when_idle() -> None:
    """THRE and TEMT (bits 5 and 6): nothing to wait for."""
    assert Serial(FakeHost()).read_port(LSR, 1) == 0x60


def test_divisor_latch_hides_data_and_ier() -> None:
    serial = Serial(FakeHost())
    serial.write_port(IER, 1, 5)
    serial.write_port(LCR, 1, 0x83)
    serial.write_port(RBR, 1, 0x0C)
    serial.write_port(IER, 1, 0x01)
    assert (serial.read_port(RBR, 1), serial.read_port(IER, 1)) == (0x0C, 0x01)
    assert serial.sent == b""
    serial.write_port(LCR, 1, 0x03)
    assert serial.read_port(IER, 1) == 5
    assert serial.read_port(LCR, 1) == 3


def test_scratch_keeps_a_byte() -> None:
    serial = Serial(FakeHost())
    serial.write_port(SCR, 1, 0xA5)
    assert serial.read_port(SCR, 1) == 0xA5


def test_received_bytes() -> None:
    serial = Serial(FakeHost())
    serial.write_port(FCR, 1, 1)
    serial.feed(b"ab")
    assert serial.read_port(LSR, 1) & 1
    assert serial.read_port(RBR, 1) == ord("a")
    assert serial.read_port(LSR, 1) & 1
    assert serial.read_port(RBR, 1) == ord("b")
    assert not serial.read_port(LSR, 1) & 1


def test_overrun_without_and_with_fifo() -> None:
    """Without a FIFO the newer byte wins; with one, what is in it stays.  LSR bit 1 tells, once."""
    serial = Serial(FakeHost())
    serial.feed(b"ab")
    assert serial.read_port(LSR, 1) & 2
    assert not serial.read_port(LSR, 1) & 2
    assert serial.read_port(RBR, 1) == ord("b")
    serial.write_port(FCR, 1, 1)
    serial.feed(bytes(range(17)))
    assert serial.read_port(LSR, 1) & 2
    assert [serial.read_port(RBR, 1) for _ in range(16)] == list(range(16))


def test_received_data_interrupt() -> None:
    host = FakeHost()
    serial = Serial(host)
    serial.write_port(MCR, 1, 8)
    serial.feed(b"x")
    assert host.interrupts == []
    serial.write_port(IER, 1, 1)
    assert host.interrupts == [COM1_VECTOR]
    assert serial.read_port(IIR, 1) == 4
    serial.read_port(RBR, 1)
    assert serial.read_port(IIR, 1) == 1


def test_transmitter_empty_interrupt_is_acknowledged_by_reading_iir() -> None:
    host = FakeHost()
    serial = Serial(host, vector=0x34)
    serial.write_port(MCR, 1, 8)
    serial.write_port(IER, 1, 2)
    assert host.interrupts == [0x34]
    assert serial.read_port(IIR, 1) == 2
    assert serial.read_port(IIR, 1) == 1
    serial.write_port(RBR, 1, 0x41)
    assert host.interrupts == [0x34, 0x34]


def test_out2_gates_the_interrupt_line() -> None:
    host = FakeHost()
    serial = Serial(host)
    serial.write_port(IER, 1, 3)
    serial.feed(b"x")
    assert host.interrupts == []


def test_loopback_feeds_back_data_and_modem_lines() -> None:
    """MCR bit 4: DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD."""
    serial = Serial(FakeHost())
    serial.write_port(MCR, 1, 0x10 | 1)
    assert serial.read_port(MSR, 1) == 0x20
    serial.write_port(MCR, 1, 0x1F)
    assert serial.read_port(MSR, 1) == 0xF0
    serial.write_port(RBR, 1, 0x5A)
    assert serial.sent == b""
    assert serial.read_port(RBR, 1) == 0x5A


def test_fifo_is_cleared_by_its_control_bits() -> None:
    serial = Serial(FakeHost())
    serial.write_port(FCR, 1, 1)
    assert serial.read_port(IIR, 1) == 0xC1
    serial.feed(b"abc")
    serial.write_port(FCR, 1, 3)
    assert not serial.read_port(LSR, 1) & 1
    serial.feed(b"abc")
    serial.write_port(FCR, 1, 0)
    assert not serial.read_port(LSR, 1) & 1

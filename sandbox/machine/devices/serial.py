"""A serial port: the 16550 UART, at 0x3F8 as COM1.

Registers by offset (PC16550D data sheet, table II)::

    0  RBR (read) / THR (write); with LCR.DLAB the divisor's low byte
    1  IER; with DLAB the divisor's high byte
    2  IIR (read) / FCR (write)      5  LSR, read-only
    3  LCR                           6  MSR, read-only
    4  MCR                           7  SCR, a byte to keep

The line is infinitely fast: a byte written is out at once, so THRE and TEMT are always set.  An interrupt is
asked for when an enabled cause appears and MCR.OUT2 is set, as on a PC.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sandbox.machine.devices.device import Host

COM1 = 0x3F8
COM1_VECTOR = 0x24
"""IRQ 4 where the master PIC was moved to vector 0x20."""
FIFO_BYTES = 16

IER_RECEIVED, IER_EMPTY = 1, 2
IIR_NONE, IIR_EMPTY, IIR_RECEIVED, IIR_FIFO = 1, 2, 4, 0xC0
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_READY, LSR_OVERRUN, LSR_THRE, LSR_TEMT = 1, 2, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80


class Serial:
    """One port; every byte sent goes to ``sink``."""

    name = "serial"
    port_width = 1

    def __init__(self, host: Host, sink: Callable[[bytes], object] | None = None, vector: int = COM1_VECTOR) -> None:
        self._host = host
        self.sent = bytearray()
        """What was sent, when no sink was given."""
        self._sink = self.sent.extend if sink is None else sink
        self.vector = vector
        self._received: deque[int] = deque()
        self._ier = self._lcr = self._mcr = self._scratch = 0
        self._divisor = 1
        self._fifo = False
        self._overrun = False
        self._empty_pending = False

    # -- the other end of the line

    def feed(self, data: bytes) -> None:
        """Bytes arrive; those for which the FIFO has no room are lost, and LSR says so."""
        for byte in data:
            self._receive(byte)

    # -- the port bus

    def read_port(self, offset: int, size: int) -> int:
        if self._lcr & LCR_DLAB and offset < 2:
            return self._divisor >> 8 * offset & 0xFF
        match offset:
            case 0:
                return self._received.popleft() if self._received else 0
            case 1:
                return self._ier
            case 2:
                return self._identify()
            case 3:
                return self._lcr
            case 4:
                return self._mcr
            case 5:
                return self._line_status()
            case 6:
                return self._modem_status()
            case _:
                return self._scratch

    def write_port(self, offset: int, size: int, value: int) -> None:
        if self._lcr & LCR_DLAB and offset < 2:
            shift = 8 * offset
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
            return
        match offset:
            case 0:
                self._send(value)
            case 1:
                self._enable(value & 0xF)
            case 2:
                if value & 2 or bool(value & 1) != self._fifo:
                    self._received.clear()
                self._fifo = bool(value & 1)
            case 3:
                self._lcr = value
            case 4:
                self._mcr = value & 0x1F
            case 7:
                self._scratch = value
            case _:
                pass

    # -- inside

    def _send(self, byte: int) -> None:
        if self._mcr & MCR_LOOP:
            self._receive(byte)
        else:
            self._sink(bytes((byte,)))
        if self._ier & IER_EMPTY:
            self._empty_pending = True
            self._interrupt()

    def _receive(self, byte: int) -> None:
        if len(self._received) >= (FIFO_BYTES if self._fifo else 1):
            self._overrun = True
            if not self._fifo:
                self._received[0] = byte
            return
        self._received.append(byte)
        if self._ier & IER_RECEIVED:
            self._interrupt()

    def _enable(self, value: int) -> None:
        fresh = value & ~self._ier
        self._ier = value
        if fresh & IER_EMPTY:
            self._empty_pending = True
        if (fresh & IER_RECEIVED and self._received) or fresh & IER_EMPTY:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._mcr & MCR_OUT2 and not self._mcr & MCR_LOOP:
            self._host.request_interrupt(self.vector, self.name)

    def _identify(self) -> int:
        fifo = IIR_FIFO if self._fifo else 0
        if self._ier & IER_RECEIVED and self._received:
            return fifo | IIR_RECEIVED
        if self._ier & IER_EMPTY and self._empty_pending:
            self._empty_pending = False
            return fifo | IIR_EMPTY
        return fifo | IIR_NONE

    def _line_status(self) -> int:
        status = LSR_THRE | LSR_TEMT | (LSR_READY if self._received else 0)
        if self._overrun:
            self._overrun = False
            status |= LSR_OVERRUN
        return status

    def _modem_status(self) -> int:
        if not self._mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        lines = ((MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return sum(seen for driven, seen in lines if self._mcr & driven)

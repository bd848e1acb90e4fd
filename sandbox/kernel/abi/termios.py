"""Terminals: the bits and structures of termios, and the ioctl numbers (asm-generic, as i386 has them)."""

from __future__ import annotations

from struct import Struct

from sandbox.records import dataclass, field

# c_iflag
IGNBRK, BRKINT, IGNPAR, PARMRK, INPCK, ISTRIP = 1, 2, 4, 8, 0x10, 0x20
INLCR, IGNCR, ICRNL, IUCLC, IXON, IXANY, IXOFF, IMAXBEL, IUTF8 = (1 << bit for bit in range(6, 15))
# c_oflag
OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET = (1 << bit for bit in range(6))
TABDLY = XTABS = 0x1800
# c_lflag
ISIG, ICANON, XCASE, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, TOSTOP = (1 << bit for bit in range(9))
ECHOCTL, ECHOPRT, ECHOKE = 0x200, 0x400, 0x800
IEXTEN = 0x8000
# c_cc
VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, VSWTC, VSTART, VSTOP, VSUSP, VEOL = range(12)
VREPRINT, VDISCARD, VWERASE, VLNEXT, VEOL2 = range(12, 17)

TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETA, TCSETA, TCSETAW, TCSETAF = range(0x5401, 0x5409)
TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP = range(0x5409, 0x5411)
TIOCOUTQ, TIOCSTI, TIOCGWINSZ, TIOCSWINSZ = range(0x5411, 0x5415)
FIONREAD, TIOCCONS, FIONBIO, TIOCNOTTY, TIOCGETD = 0x541B, 0x541D, 0x5421, 0x5422, 0x5424
TCSBRKP, TIOCGSID = 0x5425, 0x5429
TCGETS2, TCSETS2, TCSETSW2, TCSETSF2 = 0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D
FIONCLEX, FIOCLEX, FIOASYNC = 0x5450, 0x5451, 0x5452
TCIFLUSH, TCOFLUSH, TCIOFLUSH = range(3)
TCOOFF, TCOON = 0, 1

_TERMIOS = Struct("<4IB19s")
_TERMIO = Struct("<4HB8sx")
_SPEEDS = Struct("<2I")
_WINSIZE = Struct("<4H")
TERMIOS_BYTES, TERMIO_BYTES, WINSIZE_BYTES = _TERMIOS.size, _TERMIO.size, _WINSIZE.size
BAUD = 38400

DEFAULT_CHARACTERS = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))


@dataclass(slots=True)
class Termios:
    """``struct termios``; the defaults are those of a fresh terminal of Linux."""

    iflag: int = ICRNL | IXON
    oflag: int = OPOST | ONLCR
    cflag: int = 0xBF
    lflag: int = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN
    line: int = 0
    characters: bytearray = field(default_factory=lambda: bytearray(DEFAULT_CHARACTERS))

    def pack(self) -> bytes:
        """36 bytes, for TCGETS; TCGETS2 adds the two speeds."""
        return _TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, bytes(self.characters))

    @classmethod
    def unpack(cls, data: bytes) -> Termios:
        iflag, oflag, cflag, lflag, line, characters = _TERMIOS.unpack(data[:TERMIOS_BYTES])
        return cls(iflag, oflag, cflag, lflag, line, bytearray(characters))

    def pack_old(self) -> bytes:
        """``struct termio``, 18 bytes, for TCGETA."""
        flags = (each & 0xFFFF for each in (self.iflag, self.oflag, self.cflag, self.lflag))
        return _TERMIO.pack(*flags, self.line, bytes(self.characters[:8]))

    def with_old(self, data: bytes) -> Termios:
        """What TCSETA makes of it: the low halves of the flags and eight characters."""
        iflag, oflag, cflag, lflag, line, characters = _TERMIO.unpack(data)
        high = 0xFFFF0000
        return Termios(
            self.iflag & high | iflag,
            self.oflag & high | oflag,
            self.cflag & high | cflag,
            self.lflag & high | lflag,
            line,
            bytearray(characters) + self.characters[8:],
        )


def pack_speeds() -> bytes:
    """The last two words of ``struct termios2``: bits a second."""
    return _SPEEDS.pack(BAUD, BAUD)


def pack_winsize(rows: int, columns: int, width: int = 0, height: int = 0) -> bytes:
    """``struct winsize``, 8 bytes; width and height in pixels."""
    return _WINSIZE.pack(rows, columns, width, height)


def unpack_winsize(data: bytes) -> tuple[int, int, int, int]:
    rows, columns, width, height = _WINSIZE.unpack(data)
    return rows, columns, width, height

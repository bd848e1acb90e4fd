"""Numbers as words: flags, signals, masks, quoted bytes, the way strace writes them."""

from __future__ import annotations

from sandbox.kernel.abi import flags as abi
from sandbox.kernel.abi import signals
from sandbox.kernel.abi.signals import NSIG, SIGRTMIN

STRING_LIMIT = 32
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_OPEN = (
    "O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_DIRECT",
    "O_LARGEFILE", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC", "O_PATH", "O_TMPFILE", "O_DIRECTORY", "O_ASYNC",
)  # fmt: skip
_TYPES = {
    abi.S_IFSOCK: "S_IFSOCK", abi.S_IFLNK: "S_IFLNK", abi.S_IFREG: "S_IFREG", abi.S_IFBLK: "S_IFBLK",
    abi.S_IFDIR: "S_IFDIR", abi.S_IFCHR: "S_IFCHR", abi.S_IFIFO: "S_IFIFO",
}  # fmt: skip


def signed(value: int) -> int:
    """A 32-bit register as a number with a sign."""
    return value - (1 << 32) if value >> 31 else value


def pointer(address: int) -> str:
    return f"{address:#x}" if address else "NULL"


def quoted(data: bytes, limit: int | None = STRING_LIMIT, more: bool = False) -> str:
    """A string literal of C with octal escapes; an ellipsis when it was cut, or there is ``more``."""
    cut = data if limit is None else data[:limit]
    letters = []
    for index, byte in enumerate(cut):
        if byte in _ESCAPES:
            letters.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            letters.append(chr(byte))
        else:
            digit = index + 1 < len(cut) and 48 <= cut[index + 1] < 56
            letters.append(f"\\{byte:03o}" if digit else f"\\{byte:o}")
    return '"' + "".join(letters) + '"' + ("..." if more or len(cut) < len(data) else "")


def hexed(data: bytes) -> str:
    """Every byte as ``\\x41``: for what is random."""
    shown = "".join(f"\\x{byte:02x}" for byte in data[:STRING_LIMIT])
    return f'"{shown}"' + ("..." if len(data) > STRING_LIMIT else "")


def bits(value: int, names: dict[int, str], zero: str = "0") -> str:
    """Names joined by bars; bits that have none are added in hexadecimal."""
    found = []
    for bit, name in names.items():
        if bit and value & bit == bit:
            found.append(name)
            value &= ~bit
    if value:
        found.append(f"{value:#x}")
    return "|".join(found) or zero


def choice(value: int, names: dict[int, str]) -> str:
    return names.get(value, f"{value:#x}")


def table(prefix: str, *leave_out: str) -> dict[int, str]:
    """The constants of the flags module that begin alike, by value, the first name of each value."""
    found: dict[int, str] = {}
    for name, value in vars(abi).items():
        if name.startswith(prefix) and isinstance(value, int) and name not in leave_out:
            found.setdefault(value, name)
    return found


def open_flags(value: int) -> str:
    """Access mode first, then the rest."""
    names = {getattr(abi, name): name for name in _OPEN}
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    rest = bits(value & ~3, names, "")
    return f"{access}|{rest}" if rest else access


def mode(value: int) -> str:
    """Permission bits in octal."""
    return f"{value & 0o7777:#04o}".replace("0o", "0").rjust(3, "0") if value else "000"


def file_mode(value: int) -> str:
    """st_mode: type and permission."""
    kind = _TYPES.get(value & abi.S_IFMT)
    extra = "".join(
        f"|{name}" for bit, name in ((abi.S_ISUID, "S_ISUID"), (abi.S_ISGID, "S_ISGID"), (abi.S_ISVTX, "S_ISVTX"))
        if value & bit
    )  # fmt: skip
    return f"{kind or hex(value & abi.S_IFMT)}{extra}|{value & 0o777:04o}"


def signal_name(number: int) -> str:
    """As strace has it: real-time signals count from the kernel's first."""
    if number >= SIGRTMIN:
        return f"SIGRT_{number - SIGRTMIN}" if number > SIGRTMIN else "SIGRTMIN"
    return signals.NAMES.get(number, str(number))


def sigset(mask: int) -> str:
    """``[INT CHLD]``, or the other way round with a tilde when most are in it."""
    wanted = mask & (1 << NSIG) - 1
    inverted = wanted.bit_count() >= NSIG * 2 // 3
    shown = ~wanted & (1 << NSIG) - 1 if inverted else wanted
    names = []
    for number in range(1, NSIG + 1):
        if shown >> number - 1 & 1:
            name = signal_name(number)
            names.append(name.removeprefix("SIG"))
    return ("~" if inverted else "") + "[" + " ".join(names) + "]"

"""Arguments of the socket calls as text: addresses, options, flags."""

from __future__ import annotations

import struct

from sandbox.kernel.abi import socket as abi
from sandbox.kernel.abi.errno import NAMES
from sandbox.report.strace.call import Call
from sandbox.report.strace.words import pointer, quoted, signed

FAMILIES = {0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 5: "AF_APPLETALK", 10: "AF_INET6", 16: "AF_NETLINK",
            17: "AF_PACKET"}  # fmt: skip
TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP",
         10: "SOCK_PACKET"}  # fmt: skip
FLAGS = {
    1: "MSG_OOB", 2: "MSG_PEEK", 4: "MSG_DONTROUTE", 8: "MSG_CTRUNC", 0x10: "MSG_PROBE", 0x20: "MSG_TRUNC",
    0x40: "MSG_DONTWAIT", 0x80: "MSG_EOR", 0x100: "MSG_WAITALL", 0x4000: "MSG_NOSIGNAL", 0x8000: "MSG_MORE",
    0x10000: "MSG_WAITFORONE", 0x40000000: "MSG_CMSG_CLOEXEC",
}  # fmt: skip
LEVELS = {1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP"}
HOW = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
OPTIONS = {
    value: name for name, value in vars(abi).items() if name.startswith("SO_")
} | {20: "SO_RCVTIMEO_OLD", 21: "SO_SNDTIMEO_OLD", 29: "SO_TIMESTAMP_OLD"}  # fmt: skip
CALLS = {number: f"SYS_{name.upper()}" for number, (name, _) in enumerate(abi.SOCKETCALLS) if number}
CONTROLS = {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"}


def named(value: int, names: dict[int, str], prefix: str) -> str:
    return names.get(value, f"{value:#x} /* {prefix}??? */")


def socket_type(value: int) -> str:
    """The type, and the flags that go with it; what is unknown in any of them is named once."""
    kind, flags = value & abi.SOCK_TYPE_MASK, value & ~abi.SOCK_TYPE_MASK
    found = [TYPES.get(kind) or f"{kind:#x} /* SOCK_??? */"] if kind or not flags else []
    for bit, name in ((abi.SOCK_CLOEXEC, "SOCK_CLOEXEC"), (abi.SOCK_NONBLOCK, "SOCK_NONBLOCK")):
        found += [name] if flags & bit else []
        flags &= ~bit
    found += [f"{flags:#x} /* SOCK_??? */"] if flags else []
    return "|".join(found) if value else "0"


def accept_flags(value: int) -> str:
    """The flags of accept4(2)."""
    known = value & (abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK)
    return socket_type(value & ~abi.SOCK_TYPE_MASK) if known or not value else f"{value:#x} /* SOCK_??? */"


def option(level: int, value: int) -> str:
    return named(value, OPTIONS, "SO_") if level == abi.SOL_SOCKET else f"{value:#x}"


# -- addresses -------------------------------------------------------------------------------------------------------


def sockaddr(call: Call, address: int, size: int) -> str:
    """A ``struct sockaddr`` of so many bytes."""
    data = call.bytes_at(address, size) if 2 <= size <= abi.SOCKADDR_MAX * 2 else None
    if not address or data is None:
        return pointer(address)
    family = struct.unpack_from("<H", data)[0]
    head = f"{{sa_family={named(family, FAMILIES, 'AF_')}"
    rest = data[2:]
    if not rest:
        return head + "}"
    if family != abi.AF_UNIX:
        return f"{head}, sa_data={quoted(rest, None)}}}"
    if rest.startswith(b"\0"):
        return f"{head}, sun_path=@{quoted(rest[1 : abi.SUN_PATH_BYTES], None)}}}"
    return f"{head}, sun_path={quoted(rest[: abi.SUN_PATH_BYTES].partition(bytes(1))[0], None)}}}"


def word(call: Call, address: int) -> int | None:
    data = call.bytes_at(address, 4) if address else None
    return None if data is None else int(struct.unpack("<i", data)[0])


def sockaddr_in(call: Call, index: int) -> str:
    return sockaddr(call, call.arguments[index], signed(call.arguments[index + 1]))


def sockaddr_out(call: Call, index: int) -> str:
    """The address that came, as far as there was room for it; the next argument points to how long it is."""
    address, now = call.arguments[index], word(call, call.arguments[index + 1])
    if call.failed or now is None or call.before is None:
        return pointer(address)
    return sockaddr(call, address, min(now, call.before)) if address and now else pointer(address)


def length_out(call: Call, index: int) -> str:
    """What a length was, and what it became."""
    now = word(call, call.arguments[index])
    if now is None:
        return pointer(call.arguments[index])
    if call.failed or call.before in (None, now):
        return f"[{now if call.before is None else call.before}]"
    return f"[{call.before} => {now}]"


# -- options ---------------------------------------------------------------------------------------------------------


def _value(option: int, data: bytes) -> str:
    """The value of an option of SOL_SOCKET."""
    if option == abi.SO_LINGER and len(data) == 8:
        return "{{l_onoff={}, l_linger={}}}".format(*struct.unpack("<2i", data))
    if option == abi.SO_PEERCRED and len(data) == 12:
        return ucred(data)
    if len(data) != 4:
        return quoted(data, None)
    number = struct.unpack("<i", data)[0]
    return f"[{NAMES.get(number, number)}]" if option == abi.SO_ERROR else f"[{number}]"


def value_in(call: Call, index: int) -> str:
    address, size = call.arguments[index], signed(call.arguments[index + 1])
    data = call.bytes_at(address, size) if 4 <= size <= 256 else None
    return pointer(address) if data is None else _value(call.arguments[index - 1], data)


def value_out(call: Call, index: int) -> str:
    address, size = call.arguments[index], word(call, call.arguments[index + 1])
    data = None if call.failed or size is None else call.bytes_at(address, size)
    return pointer(address) if data is None else _value(call.arguments[index - 1], data)


def ucred(data: bytes) -> str:
    return "{{pid={}, uid={}, gid={}}}".format(*struct.unpack("<3i", data))

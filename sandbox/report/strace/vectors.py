"""Vectors and messages as text: pieces of memory, and what goes beside their bytes."""

from __future__ import annotations

import struct

from sandbox.kernel.abi import flags as numbers
from sandbox.kernel.abi import socket as abi
from sandbox.report.strace import layouts, words
from sandbox.report.strace.call import Call
from sandbox.report.strace.sockets import CONTROLS, FLAGS, LEVELS, sockaddr, ucred, word
from sandbox.report.strace.words import STRING_LIMIT, bits, pointer, quoted, signed

ALL = 1 << 32
MOST_SHOWN = 64
"""Messages of one call."""


def _vector(call: Call, address: int, count: int, left: int) -> str:
    """A vector of which the first ``left`` bytes count."""
    data = call.bytes_at(address, 8 * count) if count <= numbers.UIO_MAXIOV else None
    if data is None:
        return pointer(address)
    shown = []
    for base, size in ((each.iov_base, each.iov_len) for each in layouts.IOVEC[count].parse(data)):
        seen = min(size, words.STRING_LIMIT, left)
        text = quoted(call.kernel.peek.read_user(call.task.mm, base, seen), more=seen < min(size, left))
        shown.append(f"{{iov_base={text if base else 'NULL'}, iov_len={size}}}")
        left -= min(left, size)
    return "[" + ", ".join(shown) + "]"


def iovec(call: Call, index: int, left: int) -> str:
    """The vector of an argument, whose entries the next one counts."""
    return _vector(call, call.arguments[index], call.arguments[index + 1], left)


def iovec_out(call: Call, index: int) -> str:
    return pointer(call.arguments[index]) if call.failed else iovec(call, index, call.result or 0)


# -- messages --------------------------------------------------------------------------------------------------------


def _cmsg(length: int, level: int, kind: int, body: bytes) -> str:
    own = level == abi.SOL_SOCKET
    name = CONTROLS.get(kind, f"{kind:#x} /* SCM_??? */") if own else f"{kind:#x}"
    text = f"cmsg_len={length}, cmsg_level={LEVELS.get(level, f'{level:#x} /* SOL_??? */')}, cmsg_type={name}"
    if own and kind == abi.SCM_RIGHTS and len(body) >= 4:
        fds = struct.unpack_from(f"<{len(body) // 4}i", body)
        more = ", ..." if len(fds) > STRING_LIMIT else ""
        text += f", cmsg_data=[{', '.join(map(str, fds[:STRING_LIMIT]))}{more}]"
    elif own and kind == abi.SCM_CREDENTIALS and len(body) == 12:
        text += f", cmsg_data={ucred(body)}"
    return f"{{{text}}}"


def _control(call: Call, address: int, size: int) -> str | None:
    """Ancillary data, piece by piece; None where there is none, the address of what cannot be read."""
    if not address or not size:
        return None
    data = call.bytes_at(address, size) if abi.CMSG_BYTES <= size <= 4096 else None
    shown: list[str] = []
    at = 0
    while data is not None and at + abi.CMSG_BYTES <= size:
        length, level, kind = struct.unpack_from("<IiI", data, at)
        shown.append(_cmsg(length, level, kind, data[at + abi.CMSG_BYTES : at + max(length, abi.CMSG_BYTES)]))
        if length < abi.CMSG_BYTES:
            break
        at += abi.cmsg_align(length)
    return f"[{', '.join(shown)}]" if shown else pointer(address)


def _msghdr(call: Call, address: int, left: int) -> str:
    """A ``struct msghdr``, of whose bytes the first ``left`` count."""
    data = call.bytes_at(address, abi.MSGHDR_BYTES)
    if data is None:
        return pointer(address)
    header = abi.unpack_msghdr(data)
    name = sockaddr(call, header.name, header.name_size) if header.name and header.name_size else pointer(header.name)
    text = f"{{msg_name={name}, msg_namelen={signed(header.name_size)}, "
    text += f"msg_iov={_vector(call, header.vector, header.pieces, left)}, msg_iovlen={header.pieces}, "
    control = _control(call, header.control, header.control_size)
    text += f"msg_control={control}, " if control is not None else ""
    return text + f"msg_controllen={header.control_size}, msg_flags={bits(header.flags, FLAGS)}}}"


def msghdr(call: Call, index: int) -> str:
    """What is sent."""
    return _msghdr(call, call.arguments[index], ALL)


def msghdr_out(call: Call, index: int) -> str:
    """What came."""
    size = call.bytes_at(call.arguments[index] + 4, 4)
    if call.failed and size is not None:
        return f"{{msg_namelen={layouts.INT.parse(size)}}}"
    return _msghdr(call, call.arguments[index], call.result or 0)


def _mmsghdrs(call: Call, address: int, count: int, done: int) -> str:
    """A vector of messages, of which the first ``done`` have been sent or received."""
    shown: list[str] = []
    for at in range(address, address + min(count, MOST_SHOWN) * abi.MMSGHDR_BYTES, abi.MMSGHDR_BYTES):
        size = word(call, at + abi.MSGHDR_BYTES)
        if size is None:
            return pointer(address)
        was_done = len(shown) < done
        text = f"{{msg_hdr={_msghdr(call, at, size if was_done else ALL)}"
        shown.append(text + (f", msg_len={size}}}" if was_done else "}"))
    return f"[{', '.join(shown)}]"


def mmsghdrs(call: Call, index: int) -> str:
    """Messages that are sent."""
    return _mmsghdrs(call, call.arguments[index], call.arguments[index + 1], max(0, call.result or 0))


def mmsghdrs_out(call: Call, index: int) -> str:
    """Messages that came."""
    done = call.result or 0
    return pointer(call.arguments[index]) if call.failed else _mmsghdrs(call, call.arguments[index], done, done)

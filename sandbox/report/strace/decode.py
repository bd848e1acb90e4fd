"""One argument as text: a decoder for each kind that the signatures name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from construct import Construct, GreedyRange

from sandbox.kernel.abi import flags as abi
from sandbox.kernel.abi import signals
from sandbox.report.strace import layouts, ptrace, sockets, structures, vectors, words
from sandbox.report.strace.call import Call, Decoder
from sandbox.report.strace.words import bits, choice, pointer, quoted, signed, table

WIDE = frozenset({"llong", "hilo"})
"""Kinds that take two registers."""


def _structure(layout: Construct, show: Callable[[Any], str] = structures.fields) -> Decoder:
    """A pointer to a structure that goes in."""
    size = layout.sizeof()

    def decode(call: Call, index: int) -> str:
        address = call.arguments[index]
        data = call.bytes_at(address, size) if address else None
        return pointer(address) if data is None else show(layout.parse(data))

    return decode


def _filled(decoder: Decoder) -> Decoder:
    """What the kernel stores: shown as an address when the call failed."""

    def decode(call: Call, index: int) -> str:
        return pointer(call.arguments[index]) if call.failed else decoder(call, index)

    return decode


def _flags(prefix: str, zero: str = "0", *leave_out: str) -> Decoder:
    names = table(prefix, *leave_out)
    return lambda call, index: bits(call.arguments[index], names, zero)


def _choice(names: dict[int, str]) -> Decoder:
    return lambda call, index: choice(call.arguments[index], names)


def _path(call: Call, index: int) -> str:
    address = call.arguments[index]
    text = call.kernel.peek.read_string(call.task.mm, address) if address else None
    return pointer(address) if text is None else quoted(text, None)


def _in_buffer(call: Call, index: int) -> str:
    address, size = call.arguments[index], call.arguments[index + 1]
    data = call.kernel.peek.read_user(call.task.mm, address, min(size, words.STRING_LIMIT))
    return pointer(address) if len(data) < min(size, words.STRING_LIMIT) else quoted(data, more=len(data) < size)


def _out_buffer(call: Call, index: int) -> str:
    address, size = call.arguments[index], call.result or 0
    if size < 0:
        return pointer(address)
    data = call.kernel.peek.read_user(call.task.mm, address, min(size, words.STRING_LIMIT))
    return quoted(data, more=len(data) < size)


def _received(call: Call, index: int) -> str:
    """Of a message that was longer than the buffer the result may count the rest too (MSG_TRUNC)."""
    if call.result is None or call.result < 0:
        return pointer(call.arguments[index])
    return _out_buffer(Call(call.kernel, call.task, call.arguments, min(call.result, call.arguments[index + 1])), index)


def _random_buffer(call: Call, index: int) -> str:
    address, size = call.arguments[index], call.result or 0
    return pointer(address) if size < 0 else words.hexed(call.kernel.peek.read_user(call.task.mm, address, size))


def _out_string(call: Call, index: int) -> str:
    """A name that the kernel stores, of which the result counts the NUL too."""
    data = None if call.failed else call.bytes_at(call.arguments[index], max(0, (call.result or 1) - 1))
    return pointer(call.arguments[index]) if data is None else quoted(data, None)


def _comm(call: Call, index: int) -> str:
    text = call.kernel.peek.read_string(call.task.mm, call.arguments[index], 16)
    return pointer(call.arguments[index]) if text is None else quoted(text, None)


def _pointers(call: Call, address: int) -> list[int] | None:
    found: list[int] = []
    while len(found) < 4096:
        data = call.bytes_at(address + 4 * len(found), 4)
        if data is None:
            return None
        word = int.from_bytes(data, "little")
        if not word:
            break
        found.append(word)
    return found


def _argv(call: Call, index: int) -> str:
    address = call.arguments[index]
    found = _pointers(call, address) if address else None
    if found is None:
        return pointer(address)
    shown = []
    for each in found[: words.STRING_LIMIT]:
        text = call.kernel.peek.read_string(call.task.mm, each)
        shown.append(pointer(each) if text is None else quoted(text))
    return "[" + ", ".join(shown) + (", ..." if len(found) > words.STRING_LIMIT else "") + "]"


def _envp(call: Call, index: int) -> str:
    address = call.arguments[index]
    found = _pointers(call, address) if address else None
    if found is None:
        return pointer(address)
    return f"{address:#x} /* {len(found)} var{'' if len(found) == 1 else 's'} */"


def _dirfd(call: Call, index: int) -> str:
    value = signed(call.arguments[index])
    return "AT_FDCWD" if value == abi.AT_FDCWD else str(value)


def _wait_out(call: Call, index: int) -> str:
    """Stored only when there was a child."""
    if not call.result or call.result < 0:
        return pointer(call.arguments[index])
    return _structure(layouts.UINT, structures.wait_status)(call, index)


_POLL = {1: "POLLIN", 2: "POLLPRI", 4: "POLLOUT", 8: "POLLERR", 16: "POLLHUP", 32: "POLLNVAL",
         0x40: "POLLRDNORM", 0x80: "POLLRDBAND", 0x100: "POLLWRNORM",
         0x200: "POLLWRBAND", 0x400: "POLLMSG", 0x2000: "POLLRDHUP"}  # fmt: skip


def poll_events(mask: int) -> str:
    return bits(mask, _POLL)


def _pollfds(call: Call, index: int) -> str:
    address, count = call.arguments[index], call.arguments[index + 1]
    data = call.bytes_at(address, 8 * count) if count <= 1024 else None
    if data is None:
        return pointer(address)
    shown = (f"{{fd={each.fd}, events={poll_events(each.events)}}}" for each in layouts.POLLFD[count].parse(data))
    return "[" + ", ".join(shown) + "]"


def _fd_set(call: Call, index: int) -> str:
    address, count = call.arguments[index], min(call.arguments[0], 1024)
    data = call.bytes_at(address, (count + 31) // 32 * 4) if address else None
    if data is None:
        return pointer(address)
    mask = int.from_bytes(data, "little")
    return "[" + " ".join(str(fd) for fd in range(count) if mask >> fd & 1) + "]"


def _dirents(call: Call, index: int) -> str:
    address, size = call.arguments[index], call.result or 0
    data = call.bytes_at(address, size) if size >= 0 else None
    if data is None:
        return pointer(address)
    count = len(GreedyRange(layouts.DIRENT64).parse(data))
    return f"{address:#x} /* {count} entr{'y' if count == 1 else 'ies'} */"


def _clone_flags(call: Call, index: int) -> str:
    value = call.arguments[index]
    names = bits(value & ~0xFF, table("CLONE_"), "")
    number = value & 0xFF
    sent = words.signal_name(number) if number else ""
    return "|".join(each for each in (names, sent) if each) or "0"


def _wake_op(call: Call, index: int) -> str:
    """FUTEX_WAKE_OP's third word: what is done to the second futex, and how what was there is compared."""
    value = call.arguments[index]
    kind, comparison = value >> 28 & 7, value >> 24 & 15
    does = dict(enumerate(("SET", "ADD", "OR", "ANDN", "XOR"))).get(kind)
    asks = dict(enumerate(("EQ", "NE", "LT", "LE", "GT", "GE"))).get(comparison)
    return "|".join((
        *(("FUTEX_OP_OPARG_SHIFT<<28",) if value >> 31 else ()),
        f"FUTEX_OP_{does}<<28" if does else f"{kind:#x}<<28 /* FUTEX_OP_??? */",
        _hex(value >> 12 & 0xFFF) + "<<12",
        f"FUTEX_OP_CMP_{asks}<<24" if asks else f"{comparison:#x}<<24 /* FUTEX_OP_CMP_??? */",
        _hex(value & 0xFFF),
    ))  # fmt: skip


def _hex(value: int) -> str:
    return f"{value:#x}" if value else "0"


def _umode(call: Call, index: int) -> str:
    return words.mode(call.arguments[index])


_CLOCKS = table("CLOCK_")
_WHENCE = table("SEEK_")
_LIMITS = table("RLIMIT_")
_HOW = {signals.SIG_BLOCK: "SIG_BLOCK", signals.SIG_UNBLOCK: "SIG_UNBLOCK", signals.SIG_SETMASK: "SIG_SETMASK"}
_ADVICE = table("MADV_")
_WAIT = {
    1: "WNOHANG",
    2: "WSTOPPED",
    8: "WCONTINUED",
    0x20000000: "__WNOTHREAD",
    0x40000000: "__WALL",
    0x80000000: "__WCLONE",
}
_WAITID = {**_WAIT, 4: "WEXITED", 0x01000000: "WNOWAIT"}
_FUTEX = {
    0: "WAIT", 1: "WAKE", 3: "REQUEUE", 4: "CMP_REQUEUE", 5: "WAKE_OP", 6: "LOCK_PI", 7: "UNLOCK_PI",
    8: "TRYLOCK_PI", 9: "WAIT_BITSET", 10: "WAKE_BITSET", 11: "WAIT_REQUEUE_PI", 12: "CMP_REQUEUE_PI", 13: "LOCK_PI2",
}  # fmt: skip
ALL_BITS = 0xFFFFFFFF
_PROT = {1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC", 0x01000000: "PROT_GROWSDOWN", 0x02000000: "PROT_GROWSUP"}


def _map_flags(call: Call, index: int) -> str:
    value = call.arguments[index]
    kind = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE"}.get(value & 0xF)
    rest = bits(value & ~0xF, {bit: name for bit, name in table("MAP_", "MAP_TYPE").items() if bit > 3}, "")
    return "|".join(each for each in (kind or (f"{value & 0xF:#x}"), rest) if each)


def _register_mask(call: Call, index: int) -> str:
    return words.sigset(call.arguments[index])


_sigaction_in = _structure(layouts.SIGACTION, structures.sigaction)
_old_sigaction_in = _structure(layouts.OLD_SIGACTION, structures.sigaction)
_PRINT_INT: Decoder = lambda call, index: str(signed(call.arguments[index]))  # noqa: E731

IN: dict[str, Decoder] = {
    "int": _PRINT_INT,
    "fd": _PRINT_INT,
    "uint": lambda call, index: str(call.arguments[index]),
    "hex": lambda call, index: f"{call.arguments[index]:#x}".replace("0x0", "0") if not call.arguments[index]
    else f"{call.arguments[index]:#x}",
    "ptr": lambda call, index: pointer(call.arguments[index]),
    "dirfd": _dirfd,
    "path": _path,
    "buf": _in_buffer,
    "argv": _argv,
    "envp": _envp,
    "oflags": lambda call, index: words.open_flags(call.arguments[index]),
    "mode": _umode,
    "access": lambda call, index: bits(call.arguments[index], {4: "R_OK", 2: "W_OK", 1: "X_OK"}, "F_OK"),
    "atflags": _flags("AT_", "0", *(name for name in vars(abi) if name.startswith("AT_") and name not in (
        "AT_SYMLINK_NOFOLLOW", "AT_SYMLINK_FOLLOW", "AT_NO_AUTOMOUNT", "AT_EMPTY_PATH"))),
    "unlinkflags": lambda call, index: bits(call.arguments[index], {0x200: "AT_REMOVEDIR"}),
    "statxflags": lambda call, index: "AT_STATX_SYNC_AS_STAT" + (
        f"|{rest}" if (rest := bits(call.arguments[index], {0x100: "AT_SYMLINK_NOFOLLOW", 0x800: "AT_NO_AUTOMOUNT",
                                                          0x1000: "AT_EMPTY_PATH"}, "")) else ""),
    "statxmask": lambda call, index: structures.statx_mask(call.arguments[index]),
    "whence": _choice(_WHENCE),
    "prot": lambda call, index: bits(call.arguments[index], _PROT, "PROT_NONE"),
    "map": _map_flags,
    "mremap": _flags("MREMAP_"),
    "msync": _flags("MS_"),
    "advice": _choice(_ADVICE),
    "clock": _choice(_CLOCKS),
    "timerflags": lambda call, index: bits(call.arguments[index], {1: "TIMER_ABSTIME"}),
    "futex": _choice({
        code | flags: f"FUTEX_{name}{'_PRIVATE' * bool(flags & 128)}{'|FUTEX_CLOCK_REALTIME' * bool(flags & 256)}"
        for code, name in _FUTEX.items() for flags in ((0, 128, 256, 384) if code in (9, 11, 13) else (0, 128))
    }),
    "futexbits": lambda call, index: {ALL_BITS: "FUTEX_BITSET_MATCH_ANY", 0: "0"}.get(
        call.arguments[index], f"{call.arguments[index]:#x}"),
    "wakeop": _wake_op,
    "itimer": _choice({0: "ITIMER_REAL", 1: "ITIMER_VIRTUAL", 2: "ITIMER_PROF"}),
    "limit": _choice(_LIMITS),
    "who": _choice({0: "RUSAGE_SELF", 0xFFFFFFFF: "RUSAGE_CHILDREN", 1: "RUSAGE_THREAD"}),
    "ptrace": _choice(ptrace.REQUESTS),
    "ptraceoptions": lambda call, index: bits(call.arguments[index], ptrace.OPTIONS),
    "ptracesignal": lambda call, index: ptrace.signal(call.arguments[index]),
    "signal": lambda call, index: words.signal_name(call.arguments[index]),
    "how": _choice(_HOW),
    "wait": lambda call, index: bits(call.arguments[index], _WAIT),
    "waitid": lambda call, index: bits(call.arguments[index], _WAITID),
    "idtype": _choice({0: "P_ALL", 1: "P_PID", 2: "P_PGID"}),
    "clone": _clone_flags,
    "random": lambda call, index: bits(call.arguments[index], {1: "GRND_NONBLOCK", 2: "GRND_RANDOM"}),
    "poll": _pollfds,
    "fdset": _fd_set,
    "iovec": lambda call, index: vectors.iovec(call, index, 1 << 32),
    "timespec": _structure(layouts.TIMESPEC),
    "timespec64": _structure(layouts.TIMESPEC64),
    "timeval": _structure(layouts.TIMEVAL),
    "itimerval": _structure(layouts.ITIMERVAL),
    "rlimit": _structure(layouts.RLIMIT, structures.rlimit),
    "rlimit64": _structure(layouts.RLIMIT64, structures.rlimit64),
    "sigaction": _sigaction_in,
    "oldsigaction": _old_sigaction_in,
    "sigset": _structure(layouts.ULLONG, words.sigset),
    "oldsigset": _structure(layouts.UINT, words.sigset),
    "mask": _register_mask,
    "user_desc": _structure(layouts.USER_DESC, structures.user_desc),
    "comm": _comm,
    "llong": lambda call, index: str(call.arguments[index] | signed(call.arguments[index + 1]) << 32),
    "hilo": lambda call, index: str(call.arguments[index + 1] | signed(call.arguments[index]) << 32),
    "pages": lambda call, index: f"{call.arguments[index] << 12:#x}" if call.arguments[index] else "0",
    "fdflags": lambda call, index: bits(call.arguments[index], {1: "FD_CLOEXEC"}),
    "fcntl": _choice(table("F_", "F_OK")),
    "ioctl": _choice({
        0x5401: "TCGETS", 0x5402: "TCSETS", 0x5403: "TCSETSW", 0x5404: "TCSETSF", 0x5405: "TCGETA", 0x540A: "TIOCSTI",
        0x540B: "TCFLSH", 0x540E: "TIOCSCTTY", 0x540F: "TIOCGPGRP", 0x5410: "TIOCSPGRP", 0x5411: "TIOCOUTQ",
        0x5413: "TIOCGWINSZ", 0x5414: "TIOCSWINSZ", 0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5422: "TIOCNOTTY",
        0x5429: "TIOCGSID", 0x5450: "FIONCLEX", 0x5451: "FIOCLEX", 0x5452: "FIOASYNC",
    }),
    "prctl": _choice({15: "PR_SET_NAME", 16: "PR_GET_NAME"}),
    "in_int": _structure(layouts.INT, "[{}]".format),
    "winsize": _structure(layouts.WINSIZE),
    "family": lambda call, index: sockets.named(call.arguments[index], sockets.FAMILIES, "AF_"),
    "socktype": lambda call, index: sockets.socket_type(call.arguments[index]),
    "sockaddr": sockets.sockaddr_in,
    "msghdr": vectors.msghdr,
    "level": lambda call, index: sockets.named(call.arguments[index], sockets.LEVELS, "SOL_"),
    "option": lambda call, index: sockets.option(call.arguments[index - 1], call.arguments[index]),
    "optval": sockets.value_in,
    "socketcall": lambda call, index: choice(call.arguments[index], sockets.CALLS),
    "shut": lambda call, index: sockets.named(call.arguments[index], sockets.HOW, "SHUT_"),
    "msgflags": lambda call, index: bits(call.arguments[index], sockets.FLAGS),
    "sockflags": lambda call, index: sockets.accept_flags(call.arguments[index]),
    "child_stack": lambda call, index: pointer(call.arguments[index]),
    "parent_tid": lambda call, index: pointer(call.arguments[index]),
    "tls": _structure(layouts.USER_DESC, structures.user_desc),
    "child_tidptr": lambda call, index: pointer(call.arguments[index]),
}  # fmt: skip

OUT: dict[str, Decoder] = {
    "out_buf": _out_buffer,
    "out_message": _received,
    "out_comm": _comm,
    "out_mask": lambda call, index: f"{{mask={words.sigset(call.task.signals.blocked)}}}",
    "out_winsize": _filled(_structure(layouts.WINSIZE)),
    "out_random": _random_buffer,
    "out_string": _out_string,
    "out_link": _out_buffer,
    "out_stat64": _filled(_structure(layouts.STAT64, structures.stat64)),
    "out_statx": _filled(_structure(layouts.STATX, structures.statx)),
    "out_timespec": _filled(_structure(layouts.TIMESPEC)),
    "out_timespec64": _filled(_structure(layouts.TIMESPEC64)),
    "out_timeval": _filled(_structure(layouts.TIMEVAL)),
    "out_itimerval": _filled(_structure(layouts.ITIMERVAL)),
    "out_rlimit": _filled(_structure(layouts.RLIMIT, structures.rlimit)),
    "out_rlimit64": _filled(_structure(layouts.RLIMIT64, structures.rlimit64)),
    "out_utsname": _filled(_structure(layouts.UTSNAME, structures.utsname)),
    "out_sigaction": _filled(_sigaction_in),
    "out_oldsigaction": _filled(_old_sigaction_in),
    "out_sigset": _filled(_structure(layouts.ULLONG, words.sigset)),
    "out_oldsigset": _filled(_structure(layouts.UINT, words.sigset)),
    "out_fds": _filled(_structure(layouts.PAIR, lambda pair: "[{}, {}]".format(*pair))),
    "out_wait": _wait_out,
    "out_iovec": vectors.iovec_out,
    "out_dirents": _dirents,
    "out_int": _filled(_structure(layouts.INT, "[{}]".format)),
    "out_llong": _filled(_structure(layouts.LLONG, "[{}]".format)),
    "out_msghdr": vectors.msghdr_out,
    "mmsghdrs": vectors.mmsghdrs,
    "out_mmsghdrs": vectors.mmsghdrs_out,
    "out_sockaddr": sockets.sockaddr_out,
    "out_length": sockets.length_out,
    "out_optval": sockets.value_out,
    "out_ptr": lambda call, index: pointer(call.arguments[index]),
}
"""Decoders that have to wait for the call's result."""

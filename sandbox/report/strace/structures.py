"""Structures of Linux i386 as text: bytes of the program's memory in, what strace would say of them out."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack

from sandbox.kernel.abi import flags as abi
from sandbox.kernel.abi import signals
from sandbox.kernel.abi.structs import SigAction, UserDesc
from sandbox.report.strace import words
from sandbox.report.strace.words import bits, pointer, quoted


def sigaction(form: Callable[[bytes], SigAction]) -> Callable[[bytes], str]:
    def show(data: bytes) -> str:
        action = form(data)
        handler = {0: "SIG_DFL", 1: "SIG_IGN"}.get(action.handler, f"{action.handler:#x}")
        field = "sa_sigaction" if action.flags & signals.SA_SIGINFO and action.handler > 1 else "sa_handler"
        names = {value: name for name, value in vars(signals).items() if name.startswith("SA_")}
        text = f"{{{field}={handler}, sa_mask={words.sigset(action.mask)}, sa_flags={bits(action.flags, names)}"
        if action.flags & signals.SA_RESTORER:
            text += f", sa_restorer={pointer(action.restorer)}"
        return text + "}"

    return show


def stat64(data: bytes) -> str:
    (mode,) = unpack("<I", data[16:20])
    if mode & abi.S_IFMT in (abi.S_IFCHR, abi.S_IFBLK):
        (device,) = unpack("<Q", data[32:40])
        return f"{{st_mode={words.file_mode(mode)}, st_rdev={_device(device)}, ...}}"
    (size,) = unpack("<q", data[44:52])
    return f"{{st_mode={words.file_mode(mode)}, st_size={size}, ...}}"


def _device(device: int) -> str:
    return f"makedev({device >> 8 & 0xFFF:#x}, {device & 0xFF | device >> 12 & 0xFFF00:#x})"


def statx(data: bytes) -> str:
    (mask,) = unpack("<I", data[:4])
    (attributes,) = unpack("<Q", data[8:16])
    (mode,) = unpack("<H", data[28:30])
    (size,) = unpack("<Q", data[40:48])
    return (
        f"{{stx_mask={statx_mask(mask)}, stx_attributes={attributes:#x}, stx_mode={words.file_mode(mode)}, "
        f"stx_size={size}, ...}}"
    ).replace("stx_attributes=0x0", "stx_attributes=0")


def statx_mask(mask: int) -> str:
    return bits(
        mask, {abi.STATX_BASIC_STATS: "STATX_BASIC_STATS", abi.STATX_BTIME: "STATX_BTIME", 0x1000: "STATX_MNT_ID"}
    )


def timespec(data: bytes) -> str:
    seconds, nano = unpack("<2i", data)
    return f"{{tv_sec={seconds}, tv_nsec={nano}}}"


def timespec64(data: bytes) -> str:
    seconds, nano = unpack("<qi4x", data)
    return f"{{tv_sec={seconds}, tv_nsec={nano}}}"


def timeval(data: bytes) -> str:
    seconds, micro = unpack("<2i", data)
    return f"{{tv_sec={seconds}, tv_usec={micro}}}"


def itimerval(data: bytes) -> str:
    return f"{{it_interval={timeval(data[:8])}, it_value={timeval(data[8:])}}}"


def _size_of_limit(value: int, infinity: int) -> str:
    if value == infinity:
        return "RLIM_INFINITY"
    return f"{value // 1024}*1024" if value > 1024 and not value % 1024 else str(value)


def rlimit(data: bytes) -> str:
    soft, hard = (_size_of_limit(each, 0xFFFFFFFF) for each in unpack("<2I", data))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}"


def rlimit64(data: bytes) -> str:
    soft, hard = (_size_of_limit(each, (1 << 64) - 1) for each in unpack("<2Q", data))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}".replace("RLIM_INFINITY", "RLIM64_INFINITY")


def utsname(data: bytes) -> str:
    system, node = (quoted(data[at : at + 65].partition(b"\0")[0], None) for at in (0, 65))
    return f"{{sysname={system}, nodename={node}, ...}}"


def user_desc(data: bytes) -> str:
    desc = UserDesc.unpack(data)
    low = int.from_bytes(data[12:16], "little")
    return (
        f"{{entry_number={desc.entry_number}, base_addr={pointer(desc.base)}, limit={desc.limit:#08x}, "
        f"seg_32bit={low & 1}, contents={low >> 1 & 3}, read_exec_only={low >> 3 & 1}, limit_in_pages={low >> 4 & 1}, "
        f"seg_not_present={low >> 5 & 1}, useable={low >> 6 & 1}}}"
    )


def wait_status(data: bytes) -> str:
    (status,) = unpack("<I", data)
    if status == 0xFFFF:
        return "[{WIFCONTINUED(s)}]"
    if status & 0xFF == 0x7F:
        return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {words.signal_name(status >> 8 & 0xFF)}}}]"
    if status & 0x7F:
        core = " && WCOREDUMP(s)" if status & 0x80 else ""
        return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {words.signal_name(status & 0x7F)}{core}}}]"
    return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"


def pair(data: bytes) -> str:
    return "[{}, {}]".format(*unpack("<2i", data))


def winsize(data: bytes) -> str:
    return "{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}".format(*unpack("<4H", data))


def sigset(data: bytes) -> str:
    return words.sigset(int.from_bytes(data, "little"))

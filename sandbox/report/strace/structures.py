"""Structures of Linux i386 as text: what was read by ``layouts`` in, what strace would say of it out."""

from __future__ import annotations

from construct import Container

from sandbox.kernel.abi import flags as abi
from sandbox.kernel.abi import signals
from sandbox.report.strace import ptrace, words
from sandbox.report.strace.words import bits, pointer, quoted


def fields(record: Container) -> str:
    """Every member as a number, structures inside likewise."""
    shown = ((name, value) for name, value in record.items() if not name.startswith("_"))
    return "{" + ", ".join(f"{name}={fields(each) if isinstance(each, dict) else each}" for name, each in shown) + "}"


def sigaction(action: Container) -> str:
    handler = {0: "SIG_DFL", 1: "SIG_IGN"}.get(action.sa_handler, f"{action.sa_handler:#x}")
    field = "sa_sigaction" if action.sa_flags & signals.SA_SIGINFO and action.sa_handler > 1 else "sa_handler"
    names = {value: name for name, value in vars(signals).items() if name.startswith("SA_")}
    text = f"{{{field}={handler}, sa_mask={words.sigset(action.sa_mask)}, sa_flags={bits(action.sa_flags, names)}"
    if action.sa_flags & signals.SA_RESTORER:
        text += f", sa_restorer={pointer(action.sa_restorer)}"
    return text + "}"


def stat64(stat: Container) -> str:
    mode = f"st_mode={words.file_mode(stat.st_mode)}"
    if stat.st_mode & abi.S_IFMT in (abi.S_IFCHR, abi.S_IFBLK):
        return f"{{{mode}, st_rdev={_device(stat.st_rdev)}, ...}}"
    return f"{{{mode}, st_size={stat.st_size}, ...}}"


def _device(device: int) -> str:
    return f"makedev({device >> 8 & 0xFFF:#x}, {device & 0xFF | device >> 12 & 0xFFF00:#x})"


def statx(stat: Container) -> str:
    attributes = f"{stat.stx_attributes:#x}" if stat.stx_attributes else "0"
    return (
        f"{{stx_mask={statx_mask(stat.stx_mask)}, stx_attributes={attributes}, "
        f"stx_mode={words.file_mode(stat.stx_mode)}, stx_size={stat.stx_size}, ...}}"
    )


def statx_mask(mask: int) -> str:
    return bits(
        mask, {abi.STATX_BASIC_STATS: "STATX_BASIC_STATS", abi.STATX_BTIME: "STATX_BTIME", 0x1000: "STATX_MNT_ID"}
    )


def _size_of_limit(value: int, infinity: int) -> str:
    if value == infinity:
        return "RLIM_INFINITY"
    return f"{value // 1024}*1024" if value > 1024 and not value % 1024 else str(value)


def rlimit(limit: Container) -> str:
    soft, hard = (_size_of_limit(each, 0xFFFFFFFF) for each in (limit.rlim_cur, limit.rlim_max))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}"


def rlimit64(limit: Container) -> str:
    soft, hard = (_size_of_limit(each, (1 << 64) - 1) for each in (limit.rlim_cur, limit.rlim_max))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}".replace("RLIM_INFINITY", "RLIM64_INFINITY")


def utsname(names: Container) -> str:
    return f"{{sysname={quoted(names.sysname, None)}, nodename={quoted(names.nodename, None)}, ...}}"


_USER_DESC_BITS = ("seg_32bit", "contents", "read_exec_only", "limit_in_pages", "seg_not_present", "useable")


def user_desc(desc: Container) -> str:
    text = f"{{entry_number={desc.entry_number}, base_addr={pointer(desc.base_addr)}, limit={desc.limit:#08x}"
    return text + "".join(f", {name}={desc.bits[name]}" for name in _USER_DESC_BITS) + "}"


def wait_status(status: int) -> str:
    if status == 0xFFFF:
        return "[{WIFCONTINUED(s)}]"
    if status & 0xFF == 0x7F:
        return ptrace.stopped(status)
    if status & 0x7F:
        core = " && WCOREDUMP(s)" if status & 0x80 else ""
        return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {words.signal_name(status & 0x7F)}{core}}}]"
    return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"

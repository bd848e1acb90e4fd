"""Native hooks: a few hundred bytes of host code that run, count, stop and capture without entering Python.

The source is ``native/stubs.S``; on hosts other than x86-64 Linux ``sandbox.engine.fallback`` does the same work
with ctypes callbacks, slower and with less protection.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import signal
import sys

from sandbox.engine import internals, nativecode
from sandbox.engine.library import EngineError, UnknownEngine, library

(
    REASON_NONE,
    REASON_TRAP,
    REASON_BLOCKS,
    REASON_STEPS,
    REASON_BREAKPOINT,
    REASON_ABORTED,
    REASON_FETCH,
    REASON_PAUSED,
    REASON_WATCHED,
    REASON_LOADED,
    REASON_GUESTS,
    REASON_MODE,
) = range(12)
"""``HookPad.reason``: FETCH is a page fault raised while a block was translated, PAUSED the fuel or a tick.

WATCHED is before an access, LOADED behind a load of CR3, GUESTS before what DR0 to DR3
watch, MODE before a block in another mode (``native/watch.S``).
"""

NOBODYS = 15
"""``HookPad.number`` of a CPU that no TLB feed reads."""
FUEL_OF_A_RUN = 4096
"""Blocks entered by falling through that one run may add to those it counts: they bound its time, not its clock."""

_CODE = bytes.fromhex(
    "4189d0488b41404c8b49384901f0488971384c8941404839f074214c39ce72054939c0720e4883290178194883794800"
    "7e1cc34883412801488971304883694801780bc3c7412402000000ff6108c7412407000000ff61080f1f840000000000"
    "48836928017801c3c7412403000000ff610866662e0f1f8400000000000f1f00483b7130750948c74130ffffffffc3c7"
    "412404000000ff61080f1f8000000000897220c7422401000000ff62080f1f004883bfc8000000000f85420500005341"
    "544883ec084889fb4c8b6318488b7b504c89e6ff535848c7c0ffffffff488b8b98000000488943384889839800000048"
    "894b4048ffc048898388000000488983a0000000488b83b000000048894348c7432400000000418bb42478150000f7c6"
    "ff0000007415488b7b7048c7875015000000040000ff150d0f000048891dde0e0000dbe20fae1530050000488b7b5049"
    "8bb424a800000031d231c94531c0ff536048c705b40e00000000000089c048898390000000488b7b504c89e6ff531041"
    "c78424a0150000ffffffff837b24017534837b200e752e4183bc2434150000007523498b8424a8000000490384240001"
    "0000483b43387206483b43407207c7432406000000498b842480150000490b842488150000490b842490150000490b84"
    "24981500007442488b7b68be30000000ff154a0e0000488b5370498d8c24801500004881c25815000031c04889014889"
    "410848894110488941184889024889420848894210488942188b432483e8010b83900000000b83880000004883c40841"
    "5c5bc366662e0f1f8400000000006690534889cbff5378dbe20fae151b04000083bb880000000075255bc30f1f440000"
    "534c89c3ff9380000000dbe20fae15f803000083bb880000000075025bc3488b7b70be0d00000031d2ff15990d000090"
    "488b1d790d00004885db741c4883e4f0c7432405000000488b7b50ff5308488b7b68ff15680d0000ff255a0d00006690"
    "488b82a8000000483b05220d00000f82ad000000483b051d0d00000f83a00000004531db0fb6084189c94181e1f00000"
    "004183f94075094189cb48ffc00fb60881f9f700000075790fb648014189c94183e1384183f93875684883c0024189c9"
    "41c1e9064183f903742b83e10783f90475090fb60848ffc083e1074183f901750548ffc0eb0f4183f902740583f90575"
    "044883c004488982a8000000b80000008041f7c308000000740448c1e0204889829000000048c7828800000000000000"
    "c3488b05780c00004883f8017602ffe0bf0800000031f6ff256b0c00000f1f0031c048890748894708c3660f1f440000"
    "48893db90c0000488915ba0c0000ff257c0c000066662e0f1f8400000000009057564883ec08488b3d930c0000488b35"
    "940c00004881e600f0ffff488d9600100000ff15500c00004883c4085e5fff254c0c000066662e0f1f84000000000090"
    "53415441554883ec104989f4ff15360c0000488b1de70b00004885db744e498b3424410fb74424144c8d6c06ff4989f4"
    "488b7b704889e2ff15130c00004883f8ff7429488b34244881e600f0ffffba00100000488b7b68ff15fb0b00004c89ee"
    "4d31ec49c1ec0c4d89ec75c14883c410415d415c5bc3662e0f1f840000000000488b05f10b00008b8fa801000031f1f7"
    "c1000000e00f84e0000000f7c6000000800f84d4000000f787c8010000200000000f84c40000008b97c0010000eb6048"
    "8b05c20b00008b8fc801000031f1f7c1b00000000f84a1000000f7c6200000000f8495000000f787a801000000000080"
    "0f84850000008b97c0010000eb21488b057b0b0000f787a801000000000080746af787c801000020000000745e89f248"
    "833dd90a0000007452534154415550564889fb4189d44183e4e04d8d6c2420488b3dba0a0000488b7f684c89e6ff153d"
    "0b0000a801740f48b9e601000000ffffff4885c875094983c4084d39ec72d04889df5e58415d415c5b7502ffe0be0d00"
    "000031d2ff258e0a0000660f1f440000b88000000039c20f47d0ff25f80a0000488b05590a00004885c0740848c74048"
    "ffffffffc366662e0f1f84000000000048893da90a0000b8270000000f0589c7be13000000b83e0000000f05ebe96690"
    "53ff7718ff37ffb7980000004883ec084889fb488b83c8000000488b8bd00000004889431848890b48c78398000000ff"
    "ffffffe886faffff4883c408488b0b48898bd00000008f83980000008f038f4318b8010000008b4b24480b8b90000000"
    "480b8b88000000751048898bc80000004889df5be945faffff5bc3801f0000"
)
OFFSETS: dict[str, int] = {
    "block": 0x000,
    "steps": 0x060,
    "breakpoint": 0x080,
    "interrupt": 0x0A0,
    "enter": 0x0B0,
    "read_port": 0x250,
    "write_port": 0x270,
    "aborted": 0x2A0,
    "divide_error": 0x2D0,
    "frozen_time": 0x3B0,
    "watched_store": 0x3C0,
    "unwatch": 0x3E0,
    "translated": 0x420,
    "load_cr0": 0x4A0,
    "load_cr3": 0x51E,
    "load_cr4": 0x4DF,
    "shorten": 0x5B0,
    "tick": 0x5C0,
    "fatal": 0x5E0,
}

_SA_SIGINFO, _SA_ONSTACK, _SA_RESTART, _SA_NODEFER = 4, 0x08000000, 0x10000000, 0x40000000


class HookPad(ctypes.Structure):
    """What the hooks of one CPU share with Python; the layout is fixed by ``native/stubs.S``."""

    _fields_ = (
        ("blocks", ctypes.c_int64),
        ("stop", ctypes.c_void_p),
        ("save", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("vector", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("steps", ctypes.c_int64),
        ("skip", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("fuel", ctypes.c_int64),
        ("engine", ctypes.c_void_p),
        ("restore", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("cpu", ctypes.c_void_p),
        ("env", ctypes.c_void_p),
        ("read_port", ctypes.c_void_p),
        ("write_port", ctypes.c_void_p),
        ("refused", ctypes.c_uint64),
        ("error", ctypes.c_uint64),
        ("behind", ctypes.c_uint64),
        ("stopping", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("share", ctypes.c_int64),
        ("mode", ctypes.c_uint64),
        ("passed", ctypes.c_uint64),
        ("ahead", ctypes.c_void_p),
        ("ahead_blocks", ctypes.c_int64),
        ("stops_at_cr3", ctypes.c_uint64),
    )


PAD_BLOCKS, PAD_CONTEXT, PAD_STEPS, PAD_SKIP, PAD_FIRST, PAD_END = 0, 3, 5, 6, 7, 8
PAD_AHEAD, PAD_AHEAD_BLOCKS = 25, 26
PAD_REFUSED, PAD_ERROR, PAD_BEHIND, PAD_STOPPING, PAD_SHARE, PAD_MODE, PAD_PASSED = 17, 18, 19, 20, 22, 23, 24
"""Indices of 64-bit words in a HookPad, for hot paths."""
PAD_VECTOR32, PAD_REASON32 = 8, 9


class _Links(ctypes.Structure):
    """The stubs' page of data."""

    _fields_ = (
        ("library_first", ctypes.c_uint64),
        ("library_end", ctypes.c_uint64),
        ("previous", ctypes.c_uint64),
        ("signal", ctypes.c_uint64),
        ("running", ctypes.c_uint64),
        ("real_abort", ctypes.c_uint64),
        ("leave_loop", ctypes.c_uint64),
        ("raise_error", ctypes.c_uint64),
        ("remove_breakpoints", ctypes.c_uint64),
        ("set_debug7", ctypes.c_uint64),
        ("invalidate_bytes", ctypes.c_uint64),
        ("invalidate_range", ctypes.c_uint64),
        ("set_dirty", ctypes.c_uint64),
        ("insert_block", ctypes.c_uint64),
        ("code_page", ctypes.c_uint64),
        ("watch_page", ctypes.c_uint64),
        ("stored_engine", ctypes.c_uint64),
        ("stored_at", ctypes.c_uint64),
        ("fatal_signal", ctypes.c_uint64),
        ("update_cr0", ctypes.c_uint64),
        ("update_cr3", ctypes.c_uint64),
        ("update_cr4", ctypes.c_uint64),
        ("load_quad", ctypes.c_uint64),
        ("translate", ctypes.c_uint64),
    )


class _SigAction(ctypes.Structure):
    """``struct sigaction`` of x86-64 glibc."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_LINKED = (
    ("leave_loop", "cpu_loop_exit_noexc_x86_64"),
    ("raise_error", "raise_exception_err_x86_64"),
    ("remove_breakpoints", "cpu_breakpoint_remove_all_x86_64"),
    ("set_debug7", "cpu_x86_update_dr7_x86_64"),
    ("invalidate_range", "tb_invalidate_phys_page_range_x86_64"),
    ("code_page", "get_page_addr_code_hostp_x86_64"),
    ("watch_page", "tlb_reset_dirty_x86_64"),
    ("load_quad", "x86_ldq_phys_x86_64"),
)
"""Links of the stubs' data and the functions of the engine that they call."""
_REDIRECTED = (
    ("invalidate_bytes", "tb_invalidate_phys_page_fast_x86_64", "watched_store"),
    ("set_dirty", "tlb_set_dirty_x86_64", "unwatch"),
    ("insert_block", "tcg_tb_insert_x86_64", "translated"),
    ("translate", "gen_intermediate_code_x86_64", "shorten"),
    ("update_cr0", "cpu_x86_update_cr0_x86_64", "load_cr0"),
    ("update_cr3", "cpu_x86_update_cr3_x86_64", "load_cr3"),
    ("update_cr4", "cpu_x86_update_cr4_x86_64", "load_cr4"),
    ("real_abort", "abort", "aborted"),
)
"""Links, functions, and the stubs that stand before them."""
_REFUSED = {"exit": "aborted", "gettimeofday": "frozen_time"}
"""What the C library shall not do for the engine, and the stubs that do it."""


def native_host() -> bool:
    """True where the stubs' machine code and the offsets of ``internals`` are the host's."""
    return why_not_native() is None


def why_not_native() -> str | None:
    """Why ``fallback`` does the stubs' work: another host, or a library in which their places are not; else None."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "it takes host code for x86-64 Linux"
    return _foreign()


@functools.cache
def _foreign() -> str | None:
    try:
        library()
    except EngineError:
        return None  # there is none, or one of another version: whoever opens it says so
    try:
        internals.check_build()
        for _, name in _LINKED:
            internals.symbol(name)
        for name in (*(name for _, name, _ in _REDIRECTED), *_REFUSED):
            internals.slot(name)
    except (UnknownEngine, OSError) as error:
        return f"it takes the wheel of PyPI: {error}"
    return None


@functools.cache
def _pages() -> tuple[mmap.mmap, int]:
    """A page of code and one of data, private to this process and to each of its forks."""
    return nativecode.made_executable(_CODE, mmap.PAGESIZE, "the engine's hooks")


@functools.cache
def _links() -> _Links:
    links: _Links = _Links.from_address(_pages()[1] + mmap.PAGESIZE)
    return links


def stub_bytes() -> bytes:
    """The committed host code, for the test that assembles its source."""
    return _CODE


def stub_address(name: str) -> int:
    """Host address of a stub."""
    return _pages()[1] + OFFSETS[name]


def guard_division() -> None:
    """Install (again, if somebody replaced it) the SIGFPE handler that turns INT_MIN / -1 into the guest's #DE.

    A SIGFPE from anywhere else than the engine's own division goes to the handler that was there before.
    """
    c = nativecode.libc()
    handler = stub_address("divide_error")
    current = _SigAction()
    c.sigaction(int(signal.SIGFPE), None, ctypes.byref(current))
    if current.handler == handler:
        return
    links = _links()
    links.previous = current.handler or 0
    links.signal = ctypes.cast(c.signal, ctypes.c_void_p).value or 0
    links.library_first, links.library_end = internals.image().text
    action = _SigAction(handler=handler, flags=_SA_SIGINFO | _SA_ONSTACK | _SA_NODEFER)
    c.sigaction(int(signal.SIGFPE), ctypes.byref(action), None)


def stop_on(signals: tuple[int, ...]) -> None:
    """Let fatal signals stop this process instead of ending it; its parent reads what it wants and kills it."""
    c = nativecode.libc()
    action = _SigAction(handler=stub_address("fatal"), flags=_SA_ONSTACK | _SA_NODEFER)
    for number in signals:
        c.sigaction(number, ctypes.byref(action), None)


def catch_ticks(number: int) -> None:
    """Let a signal end the run that is going on at its next block; it interrupts no system call."""
    action = _SigAction(handler=stub_address("tick"), flags=_SA_ONSTACK | _SA_RESTART)
    nativecode.libc().sigaction(number, ctypes.byref(action), None)


def link_address(name: str) -> int:
    """Host address of a word in the stubs' page of data."""
    return _pages()[1] + mmap.PAGESIZE + int(getattr(_Links, name).offset)


def read_link(name: str) -> int:
    """Where a stub goes on."""
    return int(getattr(_links(), name))


def replace_link(name: str, target: int) -> int:
    """Let a stub go on elsewhere; where it went on until now."""
    before = read_link(name)
    setattr(_links(), name, target)
    return before


@functools.cache
def guard_process() -> None:
    """Put stubs between the engine and what it must not do.  Raises UnknownEngine.

    While a CPU runs, the engine's ``abort`` and ``exit`` come back as REASON_ABORTED.  Its ``gettimeofday``, which
    only decides when a TLB shrinks, stands still.  Stores through a non-executable mapping of a frame that holds
    code are noticed.  Loads of CR0, CR3 and CR4 check the PDPTEs.  Blocks are cut before the translator overflows.
    """
    links = _links()
    for link, name in _LINKED:
        setattr(links, link, internals.symbol(name))
    for link, name, stub in _REDIRECTED:
        setattr(links, link, internals.symbol(name))
        internals.redirect(name, stub_address(stub))
    for name, stub in _REFUSED.items():
        internals.redirect(name, stub_address(stub))

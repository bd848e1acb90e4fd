"""Declared layouts against the offsets of Linux's i386 headers, and against bytes that a real Linux gave."""

from __future__ import annotations

from operator import attrgetter

import pytest
from construct import Construct, GreedyRange

from sandbox.report.strace import layouts, structures

SIZES = [
    (layouts.TIMESPEC, 8),
    (layouts.TIMESPEC64, 16),
    (layouts.TIMEVAL, 8),
    (layouts.ITIMERVAL, 16),
    (layouts.RLIMIT, 8),
    (layouts.RLIMIT64, 16),
    (layouts.WINSIZE, 8),
    (layouts.POLLFD, 8),
    (layouts.IOVEC, 8),
    (layouts.STAT64, 96),
    (layouts.STATX, 256),
    (layouts.UTSNAME, 390),
    (layouts.SIGACTION, 20),
    (layouts.OLD_SIGACTION, 16),
    (layouts.USER_DESC, 16),
]
OFFSETS = [
    (layouts.STAT64, {"st_dev": 0, "__st_ino": 12, "st_mode": 16, "st_nlink": 20, "st_uid": 24, "st_gid": 28,
                      "st_rdev": 32, "st_size": 44, "st_blksize": 52, "st_blocks": 56, "st_atime.tv_sec": 64,
                      "st_mtime.tv_nsec": 76, "st_ctime.tv_sec": 80, "st_ino": 88}),
    (layouts.STATX, {"stx_mask": 0, "stx_blksize": 4, "stx_attributes": 8, "stx_nlink": 16, "stx_uid": 20,
                     "stx_gid": 24, "stx_mode": 28, "stx_ino": 32, "stx_size": 40, "stx_blocks": 48,
                     "stx_attributes_mask": 56, "stx_atime.tv_sec": 64, "stx_btime.tv_sec": 80,
                     "stx_ctime.tv_nsec": 104, "stx_mtime.tv_sec": 112, "stx_rdev_major": 128, "stx_dev_minor": 140}),
    (layouts.SIGACTION, {"sa_handler": 0, "sa_flags": 4, "sa_restorer": 8, "sa_mask": 12}),
    (layouts.OLD_SIGACTION, {"sa_handler": 0, "sa_mask": 4, "sa_flags": 8, "sa_restorer": 12}),
    (layouts.POLLFD, {"fd": 0, "events": 4, "revents": 6}),
    (layouts.TIMESPEC64, {"tv_sec": 0, "tv_nsec": 8}),
    (layouts.ITIMERVAL, {"it_interval.tv_usec": 4, "it_value.tv_sec": 8}),
    (layouts.SIGINFO_CHILD, {"si_pid": 0, "si_uid": 4, "si_status": 8, "si_utime": 12, "si_stime": 16}),
]  # fmt: skip
TIMES = "d202964915cd5b07b168de3ab168de3abeb0006b0571c716"


@pytest.mark.parametrize(("layout", "size"), SIZES)
def test_sizes(layout: Construct, size: int) -> None:
    """``sizeof`` of each on i386."""
    assert layout.sizeof() == size


@pytest.mark.parametrize(
    ("layout", "member", "offset"),
    [(layout, member, offset) for layout, members in OFFSETS for member, offset in members.items()],
)
def test_offsets(layout: Construct, member: str, offset: int) -> None:
    data = bytearray(layout.sizeof())
    data[offset] = 1
    assert attrgetter(member)(layout.parse(data)) == 1


def test_stat64_of_a_real_file() -> None:
    """Recorded natively; CC is what Linux left untouched."""
    data = bytes.fromhex(
        "00fe000000000000cccccccc8d842100e98100000200000070110100d20400000000000000000000"
        "cccccccc0d00000000000000001000000800000000000000" + TIMES + "8d84210000000000"
    )
    stat = layouts.STAT64.parse(data)
    assert (stat.st_dev, stat.st_ino, stat.st_nlink, stat.st_uid, stat.st_gid) == (0xFE00, 0x21848D, 2, 70000, 1234)
    assert (stat.st_atime.tv_sec, stat.st_atime.tv_nsec) == (1_234_567_890, 123_456_789)
    assert structures.stat64(stat) == "{st_mode=S_IFREG|0751, st_size=13, ...}"


def test_directory_entries_of_a_real_directory() -> None:
    """Two entries of getdents64; an entry that claims no length ends them."""
    first = bytes.fromhex("8c842100000000002ff47a22000000001800042e00cccccc")
    second = bytes.fromhex("8d8421000000000048e2fc1e0000000018000866696c6500")
    found = GreedyRange(layouts.DIRENT64).parse(first + second + bytes(24))
    assert [(each.d_ino, each.d_type, each.d_name) for each in found] == [(0x21848C, 4, b"."), (0x21848D, 8, b"file")]


@pytest.mark.parametrize(
    ("word", "member", "value"),
    [(1, "seg_32bit", 1), (2, "contents", 1), (4, "contents", 2), (8, "read_exec_only", 1), (0x10, "limit_in_pages", 1),
     (0x20, "seg_not_present", 1), (0x40, "useable", 1)],
)  # fmt: skip
def test_bits_of_user_desc(word: int, member: str, value: int) -> None:
    """``struct user_desc`` counts them from 0 up, in the order of its members."""
    desc = layouts.USER_DESC.parse(bytes(12) + word.to_bytes(4, "little"))
    assert [(name, each) for name, each in desc.bits.items() if each and name != "_io"] == [(member, value)]


def test_user_desc_in_words() -> None:
    flat = layouts.USER_DESC.parse(bytes.fromhex("ffffffff78563412ffff0f0051000000"))
    assert structures.user_desc(flat) == (
        "{entry_number=-1, base_addr=0x12345678, limit=0x0fffff, seg_32bit=1, contents=0, read_exec_only=0, "
        "limit_in_pages=1, seg_not_present=0, useable=1}"
    )


def test_names_end_at_a_nul_or_fill_their_field() -> None:
    data = b"Linux".ljust(65, b"\0") + 65 * b"x" + bytes(4 * 65)
    found = layouts.UTSNAME.parse(data)
    assert (found.sysname, found.nodename, found.domainname) == (b"Linux", 65 * b"x", b"")


def test_members_in_words() -> None:
    assert structures.fields(layouts.WINSIZE.parse(b"\x21\0\x63\0\0\0\0\0")) == (
        "{ws_row=33, ws_col=99, ws_xpixel=0, ws_ypixel=0}"
    )
    timer = b"\1\0\0\0\2\0\0\0" + b"\xff\xff\xff\xff" + bytes(4)
    assert structures.fields(layouts.ITIMERVAL.parse(timer)) == (
        "{it_interval={tv_sec=1, tv_usec=2}, it_value={tv_sec=-1, tv_usec=0}}"
    )
    dirty = bytes.fromhex("010000000000000000000000adde0000")
    assert structures.fields(layouts.TIMESPEC64.parse(dirty)) == "{tv_sec=1, tv_nsec=0}"

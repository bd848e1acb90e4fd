"""Structures of Linux i386 as they lie in a program's memory, declared: sizes, offsets and signs follow from these.

From Linux's ``include/uapi`` and ``arch/x86/include/uapi/asm``.  Members have the names under which strace shows them;
a 64-bit member is aligned to 4 bytes only.  construct takes tens of milliseconds to import: only a traced run does.
"""

from __future__ import annotations

from construct import (
    Bit,
    BitsInteger,
    BitStruct,
    ByteSwapped,
    Construct,
    FixedSized,
    GreedyBytes,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    NullTerminated,
    Padded,
    Padding,
    Struct,
    this,
)


def _name(size: object) -> Construct:
    """Characters up to a NUL, or all of them."""
    return FixedSized(size, NullTerminated(GreedyBytes, require=False))


INT, UINT, LLONG, ULLONG = Int32sl, Int32ul, Int64sl, Int64ul
PAIR = INT[2]

TIMESPEC = Struct("tv_sec" / INT, "tv_nsec" / INT)
TIMESPEC64 = Struct("tv_sec" / LLONG, "tv_nsec" / INT, Padding(4))
"""``__kernel_timespec``: programs leave the upper half of its nanoseconds dirty."""
TIMEVAL = Struct("tv_sec" / INT, "tv_usec" / INT)
ITIMERVAL = Struct("it_interval" / TIMEVAL, "it_value" / TIMEVAL)
RLIMIT = Struct("rlim_cur" / UINT, "rlim_max" / UINT)
RLIMIT64 = Struct("rlim_cur" / ULLONG, "rlim_max" / ULLONG)
WINSIZE = Struct("ws_row" / Int16ul, "ws_col" / Int16ul, "ws_xpixel" / Int16ul, "ws_ypixel" / Int16ul)
POLLFD = Struct("fd" / INT, "events" / Int16ul, "revents" / Int16ul)
IOVEC = Struct("iov_base" / UINT, "iov_len" / UINT)

STAT64 = Struct(
    "st_dev" / ULLONG,
    Padding(4),
    "__st_ino" / UINT,
    "st_mode" / UINT,
    "st_nlink" / UINT,
    "st_uid" / UINT,
    "st_gid" / UINT,
    "st_rdev" / ULLONG,
    Padding(4),
    "st_size" / LLONG,
    "st_blksize" / UINT,
    "st_blocks" / ULLONG,
    "st_atime" / TIMESPEC,
    "st_mtime" / TIMESPEC,
    "st_ctime" / TIMESPEC,
    "st_ino" / ULLONG,
)

_STATX_TIMESTAMP = Struct("tv_sec" / LLONG, "tv_nsec" / UINT, Padding(4))
STATX = Padded(
    256,
    Struct(
        "stx_mask" / UINT,
        "stx_blksize" / UINT,
        "stx_attributes" / ULLONG,
        "stx_nlink" / UINT,
        "stx_uid" / UINT,
        "stx_gid" / UINT,
        "stx_mode" / Int16ul,
        Padding(2),
        "stx_ino" / ULLONG,
        "stx_size" / ULLONG,
        "stx_blocks" / ULLONG,
        "stx_attributes_mask" / ULLONG,
        "stx_atime" / _STATX_TIMESTAMP,
        "stx_btime" / _STATX_TIMESTAMP,
        "stx_ctime" / _STATX_TIMESTAMP,
        "stx_mtime" / _STATX_TIMESTAMP,
        "stx_rdev_major" / UINT,
        "stx_rdev_minor" / UINT,
        "stx_dev_major" / UINT,
        "stx_dev_minor" / UINT,
    ),
)

DIRENT64 = Struct(
    "d_ino" / ULLONG,
    "d_off" / LLONG,
    "d_reclen" / Int16ul,
    "d_type" / Int8ul,
    "d_name" / _name(this.d_reclen - 19),
)
"""``linux_dirent64``: as long as it says itself."""


UTSNAME = Struct(*(name / _name(65) for name in ("sysname", "nodename", "release", "version", "machine", "domainname")))

SIGACTION = Struct("sa_handler" / UINT, "sa_flags" / UINT, "sa_restorer" / UINT, "sa_mask" / ULLONG)
OLD_SIGACTION = Struct("sa_handler" / UINT, "sa_mask" / UINT, "sa_flags" / UINT, "sa_restorer" / UINT)

USER_DESC = Struct(
    "entry_number" / INT,
    "base_addr" / UINT,
    "limit" / UINT,
    "bits"
    / ByteSwapped(
        BitStruct(
            Padding(25),
            "useable" / Bit,
            "seg_not_present" / Bit,
            "limit_in_pages" / Bit,
            "read_exec_only" / Bit,
            "contents" / BitsInteger(2),
            "seg_32bit" / Bit,
        )
    ),
)
"""The C bit field counts from bit 0 up, ``BitStruct`` from bit 31 down."""

SIGINFO_FAULT = Struct("si_addr" / UINT)
SIGINFO_CHILD = Struct("si_pid" / UINT, "si_uid" / UINT, "si_status" / INT, "si_utime" / INT, "si_stime" / INT)
SIGINFO_SENT = Struct("si_pid" / UINT, "si_uid" / UINT, "si_int" / INT)
"""What follows ``siginfo_t``'s first three words, by the kind of signal."""

"""Structures that system calls exchange with a program, in the exact i386 layout.

``pack_*`` makes the bytes to copy out, ``unpack_*`` reads bytes that were copied in.  Times are nanoseconds
throughout; device numbers are Linux's 32-bit ``dev_t`` (see ``makedev``).  A 64-bit member is aligned to 4
bytes only, as the i386 ABI has it: hence ``<`` formats and no padding but what is written out.
"""

from __future__ import annotations

from struct import Struct, pack, unpack

from sandbox.kernel.abi.errno import EINVAL, EOVERFLOW, KernelError
from sandbox.records import dataclass

NANOSECONDS = 1_000_000_000
OVERFLOW_ID = 65534
"""What a 16-bit uid field shows for a uid that does not fit."""

_STAT = Struct("<2I4H10I8x")
_STAT64 = Struct("<Q4x5IQ4xQIQ6IQ")
_STATX = Struct("<2IQ3IH2x4Q" + 4 * "qI4x" + "4I112x")
_UTSNAME = Struct("<65s65s65s65s65s65s")
_SYSINFO = Struct("<10IH2x3I8x")
_RUSAGE = Struct("<18I")
_STATFS64 = Struct("<2I5Q2I3I16x")
_STATFS = Struct("<7I8x3I16x")
_OLD_STAT = Struct("<7H2x4I")
_DIRENT64 = Struct("<QqHB")
_DIRENT = Struct("<2IH")


@dataclass(slots=True)
class Stat:
    """What stat(2) tells of an inode; times in nanoseconds since 1970, ``blocks`` of 512 bytes."""

    dev: int
    ino: int
    mode: int
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    size: int = 0
    blksize: int = 4096
    blocks: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0


def makedev(major: int, minor: int) -> int:
    """A ``dev_t``: the minor number's low byte, 12 bits of major number, the rest of the minor number."""
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def major(device: int) -> int:
    return device >> 8 & 0xFFF


def minor(device: int) -> int:
    return device & 0xFF | device >> 12 & 0xFFF00


def _seconds(time: int) -> tuple[int, int]:
    return time // NANOSECONDS & 0xFFFFFFFF, time % NANOSECONDS


def _short_id(number: int) -> int:
    return number if number <= 0xFFFF else OVERFLOW_ID


def pack_stat(stat: Stat) -> bytes:
    """``struct stat``, 64 bytes, for stat(106), lstat(107), fstat(108).

    Raises KernelError(EOVERFLOW) if inode number, link count or size do not fit.
    """
    if stat.ino > 0xFFFFFFFF or stat.nlink > 0xFFFF or stat.size > 0x7FFFFFFF:
        raise KernelError(EOVERFLOW)
    return _STAT.pack(
        stat.dev, stat.ino,
        stat.mode, stat.nlink, _short_id(stat.uid), _short_id(stat.gid),
        stat.rdev, stat.size, stat.blksize, stat.blocks & 0xFFFFFFFF,
        *_seconds(stat.atime), *_seconds(stat.mtime), *_seconds(stat.ctime),
    )  # fmt: skip


def pack_old_stat(stat: Stat) -> bytes:
    """``struct __old_kernel_stat``, 32 bytes, for oldstat(18), oldfstat(28), oldlstat(84).

    Raises KernelError(EOVERFLOW) if link count or size do not fit; inode and device numbers are cut off.
    """
    if stat.nlink > 0xFFFF or stat.size > 0x7FFFFFFF:
        raise KernelError(EOVERFLOW)
    return _OLD_STAT.pack(
        stat.dev & 0xFFFF, stat.ino & 0xFFFF, stat.mode, stat.nlink, _short_id(stat.uid), _short_id(stat.gid),
        stat.rdev & 0xFFFF, stat.size, *(_seconds(time)[0] for time in (stat.atime, stat.mtime, stat.ctime)),
    )  # fmt: skip


def pack_stat64(stat: Stat) -> bytes:
    """``struct stat64``, 96 bytes, for stat64(195), lstat64(196), fstat64(197), fstatat64(300)."""
    return _STAT64.pack(
        stat.dev, stat.ino & 0xFFFFFFFF, stat.mode, stat.nlink, stat.uid, stat.gid,
        stat.rdev, stat.size, stat.blksize, stat.blocks,
        *_seconds(stat.atime), *_seconds(stat.mtime), *_seconds(stat.ctime),
        stat.ino,
    )  # fmt: skip


def pack_statx(stat: Stat, mask: int = 0x7FF) -> bytes:
    """``struct statx``, 256 bytes, the same on every architecture; ``mask`` says which fields are valid."""
    times = (part for time in (stat.atime, 0, stat.ctime, stat.mtime) for part in divmod(time, NANOSECONDS))
    return _STATX.pack(
        mask, stat.blksize, 0, stat.nlink, stat.uid, stat.gid, stat.mode, stat.ino, stat.size, stat.blocks, 0,
        *times,
        major(stat.rdev), minor(stat.rdev), major(stat.dev), minor(stat.dev),
    )  # fmt: skip


def dirent_type(mode: int) -> int:
    """The d_type of an inode's mode (DT_*)."""
    return mode >> 12 & 0xF


def pack_dirent64(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    """``struct linux_dirent64`` for getdents64(220); ``offset`` is the next entry's, ``kind`` a DT_*."""
    length = (_DIRENT64.size + len(name) + 1 + 7) & ~7
    return (_DIRENT64.pack(ino, offset, length, kind) + name).ljust(length, b"\0")


def pack_dirent(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    """``struct linux_dirent`` for getdents(141), the kind its last byte.  Raises KernelError(EOVERFLOW)."""
    if ino > 0xFFFFFFFF:
        raise KernelError(EOVERFLOW)
    length = (_DIRENT.size + len(name) + 2 + 3) & ~3
    return (_DIRENT.pack(ino, offset & 0xFFFFFFFF, length) + name).ljust(length - 1, b"\0") + bytes((kind,))


def pack_old_dirent(ino: int, offset: int, name: bytes) -> bytes:
    """``struct old_linux_dirent`` for readdir(89).  Raises KernelError(EOVERFLOW)."""
    if ino > 0xFFFFFFFF:
        raise KernelError(EOVERFLOW)
    return _DIRENT.pack(ino, offset & 0xFFFFFFFF, len(name)) + name + b"\0"


def unpack_iovec(data: bytes) -> list[tuple[int, int]]:
    """``struct iovec[]``: (linear address, bytes) pairs.  KernelError(EINVAL) for a negative length."""
    words = unpack(f"<{len(data) // 4}I", data)
    pieces = list(zip(words[::2], words[1::2], strict=True))
    if any(length > 0x7FFFFFFF for _, length in pieces):
        raise KernelError(EINVAL)
    return pieces


def pack_utsname(
    sysname: str, nodename: str, release: str, version: str, machine: str, domainname: str = "(none)"
) -> bytes:
    """``struct new_utsname``, 390 bytes, for uname(122)."""
    fields = (sysname, nodename, release, version, machine, domainname)
    return _UTSNAME.pack(*(field.encode()[:64] for field in fields))


def pack_timespec(time: int) -> bytes:
    """``struct timespec`` with 32-bit seconds, 8 bytes."""
    return pack("<2I", *_seconds(time))


def pack_timespec64(time: int) -> bytes:
    """``struct __kernel_timespec``, 16 bytes, for the ``*_time64`` calls."""
    return pack("<2q", *divmod(time, NANOSECONDS))


def pack_timeval(time: int) -> bytes:
    """``struct timeval`` with 32-bit seconds, 8 bytes."""
    seconds, rest = _seconds(time)
    return pack("<2I", seconds, rest // 1000)


def _duration(seconds: int, part: int, parts: int) -> int:
    if seconds < 0 or not 0 <= part < parts:
        raise KernelError(EINVAL)
    return seconds * NANOSECONDS + part * (NANOSECONDS // parts)


def unpack_timespec(data: bytes) -> int:
    """Nanoseconds.  Raises KernelError(EINVAL) for negative seconds or nanoseconds out of range."""
    seconds, nanoseconds = unpack("<2i", data)
    return _duration(seconds, nanoseconds, NANOSECONDS)


def unpack_timespec64(data: bytes) -> int:
    """Nanoseconds; the upper half of the nanosecond field is padding, which programs may leave dirty."""
    seconds, nanoseconds = unpack("<qi4x", data)
    return _duration(seconds, nanoseconds, NANOSECONDS)


Pair = tuple[tuple[int, int], tuple[int, int]]


def unpack_timespec_pair(data: bytes) -> Pair:
    """``struct timespec[2]`` of utimensat(320): (seconds, nanoseconds) twice, unchecked."""
    first, part, second, rest = unpack("<4i", data)
    return (first, part), (second, rest)


def unpack_timespec64_pair(data: bytes) -> Pair:
    """``struct __kernel_timespec[2]``, 32 bytes, of utimensat_time64(412)."""
    first, part, second, rest = unpack("<qi4xqi4x", data)
    return (first, part), (second, rest)


def unpack_timeval_pair(data: bytes) -> Pair:
    """``struct timeval[2]`` of utimes(271), in nanoseconds.  Raises KernelError(EINVAL)."""
    first, part, second, rest = unpack("<4i", data)
    if not (0 <= part < 1_000_000 and 0 <= rest < 1_000_000):
        raise KernelError(EINVAL)
    return (first, part * 1000), (second, rest * 1000)


def pack_flock(kind: int, start: int, length: int, pid: int) -> bytes:
    """``struct flock``, 16 bytes, for fcntl(F_GETLK).  Raises KernelError(EOVERFLOW)."""
    if max(start, length) > 0x7FFFFFFF:
        raise KernelError(EOVERFLOW)
    return pack("<2h3i", kind, 0, start, length, pid)


def pack_flock64(kind: int, start: int, length: int, pid: int) -> bytes:
    """``struct flock64``, 24 bytes, for fcntl64(F_GETLK64)."""
    return pack("<2h2qi", kind, 0, start, length, pid)


def unpack_flock(data: bytes) -> tuple[int, int, int, int, int]:
    """(type, whence, start, length, pid)."""
    kind, whence, start, length, pid = unpack("<2h3i", data)
    return kind, whence, start, length, pid


def unpack_flock64(data: bytes) -> tuple[int, int, int, int, int]:
    """(type, whence, start, length, pid)."""
    kind, whence, start, length, pid = unpack("<2h2qi", data)
    return kind, whence, start, length, pid


def pack_rlimit(soft: int, hard: int, infinity: int = 0xFFFFFFFF) -> bytes:
    """``struct rlimit``, 8 bytes; what does not fit is ``infinity``: 0x7FFFFFFF for the old getrlimit(76)."""
    return pack("<2I", min(soft, infinity), min(hard, infinity))


def unpack_rlimit(data: bytes) -> tuple[int, int]:
    """(soft, hard); 0xFFFFFFFF becomes the 64-bit infinity."""
    soft, hard = (0xFFFFFFFFFFFFFFFF if limit == 0xFFFFFFFF else limit for limit in unpack("<2I", data))
    return soft, hard


def pack_rlimit64(soft: int, hard: int) -> bytes:
    """``struct rlimit64``, 16 bytes, for prlimit64(340)."""
    return pack("<2Q", soft, hard)


def unpack_rlimit64(data: bytes) -> tuple[int, int]:
    soft, hard = unpack("<2Q", data)
    return soft, hard


def pack_sysinfo(
    *,
    uptime: int,
    total: int,
    free: int,
    shared: int = 0,
    buffers: int = 0,
    total_swap: int = 0,
    free_swap: int = 0,
    processes: int = 1,
    total_high: int = 0,
    free_high: int = 0,
    loads: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    """``struct sysinfo``, 64 bytes.  ``uptime`` in seconds, memory in bytes, loads times 65536.

    Linux counts in bytes as long as all amounts fit in 32 bits, else in pages of 4096 bytes (``mem_unit``).
    """
    amounts = (total, free, shared, buffers, total_swap, free_swap, total_high, free_high)
    unit = 1 if max(total + total_swap, *amounts) < 1 << 32 else 4096
    counts = [amount // unit for amount in amounts]
    return _SYSINFO.pack(uptime, *loads, *counts[:6], processes, *counts[6:], unit)


def pack_rusage(user: int, system: int, *, maxrss: int = 0, minor_faults: int = 0, major_faults: int = 0) -> bytes:
    """``struct rusage``, 72 bytes, for getrusage(77) and wait4(114).  Times in nanoseconds, maxrss in KB."""
    times = (part for time in (user, system) for part in (time // NANOSECONDS, time % NANOSECONDS // 1000))
    return _RUSAGE.pack(*times, maxrss, 0, 0, 0, minor_faults, major_faults, *(0,) * 8)


def pack_tms(user: int, system: int, child_user: int, child_system: int) -> bytes:
    """``struct tms``, 16 bytes, for times(43): clock ticks of 10 ms from times in nanoseconds."""
    return pack("<4I", *(time // 10_000_000 & 0xFFFFFFFF for time in (user, system, child_user, child_system)))


def pack_statfs(magic: int, *, blocks: int, free: int) -> bytes:
    """``struct statfs``, 64 bytes, for statfs(99): blocks of 4096 bytes.  Raises KernelError(EOVERFLOW)."""
    if blocks >> 32:
        raise KernelError(EOVERFLOW)
    return _STATFS.pack(magic, 4096, blocks, free, free, 0, 0, 255, 4096, 0)


def pack_statfs64(magic: int, *, blocks: int, free: int, files: int = 0, flags: int = 0) -> bytes:
    """``struct statfs64``, 84 bytes, for statfs64(268): blocks of 4096 bytes, names of up to 255."""
    return _STATFS64.pack(magic, 4096, blocks, free, free, files, files, 0, 0, 255, 4096, flags)


def pack_winsize(rows: int, columns: int) -> bytes:
    """``struct winsize``, 8 bytes, for ioctl TIOCGWINSZ."""
    return pack("<2H4x", rows, columns)


def unpack_pollfd(data: bytes) -> tuple[int, int]:
    """(file descriptor, events)."""
    descriptor, events = unpack("<iH2x", data)
    return descriptor, events


@dataclass(frozen=True, slots=True)
class SigAction:
    """What a program asks to be done about a signal; addresses linear, ``mask`` bit n-1 for signal n."""

    handler: int = 0
    flags: int = 0
    restorer: int = 0
    mask: int = 0

    @classmethod
    def unpack_old(cls, data: bytes) -> SigAction:
        """``struct old_sigaction`` of sigaction(67), 16 bytes."""
        handler, mask, flags, restorer = unpack("<4I", data)
        return cls(handler, flags, restorer, mask)

    @classmethod
    def unpack(cls, data: bytes) -> SigAction:
        """``struct sigaction`` of rt_sigaction(174), 20 bytes."""
        return cls(*unpack("<3IQ", data))

    def pack_old(self) -> bytes:
        return pack("<4I", self.handler, self.mask & 0xFFFFFFFF, self.flags, self.restorer)

    def pack(self) -> bytes:
        return pack("<3IQ", self.handler, self.flags, self.restorer, self.mask)

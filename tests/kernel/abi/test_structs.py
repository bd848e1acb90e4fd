"""Every layout against bytes that a real Linux gave to a 32-bit program through int 0x80.

The program filled its buffers with CC first: what Linux leaves untouched (padding) is CC in the recordings.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.kernel.abi import structs
from sandbox.kernel.abi.errno import EINVAL, EOVERFLOW, KernelError
from sandbox.kernel.abi.structs import SigAction, Stat

FILE = Stat(
    dev=structs.makedev(254, 0),
    ino=0x21848D,
    mode=0o100751,
    nlink=2,
    uid=70000,
    gid=1234,
    size=13,
    blocks=8,
    atime=1_234_567_890_123_456_789,
    mtime=987_654_321_987_654_321,
    ctime=0x6B00B0BE * 1_000_000_000 + 0x16C77105,
)
ATIME, MTIME, CTIME = "d202964915cd5b07", "b168de3ab168de3a", "beb0006b0571c716"


def native(recorded: str) -> bytes:
    """Recorded bytes with the untouched ones as 0, which is what the kernel here writes there."""
    return bytes(0 if byte == 0xCC else byte for byte in bytes.fromhex(recorded))


class TestStat:
    def test_stat(self) -> None:
        expected = "00fe00008d842100e9810200feffd204000000000d0000000010000008000000" + ATIME + MTIME + CTIME + 16 * "0"
        assert structs.pack_stat(FILE) == native(expected)

    def test_stat64(self) -> None:
        expected = (
            "00fe000000000000cccccccc8d842100e98100000200000070110100d20400000000000000000000"
            "cccccccc0d00000000000000001000000800000000000000" + ATIME + MTIME + CTIME + "8d84210000000000"
        )
        assert structs.pack_stat64(FILE) == native(expected)

    def test_statx(self) -> None:
        # the recorded bytes without attributes_mask, birth time, mount id, which are not filled in here
        expected = (
            "ff07000000100000000000000000000002000000"
            "70110100d2040000e98100008d842100000000000d0000000000000008000000000000000000000000000000"
            "d20296490000000015cd5b0700000000" + 32 * "0" + "beb0006b000000000571c71600000000"
            "b168de3a00000000b168de3a00000000"
            "0000000000000000fe00000000000000" + 2 * 112 * "0"
        )
        assert structs.pack_statx(FILE) == native(expected)

    @pytest.mark.parametrize("field", [{"size": 1 << 31}, {"ino": 1 << 32}, {"nlink": 65536}])
    def test_old_fields_overflow(self, field: dict[str, int]) -> None:
        with pytest.raises(KernelError) as caught:
            structs.pack_stat(Stat(dev=1, mode=0o100644, **{"ino": 1, **field}))
        assert caught.value.errno == EOVERFLOW

    def test_device_numbers(self) -> None:
        device = structs.makedev(0xABC, 0x12345)
        assert (structs.major(device), structs.minor(device)) == (0xABC, 0x12345)
        assert structs.makedev(136, 3) == 0x8803


class TestDirectoryEntries:
    @pytest.mark.parametrize(
        ("recorded", "entry"),
        [
            ("8d8421000000000048e2fc1e0000000018000866696c6500", (0x21848D, 0x1EFCE248, 8, b"file")),
            ("8c842100000000002ff47a22000000001800042e00cccccc", (0x21848C, 0x227AF42F, 4, b".")),
            (
                "8e84210000000000e4dd8a7f0000000020000a612d6c696e6b00cccccccccccc",
                (0x21848E, 0x7F8ADDE4, 10, b"a-link"),
            ),
            (
                "9084210000000000ffffff7f000000002800046469722d776974682d612d6e616d6500cccccccccc",
                (0x218490, 0x7FFFFFFF, 4, b"dir-with-a-name"),
            ),
        ],
    )
    def test_dirent64(self, recorded: str, entry: tuple[int, int, int, bytes]) -> None:
        packed = structs.pack_dirent64(*entry)
        assert packed == native(recorded)[: len(packed)]
        assert len(packed) == int.from_bytes(bytes.fromhex(recorded)[16:18], "little")

    @pytest.mark.parametrize(
        ("recorded", "entry"),
        [
            ("8d84210048e2fc1e100066696c650008", (0x21848D, 0x1EFCE248, 8, b"file")),
            ("8c8421002ff47a2210002e00cccccc04", (0x21848C, 0x227AF42F, 4, b".")),
            ("8e842100e4dd8a7f1400612d6c696e6b00cccc0a", (0x21848E, 0x7F8ADDE4, 10, b"a-link")),
            (
                "90842100ffffff7f1c006469722d776974682d612d6e616d6500cc04",
                (0x218490, 0x7FFFFFFF, 4, b"dir-with-a-name"),
            ),
        ],
    )
    def test_dirent(self, recorded: str, entry: tuple[int, int, int, bytes]) -> None:
        assert structs.pack_dirent(*entry) == native(recorded)


class TestTimes:
    TIME = 0x6B00B0BE * 1_000_000_000 + 0x1D4F43B7

    def test_packed(self) -> None:
        assert structs.pack_timespec(self.TIME).hex() == "beb0006bb7434f1d"
        assert structs.pack_timespec64(self.TIME).hex() == "beb0006b00000000b7434f1d00000000"
        assert structs.pack_timeval(0x6B00B0BE * 1_000_000_000 + 491764999).hex() == "beb0006bf4800700"

    def test_unpacked(self) -> None:
        assert structs.unpack_timespec(bytes.fromhex("beb0006bb7434f1d")) == self.TIME
        # Linux slept one second for this one: 32-bit programs leave the padding dirty
        assert structs.unpack_timespec64(bytes.fromhex("010000000000000000000000adde0000")) == 1_000_000_000

    @pytest.mark.parametrize("wrong", ["00000000" + "00ca9a3b", "ffffffff" + "00000000", "00000000" + "ffffffff"])
    def test_refused(self, wrong: str) -> None:
        with pytest.raises(KernelError) as caught:
            structs.unpack_timespec(bytes.fromhex(wrong))
        assert caught.value.errno == EINVAL


class TestLimits:
    EIGHT_MEGABYTES, INFINITY = 8 << 20, (1 << 64) - 1

    def test_infinity_in_each_call(self) -> None:
        assert structs.pack_rlimit(self.EIGHT_MEGABYTES, self.INFINITY).hex() == "00008000ffffffff"
        assert structs.pack_rlimit(self.EIGHT_MEGABYTES, self.INFINITY, 0x7FFFFFFF).hex() == "00008000ffffff7f"
        assert structs.pack_rlimit64(self.EIGHT_MEGABYTES, self.INFINITY).hex() == "0000800000000000ffffffffffffffff"

    def test_unpacked(self) -> None:
        assert structs.unpack_rlimit(bytes.fromhex("00008000ffffffff")) == (
            self.EIGHT_MEGABYTES,
            self.INFINITY,
        )
        both = bytes.fromhex("0000800000000000ffffffffffffffff")
        assert structs.unpack_rlimit64(both) == (self.EIGHT_MEGABYTES, self.INFINITY)


class TestSigAction:
    def test_both_layouts(self) -> None:
        new, old = "1111000004000010222200004444333355550000", "11110000444433330400001022220000"
        action = SigAction(0x1111, 0x10000004, 0x2222, 0x555533334444)
        assert SigAction.unpack(bytes.fromhex(new)) == action
        assert action.pack().hex() == new
        assert action.pack_old().hex() == old
        assert SigAction.unpack_old(bytes.fromhex(old)) == replace(action, mask=action.mask & 0xFFFFFFFF)


def test_uname() -> None:
    packed = structs.pack_utsname("Linux", "vm", "6.18.44", "#1 SMP", "i686")
    assert len(packed) == 390
    assert [packed[i : i + 65].rstrip(b"\0") for i in range(0, 390, 65)] == [
        b"Linux", b"vm", b"6.18.44", b"#1 SMP", b"i686", b"(none)",
    ]  # fmt: skip
    assert len(structs.pack_utsname(*5 * ["x" * 99])) == 390


def test_sysinfo() -> None:
    recorded = (
        "5b11000080b0000000ea0000e06f00008d295e00a5e35c00aa080000820100000000000000000000"
        "5c0000000000000000000000001000000000000000000000"
    )
    packed = structs.pack_sysinfo(
        uptime=4443,
        loads=(0xB080, 0xEA00, 0x6FE0),
        total=0x5E298D << 12,
        free=0x5CE3A5 << 12,
        shared=0x8AA << 12,
        buffers=0x182 << 12,
        processes=0x5C,
    )
    assert packed == bytes.fromhex(recorded)
    small = structs.pack_sysinfo(uptime=1, total=64 << 20, free=32 << 20)
    assert (small[16:20], small[52:56]) == (b"\0\0\0\4", b"\1\0\0\0")


def test_rusage() -> None:
    recorded = 8 * "0" + "cc020000" + 16 * "0" + "c8360000" + 24 * "0" + "07000000" + 72 * "0"
    assert structs.pack_rusage(716_999, 0, maxrss=0x36C8, minor_faults=7).hex() == recorded


def test_small_ones() -> None:
    assert structs.pack_winsize(33, 99).hex() == "2100630000000000"
    assert structs.unpack_pollfd(bytes.fromhex("0100000004000400")) == (1, 4)
    assert structs.pack_tms(25_000_000, 0, 0, 10_000_000).hex() == "02000000" + 16 * "0" + "01000000"


def test_statfs64() -> None:
    recorded = (
        "53ef0000001000009de3ef03000000009de3ef03000000009de3ef03000000000000000000000000"
        "00000000000000000000000000000000ff0000000010000020100000" + 32 * "0"
    )
    packed = structs.pack_statfs64(0xEF53, blocks=0x3EFE39D, free=0x3EFE39D, flags=0x1020)
    assert packed.hex() == recorded


def test_iovec() -> None:
    assert structs.unpack_iovec(bytes.fromhex("00b004080800000000c0040800000000")) == [
        (0x804B000, 8),
        (0x804C000, 0),
    ]
    with pytest.raises(KernelError) as caught:
        structs.unpack_iovec(bytes.fromhex("00b0040800000080"))
    assert caught.value.errno == EINVAL

"""``struct user_desc``, with bytes and descriptors from a real kernel."""

from __future__ import annotations

import pytest

from sandbox.kernel.abi.userdesc import UserDesc


def test_round_trip() -> None:
    data = bytes.fromhex("0c00000078563412ffff0f0051000000")
    desc = UserDesc.unpack(data)
    assert desc == UserDesc(12, 0x12345678, 0xFFFFF)
    assert desc.pack() == data
    assert UserDesc.unpack(b"\xff" * 4 + data[4:]).entry_number == -1


@pytest.mark.parametrize(
    ("bits", "access", "granularity"),
    # LAR of the segment that Linux made of these bits
    [(0x51, 0xF3, 0xD), (0x49, 0xF1, 0x5), (0x53, 0xF7, 0xD)],
)
def test_descriptor_bits(bits: int, access: int, granularity: int) -> None:
    desc = UserDesc.unpack(bytes(12) + bits.to_bytes(4, "little"))
    assert (desc.access, desc.granularity) == (access, granularity)
    assert not desc.clears


def test_clearing() -> None:
    assert UserDesc.unpack(bytes(12) + b"\x28\0\0\0").clears
    assert UserDesc.unpack(bytes(16)).clears
    assert not UserDesc.unpack(bytes(12) + b"\x20\0\0\0").clears

"""Files that are no good programs: every header byte changed, random mutations, random code."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import Session
from sandbox.x86.errors import SandboxError
from tests.campaign import part

BLOCKS = 50_000
"""What a program may run before it is stopped."""
HEADER = 52


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bad")
    source = folder / "good.S"
    source.write_text(
        ".intel_syntax noprefix\n.globl _start\n_start: mov ebx, [value]\nmov eax, 1\nint 0x80\n"
        '.data\nvalue: .long 7\n.bss\n.skip 9000\n.section .note.GNU-stack,"",@progbits\n'
    )
    assemble_source(source, folder / "good")
    return (folder / "good").read_bytes()


def outcome(program: bytes, seed: int) -> str:
    """Run it, in a mode that the seed chooses; all frames must have come back."""
    config = KernelConfig(paging=("pae", "legacy")[seed % 2], ram=8 << 20, block_limit=BLOCKS, time_limit=20)
    with Session("bad", program, (), config) as session:
        frames = session.kernel.pgdat
        before = frames.free_frames
        try:
            result = session.finish()
        except SandboxError as error:
            assert error.exit_status == 2, error
            assert error.summary
            return "refused"
        assert "host time" not in result.error, result.error
        if result.error:
            return "stopped"
        session.kernel.pagecache.shrink_mmap(1 << 30)
        spare = sum(len(stack) for _, stack in session.kernel.stacks._stacks)
        assert frames.free_frames + spare == before
        return "killed" if result.signal else "ran"


def test_the_good_one_runs(good: bytes) -> None:
    assert outcome(good, 0) == outcome(good, 1) == "ran"


VALUES = (0xFF, 0, 1, 0x7F, 0x80)


@pytest.mark.parametrize("more", part((False, True), 1), ids=("some", "more"))
@pytest.mark.parametrize("first", range(0, 160, 20))
def test_every_header_byte(good: bytes, first: int, more: bool) -> None:
    """Each byte becomes something extreme, and something near; the campaign has the other values."""
    rng = random.Random(first + more)
    headers = HEADER + 32 * int.from_bytes(good[44:46], "little")
    assert headers <= 180
    seen = set()
    for at in range(first, headers if first == 140 else first + 20):
        values = (*VALUES[1:], good[at] ^ 0x10) if more else (*VALUES[:1], good[at] ^ 1, rng.randrange(256))
        for value in values:
            seen.add(outcome(good[:at] + bytes([value]) + good[at + 1 :], at))
    assert more or len(seen) > 1  # the first values of each piece tell apart what a byte is for


@pytest.mark.parametrize("seed", part(range(4), 1))
def test_mutations(good: bytes, seed: int) -> None:
    rng = random.Random(seed)
    headers = HEADER + 32 * int.from_bytes(good[44:46], "little")
    for number in range(500):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(headers)
            width = rng.choice((1, 2, 4))
            data[at : at + width] = rng.choice(
                (0, 1, 4095, 4096, 0xBFFFF000, 0xFFFFFFFF, rng.getrandbits(32))
            ).to_bytes(4, "little")[:width]
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        outcome(bytes(data), number)


@pytest.mark.parametrize("seed", part(range(4), 1))
def test_random_code(good: bytes, seed: int) -> None:
    rng = random.Random(seed)
    entry = good.index(b"\x8b\x1d")
    for number in range(500):
        code = rng.randbytes(64)
        outcome(good[:entry] + code + good[entry + len(code) :], number)


def test_nothing_at_all(tmp_path: Path) -> None:
    for data in (b"", b"\x7fELF", b"\0" * 52, b"#!", b"#!/nowhere\n", b"\xff" * 5000):
        with pytest.raises(SandboxError) as caught, Session("bad", data, (), KernelConfig()) as session:
            session.finish()
        assert caught.value.exit_status == 2

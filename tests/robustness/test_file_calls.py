"""Random sequences of file calls on this host and in the sandbox, over equal trees: result by result the same.

Left out is what depends on the host: the ends and holes of directories and files (lseek from the end), whether creat
sets O_LARGEFILE (a 64-bit kernel does), exchanging two names, sending no bytes from a directory.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.abi.numbers import NUMBERS
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import Streams, run_program

TABLE, ROOM, SCRATCH = 0x30000000, 0x40000, 0x30200000
STRINGS = TABLE + 0x20000
ROWS, SLOT = 400, 64
F_GETFL = 3
RUNS = 60
O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_LARGEFILE = (
    0o100,
    0o200,
    0o1000,
    0o2000,
    0o200000,
    0o400000,
    0o100000,
)
OPENING = (
    0,
    O_CREAT,
    O_CREAT,
    O_CREAT | O_EXCL,
    O_TRUNC,
    O_CREAT | O_TRUNC,
    O_DIRECTORY,
    O_NOFOLLOW,
)
PATHS = [
    b"/w/a",
    b"/w/b",
    b"/w/c",
    b"/w/d",
    b"/w/d/a",
    b"/w/d/e",
    b"/w/d/e/f",
    b"/w/link",
    b"/w/dlink/a",
    b"/w/none/x",
    b"/w/",
    b"/w/d/",
    b"/w/a/",
    b"/w/../w/b",
    b"w/c",
    b"/w//d/./a",
    b"",
    b"/w/" + b"n" * 255,
    b"/w/" + b"n" * 256,
    b"/w/loop",
    b"/w/d/..",
    b"/w/.",
    b"/w/dlink",
    b"/w/e",
]


def make_table(seed: int) -> bytes:
    """Rows for ``calls.S``: numbers, arguments, the strings behind them."""
    rng = random.Random(seed)
    strings, places = bytearray(), []
    for path in PATHS:
        places.append(STRINGS + len(strings))
        strings += path + b"\0"
    text = STRINGS + len(strings)
    strings += bytes(range(65, 91)) * 8
    times = STRINGS + len(strings)
    strings += struct.pack("<4i", 1000, 500, 2000, 600)
    rows = bytearray()
    for row in range(ROWS):
        scratch = SCRATCH + row * SLOT
        name, arguments = _call(rng, places, scratch, text, times)
        rows += struct.pack(
            "<7I", NUMBERS[name], *(each & 0xFFFFFFFF for each in (*arguments, *[0] * (6 - len(arguments))))
        )
    rows += struct.pack("<7I", 0xFFFFFFFF, *[0] * 6)
    return bytes(rows.ljust(STRINGS - TABLE, b"\0") + strings)


def _call(rng: random.Random, places: list[int], scratch: int, text: int, times: int) -> tuple[str, list[int]]:
    path, other = rng.choice(places), rng.choice(places)
    fd = rng.choice((3, 4, 5, 6, 7, 8, 3, 4, 5, 99))
    dirfd = rng.choice((-100, -100, 3, 4, 5))
    size = rng.choice((0, 1, 10, 26, 60))
    offset = rng.choice((0, 1, 5, 100, 4095, 4096, 5000, 9000))
    flags = (
        rng.choice((0, 1, 2))
        | rng.choice((0, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_TRUNC, O_CREAT | O_TRUNC, O_DIRECTORY, O_NOFOLLOW))
        | rng.choice((0, 0, O_APPEND))
        | O_LARGEFILE
    )
    mode = rng.choice((0o644, 0o600, 0o755, 0o777, 0o400))
    calls: list[tuple[str, list[int]]] = [
        ("open", [path, flags, mode]),
        ("open", [path, flags, mode]),
        ("openat", [dirfd, path, flags, mode]),
        ("creat", [path, mode]),
        ("close", [fd]),
        ("close", [fd]),
        ("dup", [fd]),
        ("dup2", [fd, rng.randrange(3, 9)]),
        ("read", [fd, scratch, size]),
        ("read", [fd, scratch, size]),
        ("write", [fd, text, size]),
        ("write", [fd, text, size]),
        ("pread64", [fd, scratch, size, offset, 0]),
        ("pwrite64", [fd, text, size, offset, 0]),
        ("lseek", [fd, rng.choice((0, 1, 7, 4096, -3)), rng.randrange(2)]),
        ("_llseek", [fd, 0, offset, scratch, rng.randrange(2)]),
        ("link", [path, other]),
        ("linkat", [dirfd, path, dirfd, other, rng.choice((0, 0x400))]),
        ("unlink", [path]),
        ("unlinkat", [dirfd, path, rng.choice((0, 0x200))]),
        ("rename", [path, other]),
        ("rename", [path, other]),
        ("renameat2", [dirfd, path, dirfd, other, rng.choice((0, 1))]),
        ("mkdir", [path, mode]),
        ("mkdirat", [dirfd, path, mode]),
        ("rmdir", [path]),
        ("symlink", [path, other]),
        ("symlinkat", [path, dirfd, other]),
        ("readlink", [path, scratch, 60]),
        ("readlinkat", [dirfd, path, scratch, size]),
        ("truncate", [path, offset]),
        ("ftruncate", [fd, offset]),
        ("ftruncate64", [fd, offset, 0]),
        ("chmod", [path, mode]),
        ("fchmod", [fd, mode]),
        ("access", [path, rng.randrange(8)]),
        ("faccessat", [dirfd, path, rng.randrange(8)]),
        ("fcntl64", [fd, rng.choice((1, 3)), 0]),
        ("fcntl64", [fd, 2, rng.randrange(2)]),
        ("fcntl64", [fd, 0, rng.randrange(10)]),
        ("fcntl64", [fd, 4, rng.choice((0, O_APPEND))]),
        ("mknod", [path, 0o100644, 0]),
        ("chdir", [rng.choice((path, places[10], places[11]))]),
        ("fchdir", [fd]),
        ("getcwd", [scratch, 60]),
        ("umask", [rng.choice((0o22, 0, 0o77))]),
        ("utimensat", [dirfd, path, rng.choice((0, times)), rng.choice((0, 0x100))]),
        ("fsync", [fd]),
        ("flock", [fd, rng.choice((8, 5, 6))]),
        ("fallocate", [fd, 0, offset, 0, size, 0]),
        ("sendfile64", [fd, rng.randrange(3, 9), 0, size or 1]),
        ("readahead", [fd, 0, 0, 10]),
        ("close_range", [rng.randrange(5, 9), 20, 0]),
        ("dup3", [fd, rng.randrange(3, 9), rng.choice((0, 0o2000000))]),
        ("sync", []),
    ]
    return rng.choice(calls)


def _tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Type and mode, contents or target, of all below."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            data = b""
            if path.is_symlink():
                data = os.fsencode(path.readlink())
            elif path.is_file():
                data = path.read_bytes()
            found[str(path.relative_to(root))] = (mode, data)
    return found


def _prepare(root: Path, program: bytes) -> None:
    (root / "w/d/e").mkdir(parents=True)
    (root / "w/b").write_bytes(b"contents of b\n" * 30)
    (root / "w/link").symlink_to("b")
    (root / "w/dlink").symlink_to("d")
    (root / "w/loop").symlink_to("loop")
    (root / "calls").write_bytes(program)
    (root / "calls").chmod(0o755)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("calls") / "calls"
    assemble_source(Path(__file__).with_name("calls.S"), out)
    return out.read_bytes()


def _native(root: Path, table: bytes) -> bytes:
    done = subprocess.run(["chroot", str(root), "/calls"], input=table, capture_output=True, timeout=20, check=False)
    if done.returncode:
        pytest.skip(f"i386 programs do not run here: {done.stderr.decode(errors='replace')}")
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("chroot") is None, reason="needs a user who may chroot")
@pytest.mark.parametrize("writable", [True, False], ids=["written", "in-memory"])
@pytest.mark.parametrize("seed", range(RUNS))
def test_as_on_the_host(seed: int, writable: bool, program: bytes, tmp_path: Path) -> None:
    native, own = tmp_path / "native", tmp_path / "own"
    for root in (native, own):
        _prepare(root, program)
    table = make_table(seed)
    before = _tree(own)
    theirs = _native(native, table)
    config = KernelConfig(root=own, writable=writable, time_limit=60)
    result = run_program("/calls", program, (), config, Streams(BytesSource(table)))
    assert result.passed, result.error
    mine = result.stdout
    words, expected = (struct.unpack(f"<{ROWS}i", each[: 4 * ROWS]) for each in (mine, theirs))
    for row, (got, wanted) in enumerate(zip(words, expected, strict=True)):
        call = struct.unpack_from("<7I", table, row * 28)
        name = next(name for name, number in NUMBERS.items() if number == call[0])
        if name == "fcntl64" and call[2] == F_GETFL:
            got, wanted = got & ~O_LARGEFILE, wanted & ~O_LARGEFILE
        assert got == wanted, f"row {row}: {name} {_shown(call, table)} gave {got}, on the host {wanted}"
        at = 4 * ROWS + row * SLOT
        assert mine[at : at + SLOT] == theirs[at : at + SLOT], f"row {row}: {name} {_shown(call, table)}"
    assert _tree(own) == (_tree(native) if writable else before)


def _shown(call: tuple[int, ...], table: bytes) -> str:
    parts = []
    for value in call[1:]:
        if STRINGS <= value < STRINGS + 0x1000:
            at = value - TABLE
            parts.append(repr(table[at : table.index(b"\0", at)][:40]))
        else:
            parts.append(hex(value))
    return ", ".join(parts)

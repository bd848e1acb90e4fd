"""The guest's files over ``vFile``, read only; numbers of errors are those of gdb's manual, E.13.8.1."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.debug.gdb.packets import unescape
from sandbox.debug.gdb.stub import Stub
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.target import resolve
from tests.debug.test_gdb import gdb, needs_gdb, serving


@contextmanager
def stub(root: Path | None = None) -> Iterator[Stub]:
    image = resolve("images/cow-fork")
    config = image.config(**({} if root is None else {"root": root}))
    config.time_limit = 0
    ours, theirs = socket.socketpair()
    with Remote(lambda: open_target(image, config)) as made, ours, theirs:
        yield Stub(made, ours)


def packet(verb: str, path: str, *rest: str) -> bytes:
    return f"vFile:{verb}:{','.join((path.encode().hex(), *rest))}".encode()


def contents(made: Stub, path: str, size: int) -> bytes:
    """Read as gdb does, in pieces of what it asked for at most."""
    assert made.answer(packet("open", path, "0", "1c0")) == b"F3"
    data = b""
    while len(data) < size + 1:
        head, _, piece = (made.answer(b"vFile:pread:3,4000,%x" % len(data)) or b"").partition(b";")
        if head == b"F0":
            break
        assert len(unescape(piece)) == int(head[1:], 16)
        data += unescape(piece)
    assert made.answer(b"vFile:close:3") == b"F0"
    return data


def test_errors_have_their_numbers(tmp_path: Path) -> None:
    """ENOENT 2, EBADF 9, ENOTDIR 20, EISDIR 21, ELOOP (no number there: EUNKNOWN 9999), EROFS 30, ENAMETOOLONG 91."""
    (tmp_path / "link").symlink_to("/link")
    with stub(tmp_path) as made:
        asked = {
            packet("open", "/nowhere", "0", "0"): 2, packet("open", "/bin/cow-fork/x", "0", "0"): 20,
            packet("open", "/bin", "0", "0"): 21, packet("open", "/bin/cow-fork", "1", "0"): 30,
            packet("open", "/bin/cow-fork", "602", "1b6"): 30, packet("open", "/" + "n" * 256, "0", "0"): 91,
            packet("open", "/link", "0", "0"): 9999, b"vFile:pread:3,10,0": 9, b"vFile:fstat:3": 9,
            b"vFile:close:7": 9, packet("unlink", "/bin/cow-fork"): 30, b"vFile:pwrite:3,0,x": 30,
            packet("readlink", "/nowhere"): 2, packet("readlink", "/bin/cow-fork"): 22,
        }  # fmt: skip
        assert {each: made.answer(each) for each in asked} == {each: b"F-1,%x" % n for each, n in asked.items()}
        assert made.answer(b"vFile:nothing:3") == b""
        assert made.answer(b"vFile:open:zz,0,0") == b"E01"


def test_links_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to("data/file")
    (tmp_path / "some").write_bytes(bytes(70_000))
    with stub(tmp_path) as made:
        assert made.answer(packet("readlink", "/there")) == b"F9;data/file"
        assert made.answer(packet("open", "/some", "0", "0")) == b"F3"
        reply = made.answer(b"vFile:fstat:3") or b""
        assert reply.startswith(b"F40;")
        assert int.from_bytes(unescape(reply[4:])[28:36], "big") == 70_000


def test_big_files_are_read_in_large_pieces(tmp_path: Path) -> None:
    """Bytes that must be escaped, too; 3 MB in some 200 packets."""
    data = random.Random(5).randbytes(3_000_000) + b"$#}*" * 5000
    (tmp_path / "big").write_bytes(data)
    with stub(tmp_path) as made:
        asked = []
        answer = made.answer

        def counted(packet: bytes) -> bytes | None:
            asked.append(packet)
            return answer(packet)

        made.answer = counted  # type: ignore[method-assign]
        assert contents(made, "/big", len(data)) == data
        assert len(asked) < len(data) / 8000


@needs_gdb
def test_the_program_and_its_auxv() -> None:
    """gdb finds the program by itself, and its entry where the auxiliary vector says; sections are compared."""
    with serving("images/cow-fork") as where:
        told = gdb(where, "info auxv", "info files", "compare-sections .text", "info proc exe", "kill")
    assert "Reading symbols from target:/bin/cow-fork" in told
    assert "AT_ENTRY             Entry point of program         0x80480b4" in told
    assert "Entry point: 0x80480b4" in told
    assert "matched" in told


@needs_gdb
def test_what_proc_says_of_a_process() -> None:
    """``info proc`` reads /proc/PID in the guest; the areas are those of the program's headers (readelf -l)."""
    with serving("images/cow-fork", "--threads", "processes") as where:
        told = gdb(where, "info proc mappings", "info proc cmdline", "kill")
    assert re.search(r"0x8048000 +0x8049000 +0x1000 +0x0 +r-xp +/bin/cow-fork", told)
    assert re.search(r"\[stack\]", told)
    assert "cmdline = '/bin/cow-fork'" in told
    with serving("images/cow-fork") as where:
        assert re.search(r"r-xp +/bin/cow-fork", gdb(where, "info proc mappings 3", "kill"))

"""A recording gives the same run in another process, in another folder, when the original files are gone.

What a run says is compared with what the recorded one said; what came in is what the test sent.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import system
from sandbox.runner.recording import HEADER, Recording, RecordingError, load, unpack
from sandbox.runner.target import Target, resolve
from tests.conftest import Program
from tests.debug.test_outside import ECHO

ROOT = Path(__file__).resolve().parents[2]


def sandbox(*words: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A fresh process."""
    command = [sys.executable, "-P", "-m", "sandbox", *words]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=stdin, capture_output=True, timeout=180, cwd=cwd, env=surroundings)


IMAGES = ["cow-fork", "smp-refill", "module-asm", "rom-double-fault", "file-private", "oom"]


@pytest.mark.parametrize("name", IMAGES)
def test_images_run_alike(name: str, tmp_path: Path) -> None:
    made = sandbox("record", f"images/{name}", "--status", "-o", "it.rec", cwd=tmp_path)
    assert b"it.rec: " in made.stderr, made.stderr
    (tmp_path / "elsewhere").mkdir()
    again = sandbox("run", "../it.rec", "--status", cwd=tmp_path / "elsewhere")
    assert (again.stdout, again.returncode) == (made.stdout, made.returncode)
    assert str(ROOT).encode() not in HEADER.build(HEADER.parse((tmp_path / "it.rec").read_bytes()))


def test_what_came_in(program: Program, tmp_path: Path) -> None:
    """Standard input, files below the root, the program: all of it is gone, the recording has it."""
    (tmp_path / "guest").write_bytes(program(ECHO))
    made = sandbox("record", "guest", "-o", "it.rec", "--clock", "host", "--seed", "7", cwd=tmp_path, stdin=b"abcdefg")
    assert made.stdout == b"abcdefg"
    (tmp_path / "guest").unlink()
    assert sandbox("run", "it.rec", cwd=tmp_path, stdin=b"other").stdout == b"abcdefg"
    steps = ("-e", "continue", "-e", "goto start", "-e", "catch syscall read", "-e", "continue", "-e", "continue")
    told = sandbox("debug", "it.rec", *steps, cwd=tmp_path)
    assert told.stdout.count(b"abcdefg") == 1 and b"read(0x0" in told.stdout


READS = """
_start: sys     open, "offset name", 0, 0
        mov     edi, eax
        sys     read, edi, "offset room", 64
        sys     write, 1, "offset room", eax
        sys     open, "offset made", 0x441, 0x1a4     # O_CREAT | O_APPEND | O_WRONLY
        mov     edi, eax
        sys     write, edi, "offset name", 4
        sys     exit, 0
name:   .asciz  "/in"
made:   .asciz  "/made"
        .bss
room:   .skip   64
"""


def test_files_of_the_host(program: Program, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "in").write_bytes(b"from the host\n")
    (tmp_path / "guest").write_bytes(program(READS))
    made = sandbox("record", "guest", "--root", "tree", "--write", "-o", "it.rec", cwd=tmp_path)
    assert made.stdout == b"from the host\n", made.stderr
    assert (tree / "made").read_bytes() == b"/in\0"
    (tree / "in").unlink()
    (tree / "made").unlink()
    tree.rmdir()
    again = sandbox("run", "it.rec", cwd=tmp_path)
    assert (again.stdout, again.returncode) == (made.stdout, 0)
    assert not tree.exists()
    assert b"tree" not in unpack((tmp_path / "it.rec").read_bytes()).pack()


def test_going_back_writes_no_host_file_twice(program: Program, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "in").write_bytes(b"x\n")
    (tmp_path / "guest").write_bytes(program(READS))
    steps = [
        word for line in ("continue", "goto start", "continue", "reverse-step 2", "continue") for word in ("-e", line)
    ]
    told = sandbox("debug", "guest", "--root", "tree", "--write", *steps, cwd=tmp_path)
    assert told.stdout.count(b"exit status 0") == 3, told
    assert (tree / "made").read_bytes() == b"/in\0"


def recording() -> Recording:
    image = resolve("images/cow-fork")
    return Recording(Target(image.name, image.kind, image.data), image.config(seed=5))


def test_it_is_what_was_packed() -> None:
    made = recording()
    made.tape.input(3, lambda size: b"abc")
    again = unpack(made.pack())
    assert again.target.data == made.target.data
    assert again.config.seed == 5
    assert again.tape.input(3, lambda size: b"no") == b"abc"


def test_another_engine_is_told(tmp_path: Path) -> None:
    """``--engine stock`` over what was recorded with the mends, mends of another version, and the same ones."""
    made = sandbox("record", "images/hello", "-o", "it.rec", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    stock = sandbox("run", "it.rec", "--engine", "stock", cwd=tmp_path)
    version = system.version()
    told = f"sandbox: recorded with the mended engine (mends {version}), run with the stock engine: "
    assert stock.stderr.decode().startswith(told), stock.stderr
    assert b"recorded with" not in sandbox("run", "it.rec", cwd=tmp_path).stderr
    other = load(tmp_path / "it.rec")
    assert (other.engine, other.mends) == ("mended", version)
    other.mends = "00000001"
    (tmp_path / "other.rec").write_bytes(other.pack())
    again = sandbox("run", "other.rec", cwd=tmp_path)
    assert b"recorded with the mended engine (mends 00000001), run with the mended engine (mends " in again.stderr


@pytest.mark.parametrize("size", [0, 4, 8, 12, 30, 44, 100, -1])
def test_cut_off(size: int) -> None:
    with pytest.raises(RecordingError):
        unpack(recording().pack()[:size])


def test_a_newer_one_names_its_version() -> None:
    data = bytearray(recording().pack())
    data[8] = 9
    with pytest.raises(RecordingError, match="a recording of version 9: this sandbox reads version 1"):
        unpack(bytes(data))


def test_damaged_ones_are_refused() -> None:
    """Any one bit that is wrong, in a thousand places."""
    data, chosen = recording().pack(), random.Random(3)
    for _ in range(1000):
        broken = bytearray(data)
        broken[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        with pytest.raises(RecordingError):
            unpack(bytes(broken))


def test_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bad.rec").write_bytes(recording().pack()[:-3])
    for verb in ("run", "debug", "explain"):
        told = sandbox(verb, "bad.rec", cwd=tmp_path)
        assert told.returncode == 2
        assert told.stderr.startswith(b"sandbox: bad.rec: ") and b"our bug" not in told.stderr, told.stderr
    (tmp_path / "good.rec").write_bytes(recording().pack())
    assert b"has no use for --cpus" in sandbox("run", "good.rec", "--cpus", "2", cwd=tmp_path).stderr
    assert load(tmp_path / "good.rec").target.name == "cow-fork"

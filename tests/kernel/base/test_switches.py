"""A step that a switch leaves out is one that programs notice; those that no image is broken by, here.

What the whole kernel must do is in sigaction(2), madvise(2) and mmap(2), and this host does it too.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sandbox.image.manifest import IMAGES
from sandbox.kernel.base.inject import SWITCHES
from tests.conftest import MakeSession, Program, Run

TESTS = Path(__file__).resolve().parents[2]

MASK = """
        .set SYS_kill, 37
        .set SYS_rt_sigaction, 174
handler:
        inc dword ptr [depth]
        mov eax, [depth]
        cmp eax, [most]
        jbe 1f
        mov [most], eax
1:      dec dword ptr [left]
        js 2f
        sys kill, [pid], 10
2:      dec dword ptr [depth]
        ret
_start: sys getpid
        mov [pid], eax
        sys rt_sigaction, 10, "offset action", 0, 8
        sys kill, [pid], 10
        sys exit, [most]
        .data
action: .long handler, 0, 0, 0, 0
pid:    .long 0
depth:  .long 0
most:   .long 0
left:   .long 2
"""
"""How many calls of a handler were there at once, that sends its own signal twice."""

DONTNEED = """
        .set SYS_madvise, 219
_start: map_pages 1
        mov ebp, eax
        mov byte ptr [ebp], 7
        sys madvise, ebp, 4096, 4
        movzx ebx, byte ptr [ebp]
        sys exit, ebx
"""

SHARED = """
_start: sys open, "offset name", 2, 0
        mov [fd], eax
        sys mmap2, 0, 4096, 3, 1, [fd], 0
        mov byte ptr [eax], 'N'
        sys exit, 0
        .data
name:   .asciz "/f"
fd:     .long 0
"""


@pytest.mark.parametrize(
    ("switch", "text", "whole", "broken"), [("no-sigmask", MASK, 1, 3), ("no-dontneed", DONTNEED, 0, 7)]
)
def test_a_step_is_left_out(
    switch: str, text: str, whole: int, broken: int, run: Run, program: Program, tmp_path: Path
) -> None:
    native = tmp_path / "native"
    native.write_bytes(program(text))
    native.chmod(0o755)
    assert subprocess.run([native], timeout=60, check=False).returncode == whole
    assert run(text).status == whole
    assert run(text, switches=frozenset({switch})).status == broken


@pytest.mark.parametrize(("switches", "left"), [(frozenset(), b"New"), (frozenset({"no-writeback"}), b"new")])
def test_a_shared_mapping_reaches_the_file(
    switches: frozenset[str], left: bytes, session: MakeSession, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"new")
    made = session(SHARED, root=tmp_path, writable=True, switches=switches)
    assert made.finish().passed
    assert (tmp_path / "f").read_bytes() == left


def test_each_switch_breaks_something() -> None:
    """An image's manifest, or a test, asks for each of them by its name."""
    said = [path.read_text() for path in IMAGES.glob("*/manifest.toml")]
    said += [path.read_text() for path in TESTS.rglob("test_*.py")]
    asked = {name for text in said for name in re.findall(r'"([a-z0-9-]+)"', text)}
    assert sorted(set(SWITCHES) - asked) == []

"""Programs that want everything: memory, tasks, descriptors, pipes, stack, time, or are nowhere at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.abi.signals import SIGILL, SIGKILL, SIGSEGV
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.result import Result
from sandbox.runner.run import Session

CALLS, STEPS = 60_000, 4_000_000
"""Blocks: for programs that call the kernel all the time, and for those that don't."""
HEAD = '.include "linux.inc"\n.globl _start\n_start:\n'
MAP = "sys mmap2, 0, 0x1000000, 3, 0x22, -1\n"
OPEN = 'sys open, "offset name", 0x42, 0x1a4\n'
TOUCH = "1: mov dword ptr [eax], 1\nadd eax, 4096\nloop 1b\n"

ENDLESS = {
    "loop": "1: jmp 1b\n",
    "fork": "1: sys fork\njmp 1b\n",
    "fork and touch": "1: sys fork\nsub esp, 4096\nmov [esp], edi\njmp 1b\n",
    "fork chain": "1: sys fork\ntest eax, eax\njz 1b\nsys waitpid, -1, 0, 0\nsys exit_group, 9\n",
    "mmap": "1: sys mmap2, 0, 4096, 3, 0x22, -1\njmp 1b\n",
    "mmap of holes": f"1: {MAP}sys munmap, eax, 4096\nsys mmap2, 0, 8192, 1, 0x22, -1\njmp 1b\n",
    "brk": "1: sys brk, 0\nadd eax, 65536\nsys brk, eax\nmov byte ptr [eax-1], 1\njmp 1b\n",
    "pipes": "1: sys pipe, esp\njmp 1b\n",
    "opens": "1: sys open, \"offset name\", 0\njmp 1b\nname: .asciz \"/\"\n",
    "files": (
        "mov edi, 0\n1: inc edi\nmov [name+5], edi\nor dword ptr [name+5], 0x40404040\n"
        f"{OPEN}sys write, eax, 0x8048000, 4096\nsys close, 3\njmp 1b\n"
        ".data\nname: .asciz \"/tmp/aaaa\"\n"
    ),
    "one file": f"{OPEN}1: sys write, 3, 0x8048000, 4096\njmp 1b\nname: .asciz \"/tmp/a\"\n",
    "exec itself": "mov ebx, [esp+4]\nxor ecx, ecx\nxor edx, edx\nmov eax, 11\nint 0x80\nsys exit_group, 9\n",
    "a full pipe": "sys pipe, esp\n1: mov eax, [esp+4]\nsys write, eax, 0x8048000, 4096\njmp 1b\n",
}  # fmt: skip
DEADLY = {
    "mmap and touch": (f"2: {MAP}mov ecx, 4096\n{TOUCH}jmp 2b\n", SIGSEGV),
    "stack": ("1: push eax\njmp 1b\n", SIGSEGV),
    "recursion": ("1: call 1b\n", SIGSEGV),
    "null": ("xor eax, eax\njmp eax\n", SIGSEGV),
    "kernel": ("mov eax, 0xc0100000\njmp eax\n", SIGSEGV),
    "top": ("mov eax, 0xffffffff\njmp eax\n", SIGSEGV),
    "off the end": ("mov eax, 0x8048ffe\njmp eax\n", SIGSEGV),
    "no stack": ("mov esp, 0x10\npush eax\n", SIGSEGV),
    "bad segment": ("mov eax, 0x1234\nmov ds, eax\n", SIGSEGV),
    "far away": ("jmp 0x1234:0x5678\n", SIGSEGV),
    "ud2": ("ud2\n", SIGILL),
}


def run(folder: Path, body: str, paging: str, blocks: int) -> tuple[Result, int]:
    """The result, and the frames that did not come back."""
    source = folder / "p.S"
    source.write_text(HEAD + body)
    assemble_source(source, folder / "p")
    config = KernelConfig(paging=paging, ram=32 << 20, block_limit=blocks, time_limit=60)
    with Session("p", (folder / "p").read_bytes(), (), config) as session:
        kernel = session.kernel
        before = kernel.pgdat.free_frames
        result = session.finish()
        kernel.pagecache.shrink_mmap(1 << 30)
        spare = sum(len(stack) for _, stack in kernel.stacks._stacks)
        return result, before - kernel.pgdat.free_frames - spare


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("name", ENDLESS)
def test_no_end(name: str, paging: str, tmp_path: Path) -> None:
    result, _ = run(tmp_path, ENDLESS[name], paging, CALLS)
    assert "host time" not in result.error, result.error
    assert result.error or result.signal or result.status, name


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("name", DEADLY)
def test_death(name: str, paging: str, tmp_path: Path) -> None:
    body, signal = DEADLY[name]
    result, missing = run(tmp_path, body, paging, STEPS)
    assert not result.error, result.error
    assert result.signal == (SIGKILL if name == "mmap and touch" else signal), result.headline()
    assert result.deaths
    assert result.deaths[-1][3]
    assert missing == 0

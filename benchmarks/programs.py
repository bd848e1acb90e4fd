"""The guest programs that are measured: assembled once a run, in memory, as ordinary Linux programs."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from sandbox.image.assemble import assemble_source

PAGES = 1000
"""Pages that a fault program touches in one go."""
THREADS, WAKES, THREAD_ROUNDS = 100, 200, 6
FAULT_ROUNDS = 6
STORES = 8_000_000

_EXIT = "mov eax, 1\nxor ebx, ebx\nint 0x80\n"
_MARK = "mov eax, 20\nint 0x80\n"
_ALU = "\n".join(
    ["add eax, ecx", "xor edx, eax", "lea ebx, [edx+1]", "or esi, ebx", "sub edi, eax", "and ebp, edi"] * 3
)

LOOPS = {
    "loop of 2": "mov ecx, 50000000\n1: dec ecx\njnz 1b\n",
    "loop of 5": "mov ecx, 80000000\n1: add eax, ecx\nxor edx, eax\nlea ebx, [edx+1]\ndec ecx\njnz 1b\n",
    "loop of 20": f"mov ecx, 60000000\n1: {_ALU}\ndec ecx\njnz 1b\n",
    "call and ret": "mov ecx, 15000000\njmp 1f\n2: ret\n1: call 2b\ndec ecx\njnz 1b\n",
    "load and store": (
        "mov ecx, 40000000\nmov esi, offset buffer\nxor edx, edx\n"
        "1: mov eax, [esi+edx*4]\nadd eax, 1\nmov [esi+edx*4], eax\ninc edx\nand edx, 1023\ndec ecx\njnz 1b\n"
    ),
    "rep stosd": (
        "mov ebx, 50000\nxor eax, eax\n1: mov edi, offset buffer\nmov ecx, 1024\nrep stosd\ndec ebx\njnz 1b\n"
    ),
}
"""Bodies by name; each is run to its end under the kernel and on bare Unicorn."""


@functools.cache
def build(body: str, buffer_bytes: int = 4096) -> bytes:
    """An ELF program that runs the body and exits with status 0; ``buffer`` names that many bytes of bss."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "program.S", Path(folder) / "program"
        source.write_text(_source(body, buffer_bytes))
        assemble_source(source, out)
        return out.read_bytes()


def link(body: str, out: Path) -> None:
    """The same as ``ld`` links it by itself: the file's headers are in memory, which some emulators want."""
    source, made = out.with_suffix(".S"), out.with_suffix(".o")
    source.write_text(_source(body, 4096))
    subprocess.run(["as", "--32", "-o", made, source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-z", "noseparate-code", "-o", out, made], check=True)


def _source(body: str, buffer_bytes: int) -> str:
    return (
        f".intel_syntax noprefix\n.globl _start\n_start:\n{body}\n{_EXIT}"
        f'.bss\n.balign 4096\nbuffer: .skip {buffer_bytes}\n.section .note.GNU-stack,"",@progbits\n'
    )


SMALL = 'mov eax, 4\nmov ebx, 1\nmov ecx, offset text\nmov edx, 3\nint 0x80\njmp 9f\ntext: .ascii "ok\\n"\n9:\n'


def loop(name: str) -> bytes:
    """One of ``LOOPS`` as a program."""
    return build(LOOPS[name])


def small() -> bytes:
    """A line of output, then the end."""
    return build(SMALL)


def stores() -> bytes:
    """Stores to a data page, eight an iteration."""
    eight = "\n".join(f"mov [edi+{4 * number}], ecx" for number in range(8))
    return build(f"mov edi, offset buffer\nmov ecx, {STORES // 8}\n1: {eight}\ndec ecx\njnz 1b\n")


def _touch(first: str) -> str:
    return f"mov edi, {first}\nmov ecx, {PAGES}\n1: mov dword ptr [edi], 1\nadd edi, 4096\ndec ecx\njnz 1b\n"


def touching() -> bytes:
    """The bare counterpart of ``demand_zero``: one pass over the buffer."""
    return build(_touch("offset buffer"), PAGES * 4096)


def demand_zero() -> bytes:
    """Map, touch and unmap pages again and again; getpid marks both ends of each pass over them."""
    return build(demand_zero_body())


def demand_zero_body() -> str:
    return (
        f"mov ebp, {FAULT_ROUNDS}\n2: push ebp\nxor ebx, ebx\nmov ecx, {PAGES * 4096}\nmov edx, 3\nmov esi, 0x22\n"
        f"mov edi, -1\nxor ebp, ebp\nmov eax, 192\nint 0x80\nmov esi, eax\n{_MARK}{_touch('esi')}{_MARK}"
        f"mov ebx, esi\nmov ecx, {PAGES * 4096}\nmov eax, 91\nint 0x80\npop ebp\ndec ebp\njnz 2b\n"
    )


def cow_copies() -> bytes:
    """Children, one after the other, that write to every page of their parent; getpid marks as above."""
    return build(
        f"{_touch('offset buffer')}mov ebp, {FAULT_ROUNDS}\n2: mov eax, 2\nint 0x80\ntest eax, eax\njnz 3f\n"
        f"{_MARK}{_touch('offset buffer')}{_MARK}{_EXIT}"
        f"3: mov ebx, eax\nxor ecx, ecx\nxor edx, edx\nmov eax, 7\nint 0x80\ndec ebp\njnz 2b\n",
        PAGES * 4096,
    )


def workers(count: int) -> bytes:
    """So many children that compute for a while, so that every CPU runs code."""
    return build(
        f"mov ebp, {count}\n2: mov eax, 2\nint 0x80\ntest eax, eax\njz 5f\ndec ebp\njnz 2b\n"
        f"mov ebp, {count}\n4: mov ebx, -1\nxor ecx, ecx\nxor edx, edx\nmov eax, 7\nint 0x80\ndec ebp\njnz 4b\n"
        "jmp 6f\n5: mov ecx, 500000\n7: mov [buffer], ecx\ndec ecx\njnz 7b\n6:\n"
    )


_CLONE = (
    "mov eax, 120\nmov ebx, 0x350F00\nmov ecx, offset buffer + 8192\nmov edx, offset buffer\nmov edi, edx\nint 0x80\n"
    "test eax, eax\n"
)
"""A thread as C libraries make it; its number is in ``buffer`` until it has ended."""
_FUTEX = "mov eax, 240\nmov ebx, offset buffer + {at}\nmov ecx, {what}\nmov edx, {value}\nxor esi, esi\nint 0x80\n"


def threads_made() -> bytes:
    """Threads that end at once, each waited for; getpid marks as above."""
    wait = _FUTEX.format(at=0, what=0, value="[buffer]")
    return build(
        f"mov ebp, {THREAD_ROUNDS}\n2: {_MARK}push {THREADS}\n3: {_CLONE}jz 6f\n"
        f"4: cmp dword ptr [buffer], 0\nje 5f\n{wait}jmp 4b\n5: dec dword ptr [esp]\njnz 3b\npop eax\n{_MARK}"
        "dec ebp\njnz 2b\njmp 7f\n6: mov eax, 1\nxor ebx, ebx\nint 0x80\n7:\n",
        8192,
    )


def futex_wakes() -> bytes:
    """Two threads that wake each other and sleep; getpid marks as above."""

    def side(label: int, mine: int) -> str:
        sleep, wake = (_FUTEX.format(at=4, what=what, value=value) for what, value in ((128, 1 - mine), (129, 1)))
        return (
            f"{label}: cmp dword ptr [buffer + 4], {mine}\nje {label}1f\n{sleep}jmp {label}b\n"
            f"{label}1: mov dword ptr [buffer + 4], {1 - mine}\n{wake}"
        )

    return build(
        f"{_CLONE}jz 6f\nmov ebp, {THREAD_ROUNDS}\n2: {_MARK}mov edi, {WAKES}\n{side(3, 0)}dec edi\njnz 3b\n{_MARK}"
        f"dec ebp\njnz 2b\nmov eax, 252\nxor ebx, ebx\nint 0x80\n6: {side(4, 1)}jmp 4b\n",
        8192,
    )


_PAGE_LOOP = "mov edx, {pages}\n2: {body}\ndec edx\njnz 2b\n"
_CLEAR_SSE = (
    "mov ecx, 16\n1:\n"
    + "\n".join(f"movaps [edi+{at}], xmm0" for at in range(0, 256, 16))
    + "\nadd edi, 256\ndec ecx\njnz 1b"
)
_COPY_SSE = (
    "mov ecx, 32\n1:\n"
    + "\n".join(f"movaps xmm0, [esi+{at}]\nmovaps [edi+{at}], xmm0" for at in range(0, 128, 16))
    + "\nadd esi, 128\nadd edi, 128\ndec ecx\njnz 1b"
)
_START_CLEAR = "pxor xmm0, xmm0\nxor eax, eax\nmov edi, offset buffer\n"
_START_COPY = f"mov esi, offset buffer\nmov edi, offset buffer + {PAGES * 4096}\n"

CLEARS = {
    "movaps": _START_CLEAR + _PAGE_LOOP.format(pages=PAGES, body=_CLEAR_SSE),
    "rep stosd": _START_CLEAR + _PAGE_LOOP.format(pages=PAGES, body="mov ecx, 1024\nrep stosd"),
}
COPIES = {
    "movaps": _START_COPY + _PAGE_LOOP.format(pages=PAGES, body=_COPY_SSE),
    "rep movsd": _START_COPY + _PAGE_LOOP.format(pages=PAGES, body="mov ecx, 1024\nrep movsd"),
}
"""The ways to clear or copy ``PAGES`` pages; the best is the bare cost."""


def clearing(how: str) -> bytes:
    return build(CLEARS[how], PAGES * 4096)


def copying(how: str) -> bytes:
    return build(COPIES[how], 2 * PAGES * 4096)

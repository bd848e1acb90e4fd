"""The kernel's allocators: from Python, and called by guest kernel code, against the bare cost of a trap."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, interleaved, seconds
from sandbox.engine.exits import Halt, Trap
from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.module.loader import Module
from sandbox.runner.session import MachineSession

CALLS = 2000
GFP_KERNEL = 3
SIZE = 100
PAGES = (1, 64, 4096)
_SOURCE = f"""
        .intel_syntax noprefix
        .text
        .macro  calls name, argument, second
        .globl  \\name\\()_calls
\\name\\()_calls:
        push    ebx
        mov     ebx, {CALLS}
1:      push    \\second
        push    \\argument
        call    \\name
        add     esp, 8
        mov     [pointers+ebx*4-4], eax
        dec     ebx
        jnz     1b
        pop     ebx
        ret
        .endm
        .globl  init_module, bare_calls
init_module:
        xor     eax, eax
        ret
        calls   kmalloc, {SIZE}, {GFP_KERNEL}
        calls   kfree, "dword ptr [pointers+ebx*4-4]", 0
        calls   __get_free_page, {GFP_KERNEL}, 0
        calls   free_page, "dword ptr [pointers+ebx*4-4]", 0
        calls   current_pid, 0, 0
bare_calls:
        push    ebx
        mov     ebx, {CALLS}
1:      mov     eax, 0
        int     0xF0
        dec     ebx
        jnz     1b
        pop     ebx
        hlt
        .bss
pointers: .skip {4 * CALLS}
        .section .note.GNU-stack,"",@progbits
"""


def rows() -> Iterator[Row]:
    with MachineSession.idle(KernelConfig(ram=64 << 20)) as session:
        kernel = session.kernel
        module = session.modules.load("calls", _module())
        yield from _calls(kernel, module)
        yield from _areas(kernel)
    yield from _growth()


@functools.cache
def _module() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "calls.S", Path(folder) / "calls.o"
        source.write_text(_SOURCE)
        assemble_source(source, built, "module")
        return built.read_bytes()


def module_seconds(ram: int) -> float:
    """Host seconds of loading the first module of a machine with so many bytes of RAM."""
    with MachineSession.idle(KernelConfig(ram=ram)) as session:
        return seconds(lambda: session.modules.load("calls", _module()))


def _calls(kernel: Kernel, module: Module) -> Iterator[Row]:
    held: list[int] = []

    def guest(name: str) -> float:
        return seconds(lambda: kernel.this_cpu.call_c(module.symbols[f"{name}_calls"])) / CALLS

    def python_alloc() -> float:
        take = kernel.page_alloc.alloc_pages
        return seconds(lambda: held.extend(take(GFP_KERNEL) for _ in range(CALLS))) / CALLS

    def python_free() -> float:
        give = kernel.page_alloc.free_pages
        took = seconds(lambda: [give(pfn) for pfn in held]) / CALLS
        held.clear()
        return took

    found = interleaved(
        {
            "bare": lambda: _bare(kernel, module) / CALLS,
            "nothing": lambda: guest("current_pid"),
            "kmalloc": lambda: guest("kmalloc"),
            "kfree": lambda: guest("kfree"),
            "page": lambda: guest("__get_free_page"),
            "free": lambda: guest("free_page"),
            "python page": python_alloc,
            "python free": python_free,
        }
    )
    bare = found["bare"]
    yield _against("module's call kmalloc against the bare trap", found["kmalloc"], bare, 3)
    yield _against("module's call kfree against the bare trap", found["kfree"], bare)
    yield _against("module's call of an export against the bare trap", found["nothing"], bare)
    both = found["python page"] + found["python free"]
    calls = found["page"] + found["free"]
    yield Row("a page and back: from Python", 1e-3 / both, "k/s")
    yield Row(
        "a page and back: called by guest code", 1e-3 / calls, "k/s", None, False, f"{calls / both:.1f} x the time"
    )


def _bare(kernel: Kernel, module: Module) -> float:
    """The same trap in the same CPU with nobody at home: stop, come back to Python, go on."""
    cpu = kernel.this_cpu.vcpu
    outer, context = cpu.context, cpu.new_context()
    context.copy_from(kernel.this_cpu.template)
    context.eip = module.symbols["bare_calls"]
    context.esp = kernel.this_cpu.idle.stack_top
    cpu.context = context

    def trips() -> None:
        exit_ = cpu.run(1 << 30)
        while isinstance(exit_, Trap):
            exit_ = cpu.run(1 << 30)
        assert isinstance(exit_, Halt), exit_

    took = seconds(trips)
    cpu.context = outer
    return took


def _areas(kernel: Kernel) -> Iterator[Row]:
    def one(pages: int) -> float:
        repeat = max(1, 256 // pages)

        def work() -> None:
            for _ in range(repeat):
                kernel.vmalloc.vfree(kernel.vmalloc.vmalloc(pages * 4096))

        return seconds(work) / repeat

    found = interleaved({str(pages): lambda pages=pages: one(pages) for pages in PAGES})  # type: ignore[misc]
    for pages in PAGES:
        took = found[str(pages)]
        yield Row(
            f"vmalloc and vfree of {pages:,} pages",
            took * 1e6,
            "µs",
            None,
            False,
            f"{took / pages * 1e6:.2f} µs a page",
        )


def _growth() -> Iterator[Row]:
    """A thousand blocks of mixed sizes and back, on a small machine and on a large one."""
    with (
        MachineSession.idle(KernelConfig(ram=64 << 20)) as small,
        MachineSession.idle(KernelConfig(ram=4 << 30)) as large,
    ):

        def work(kernel: Kernel) -> None:
            take, give = kernel.page_alloc.alloc_pages, kernel.page_alloc.free_pages
            held = [(take(GFP_KERNEL, number % 4), number % 4) for number in range(1000)]
            for pfn, order in held:
                give(pfn, order)

        found = interleaved(
            {"small": lambda: seconds(lambda: work(small.kernel)), "large": lambda: seconds(lambda: work(large.kernel))}
        )
        note = f"{found['large'] * 1e3:.1f} ms against {found['small'] * 1e3:.1f} ms"
        yield Row("1,000 blocks: 4 GB against 64 MB", found["large"] / found["small"], "x", 1.5, False, note)


def _against(name: str, took: float, bare: float, bar: float | None = None) -> Row:
    return Row(name, took / bare, "x", bar, False, f"{took * 1e6:.2f} µs against {bare * 1e6:.2f} µs")

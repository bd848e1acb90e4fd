"""Drivers that take memory at boot: what they are given, what they may give back, and how they fail (post 002)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.image.assemble import INCLUDES, assemble_source
from sandbox.kernel.arch.bootdriver import BootDriverFailed, has_boot_init
from tests.kernel.mm.machines import boot, load

HEAD = f'#include "{INCLUDES}/module.h"\nint init_module(void) {{ return nr_free_pages() == 0; }}\n'


def build(folder: Path, body: str, name: str = "driver") -> tuple[str, bytes]:
    source, target = folder / f"{name}.c", folder / f"{name}.o"
    source.write_text(HEAD + body)
    assemble_source(source, target, "module")
    return name, target.read_bytes()


def takes(size: int, pattern: int) -> str:
    return (
        "u32 boot_init(u32 memory_start, u32 memory_end)\n{ u32 at;\n"
        f"for (at = memory_start; at < memory_start + {size}; at += 4) *(u32 *)at = at ^ {pattern:#x};\n"
        f"return memory_start + {size}; }}"
    )


def test_one_after_the_other(tmp_path: Path, paging: str) -> None:
    """Each gets what the one in front left; an end inside a page is rounded up, for mem_init frees whole pages."""
    first, second = build(tmp_path, takes(300 << 10, 0x1111), "a"), build(tmp_path, takes(5000, 0x2222), "b")
    kernel = boot(paging, boot_drivers=(first, second), boot="bootmem=in-front:8k")
    at = {name: (start, end) for name, start, end in kernel.reserved}
    assert at["in-front"][1] == at["a"][0]
    assert at["a"][1] == at["b"][0] == at["a"][0] + (300 << 10)
    assert at["b"][1] == at["b"][0] + 8192
    for name, pattern in (("a", 0x1111), ("b", 0x2222)):
        linear = 0xC0000000 + at[name][0]
        assert load(kernel, linear) == linear ^ pattern
    theirs, given = range(at["a"][0] >> 12, at["b"][1] >> 12), set[int]()
    assert all(kernel.memmap.reserved(pfn) for pfn in theirs)
    while kernel.pgdat.free_frames:
        given.add(kernel.pgdat.rmqueue_pcp(True))
    assert given.isdisjoint(theirs) and theirs.stop in given


def test_memory_end_is_the_end_of_the_piece(tmp_path: Path) -> None:
    """memory_start to memory_end is RAM throughout: a hole ends it."""
    body = "u32 boot_init(u32 memory_start, u32 memory_end) { return memory_end; }"
    kernel = boot(ram=16 << 20, boot="memexclude=6m-7m", boot_drivers=(build(tmp_path, body),))
    (end,) = [end for name, _, end in kernel.reserved if name == "driver"]
    assert end == 6 << 20


def test_a_long_way_without_jumps_back(tmp_path: Path) -> None:
    """More conditional jumps that are not taken than one run of the engine goes through."""
    loop = "volatile int n = 0, i; for (i = 0; i < 50000; i++) if (n) n = 1;"
    body = f"u32 boot_init(u32 memory_start, u32 memory_end) {{ {loop} return memory_start; }}"
    assert boot(boot_drivers=(build(tmp_path, body),)).pgdat.total_frames == boot().pgdat.total_frames


def test_nothing_taken(tmp_path: Path) -> None:
    body = "u32 boot_init(u32 memory_start, u32 memory_end) { return memory_start; }"
    kernel = boot(boot_drivers=(build(tmp_path, body),))
    assert "driver" not in {name for name, _, _ in kernel.reserved}
    assert kernel.pgdat.total_frames == boot().pgdat.total_frames


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return memory_start - 4096;", "no memory_start"),
        ("return memory_end + 1;", "no memory_start"),
        ("return *(u32 *)0xF0000000;", "stopped at"),
        ("return nr_free_pages();", "needs a kernel"),
        ("for (;;) ;", "does not come back"),
        ("volatile int n = 0; for (;;) if (n) n = 1;", "does not come back"),
    ],
)
def test_what_goes_wrong_is_the_drivers(tmp_path: Path, body: str, why: str) -> None:
    driver = build(tmp_path, f"u32 boot_init(u32 memory_start, u32 memory_end) {{ {body} }}")
    with pytest.raises(BootDriverFailed, match=why) as caught:
        boot(boot_drivers=(driver,))
    assert caught.value.exit_status == 1


def test_one_that_only_names_it(tmp_path: Path) -> None:
    named = build(tmp_path, "extern u32 boot_init(u32, u32); u32 other(void) { return boot_init(1, 2); }")
    assert has_boot_init(named[1])
    with pytest.raises(BootDriverFailed, match="is not defined in it"):
        boot(boot_drivers=(named,))
    assert not has_boot_init(build(tmp_path, "", "plain")[1])

"""The command line of kernel memory: modules, policies, devices, frames, maps, the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.image.build import IMAGES

GOOD = """#include "module.h"
int value = 3;
int init_module(void) { printk("value %d\\n", value); return value == 9 ? -12 : 0; }
void cleanup_module(void) { printk("bye\\n"); }
"""
ORPHAN = """.globl _start
_start: mov $2, %eax
        int $0x80
        test %eax, %eax
        jnz 1f
        mov $162, %eax
        mov $pause, %ebx
        xor %ecx, %ecx
        int $0x80
1:      mov $1, %eax
        xor %ebx, %ebx
        int $0x80
        .data
pause:  .long 0, 1000000
"""
LEAKS = '#include "module.h"\nint init_module(void) { kmalloc(32, GFP_KERNEL); return 0; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.c"
    path.write_text(GOOD)
    return path


def test_a_source_with_init_module_is_a_module(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(source)]) == 0
    assert capfd.readouterr().out == "value 3\nbye\n"
    assert main(["run", str(source), "value=5"]) == 0
    assert capfd.readouterr().out == "value 5\nbye\n"
    assert main(["run", str(source), "value=9"]) == 1
    assert "init_module gave -12" in capfd.readouterr().err
    assert main(["run", str(source), "nobody=1"]) == 2
    assert "no parameter is called 'nobody'" in capfd.readouterr().err


def test_what_is_left_behind_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "leaks.c"
    path.write_text(LEAKS)
    assert main(["run", str(path)]) == 1
    assert "leaks: left behind: 1 frames, 1 pieces of kmalloc" in capfd.readouterr().err


def test_what_a_module_beside_a_program_leaves_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "leaks.c"
    path.write_text(
        LEAKS.replace(
            "return 0", 'vmalloc(5); register_chrdev("x", (void *)init_module); request_irq(70, NULL); return 0'
        )
    )
    assert main(["run", str(IMAGES / "cow-fork"), "--module", str(path)]) == 1
    assert (
        "leaks: left behind: 2 frames, 1 pieces of kmalloc, 1 areas, 1 devices, 1 interrupt handlers"
        in capfd.readouterr().err
    )


FRAMES = """#include "module.h"
int init_module(void)
{
        __get_free_page(GFP_KERNEL);
        __get_free_pages(GFP_KERNEL, 2);
        alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        return 0;
}
"""


@pytest.mark.parametrize("image", ["cow-fork", "shared-tree", "efault-file", "orphan"])
def test_frames_that_a_module_beside_a_program_leaves(
    image: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """1 + 4 + 1 frames, whatever files, tables and stacks the program leaves to the kernel."""
    path, clean = tmp_path / "frames.c", tmp_path / "clean.c"
    path.write_text(FRAMES)
    clean.write_text('#include "module.h"\nint init_module(void) { return 0; }\n')
    program = IMAGES / image
    if image == "orphan":
        program = tmp_path / "orphan.S"
        program.write_text(ORPHAN)
    assert main(["run", str(program), "--module", str(clean)]) == 0, capfd.readouterr().err
    assert "left behind" not in capfd.readouterr().err
    assert main(["run", str(program), "--module", str(clean), "--module", str(path)]) == 1
    assert "sandbox: frames: left behind: 6 frames" in capfd.readouterr().err


def test_of_several_modules_those_that_leak_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each line tells who asked for what is left, and in which of its functions."""
    bodies = {
        "tidy": "kfree(kmalloc(64, GFP_KERNEL)); vfree(vmalloc(1)); free_page(get_free_page(GFP_KERNEL));",
        "piece": "kmalloc(64, GFP_KERNEL);",
        "area": "vmalloc(8192); request_irq(70, (void *)init_module);",
    }
    words = ["run", str(IMAGES / "cow-fork")]
    for name, body in bodies.items():
        (tmp_path / f"{name}.c").write_text(f'#include "module.h"\nint init_module(void) {{ {body} return 0; }}\n')
        words += ["--module", str(tmp_path / f"{name}.c")]
    assert main(words) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("sandbox: piece, area: left behind: 3 frames, 1 pieces of kmalloc, 1 areas, 1 interrupt")
    for what, module in (
        ("a piece of kmalloc at 0x", "piece"),
        ("an area at 0x", "area"),
        ("a handler of vector 0x46", "area"),
    ):
        assert any(what in line and line.endswith(f"[{module}]") and "init_module+" in line for line in lines[1:])
    assert not any("[tidy]" in line for line in lines)


def test_init_is_process_1_whatever_is_loaded(capfd: pytest.CaptureFixture[str]) -> None:
    """init(1): what loads modules comes later."""
    assert main(["debug", str(IMAGES / "vmalloc-sync"), "-e", "tasks"]) == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows][:2] == [["1", "init"], ["2", "sh"]]


def test_modules_beside_a_program(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(IMAGES / "cow-fork"), "--module", str(source), "--stats"]) == 0
    told = capfd.readouterr()
    assert "the child wrote 8" in told.out
    assert "value 3\nbye\n" in told.err
    assert "% of requests for one frame" in told.err
    assert main(["run", str(IMAGES / "cow-fork"), "--module", str(IMAGES / "cow-fork")]) == 2
    assert "a program, not a module" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--policy", "orders"], "give NAME=VALUE"),
        (["--policy", "orders=5"], "known are 6, 10, 11"),
        (["--policy", "nobody=5"], "no policy is called"),
        (["--device", "toaster"], "no device is called"),
        (["--device", "card@here"], "a physical address in hexadecimal"),
        (["--device", "card@-1"], "a physical address in hexadecimal"),
        (["--time-limit", "nan"], "0 is for none"),
        (["--time-limit", "-1"], "0 is for none"),
        (["--device", "card@0x100000"], "meets RAM"),
        (["--fail-allocation", "-3"], "counted from 1"),
        (["--screen", "-"], "no frame buffer"),
        (["--boot", "mem=lots"], "not a size"),
        (["--boot", "mem=1_6m"], "needs 2 MB"),
        (["--device", "card@8000_0000"], "a physical address in hexadecimal"),
    ],
)
def test_nonsense(words: list[str], why: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(IMAGES / "cow-fork"), *words]) == 2
    assert why in capfd.readouterr().err


def test_words_of_the_command_line_that_nobody_reads(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["run", str(IMAGES / "cow-fork")], ["frames"], ["maps", str(IMAGES / "cow-fork")]):
        assert main([*words, "--boot", "mem=16mb nosuch=1"]) == 0
        assert capfd.readouterr().err.splitlines()[:2] == [
            "sandbox: boot option 'mem=16mb': 'b' behind the value is not read",
            'sandbox: Unknown kernel command line parameters "nosuch=1"',
        ]


def test_fail_allocation(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(IMAGES / "cow-fork"), "--fail-allocation", "1"]) == 1
    assert "request 1 for frames fails, as asked for" in capfd.readouterr().err


def test_frames(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["frames", "--ram", "16M"]) == 0
    assert "reserved at boot" in capfd.readouterr().out
    for extra in ([], ["--at", "main"], ["--end"]):
        assert main(["frames", str(IMAGES / "gfp-levels"), *extra]) == 0
        assert "physical memory" in capfd.readouterr().out
    assert main(["frames", str(IMAGES / "kmalloc")]) == 0
    assert main(["frames", "--models", "--ram", "1G"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].split()[:2] == ["1", "GB"]
    assert main(["frames", str(IMAGES / "rom-gate-types")]) == 0
    assert main(["frames", str(IMAGES / "gfp-levels"), "--at", "nowhere"]) == 2


def test_maps(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["maps"]) == 0
    assert "direct map" in capfd.readouterr().out
    assert main(["maps", str(IMAGES / "uaccess")]) == 0
    told = capfd.readouterr().out
    assert "module uaccess, in use 0" in told
    assert "16 pages  vmalloc" in told
    assert main(["maps", str(IMAGES / "user-access")]) == 0
    assert "r-xp" in capfd.readouterr().out


def test_trace_alloc(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(IMAGES / "buddy"), "--trace", "alloc,map"]) == 0
    told = capfd.readouterr().err
    assert "alloc 32 frames from" in told
    assert "free  32 frames from" in told
    assert "GFP_KERNEL" in told
    assert "load module buddy" in told
    assert "unload module buddy" in told


def test_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "out.pgm"
    assert main(["run", str(IMAGES / "framebuffer"), "--screen", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"P5 320 200 255\n")
    assert main(["run", str(IMAGES / "framebuffer"), "--screen", "-"]) == 0
    assert "@@@@" in capfd.readouterr().out
    assert main(["run", str(IMAGES / "framebuffer"), "--screen", "/nonexistent/x"]) == 2


def test_explain_faults_of_kernel_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "null.c"
    path.write_text('#include "module.h"\nint init_module(void) { return *(volatile int *)8; }\n')
    assert main(["explain", str(path), "--fault", "1"]) == 0
    told = capfd.readouterr().out
    assert "kernel code at" in told
    assert "<init_module" in told
    assert "answer    oops" in told
    assert main(["explain", str(path), "--fault", "2"]) == 2
    capfd.readouterr()
    shown = ""
    for number in range(1, 12):
        assert main(["explain", str(IMAGES / "vmalloc-sync"), "--paging", "legacy", "--fault", str(number)]) == 0
        shown = capfd.readouterr().out
        if "answer    vmalloc-sync" in shown:
            break
    assert "in the kernel's vmalloc" in shown
    assert "the walk afterwards" in shown


def test_debug_with_modules(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["debug", str(IMAGES / "verify-area"), "-e", "break main", "-e", "continue", "-e", "continue"]) == 0
    assert "exit status 0" in capfd.readouterr().out
    assert main(["debug", str(IMAGES / "kmalloc"), "-e", "continue"]) == 0
    assert "<init_module [kmalloc]>" in capfd.readouterr().out

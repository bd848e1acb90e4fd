"""``sandbox.api``: what is not on its page: errors, other kinds of images, what is given back."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from sandbox import api
from sandbox.kernel.base.config import KernelConfig
from sandbox.records import fields
from sandbox.runner.rom import RomConfig

ECHO = """
        .include "linux.inc"
        .globl _start
_start: sub esp, 16
        mov edi, esp
        sys read, 0, edi, 16
        sys write, 1, edi, eax
        sys exit, 3
"""
MODULE = '#include "module.h"\nint init_module(void) { printk("here\\n"); return 0; }\nvoid cleanup_module(void) { }\n'


def test_options_are_the_configurations() -> None:
    """Every field of a machine that a caller may choose is an option of the same name, and nothing else is."""
    inner = {"turn", "limit_waits", "boot_drivers", "stack_limit", "started"}
    known = {each.name for each in fields(KernelConfig)} | {each.name for each in fields(RomConfig)}
    assert set(api.Options.__annotations__) == known - inner


def test_standard_input_and_status() -> None:
    image = api.source(ECHO)
    result = api.run(image, stdin=b"hello")
    assert (result.stdout, result.status) == (b"hello", 3)
    with api.start(image, stdin=b"again") as guest:
        assert guest.output == b""
        assert guest.finish().stdout == guest.output == b"again"


def test_a_module_and_a_program_with_one(tmp_path: Path) -> None:
    path = tmp_path / "here.c"
    path.write_text(MODULE)
    assert api.run(path).headline() == "exit status 0"
    result = api.run(api.image("images/cow-fork", modules=[path]))
    assert result.passed
    assert result.summary.gate_calls


@pytest.mark.parametrize(
    ("options", "named"),
    [({"ram": "1"}, "1 byte of"), ({"ram": "x"}, "'x'"), ({"nosuch": 1}, "nosuch"), ({"switches": {"x"}}, "'x'")],
)
def test_an_impossible_machine(options: dict[str, object], named: str) -> None:
    for call in (api.run, api.start):
        with pytest.raises(api.ConfigurationError) as caught:
            call("images/cow-fork", **options)  # type: ignore[operator]
        assert named in caught.value.summary
        assert caught.value.exit_status == 2


def test_a_rom_has_its_own_options() -> None:
    with pytest.raises(api.ConfigurationError, match="paging"):
        api.run(api.rom(b"\xf4"), paging="pae")
    assert api.run(api.rom(b"\xeb\xfe"), block_limit=1000).error


def test_what_cannot_be_executed() -> None:
    with pytest.raises(api.SandboxError) as caught, api.start(api.Image("bad", "program", b"\x7fELF")):
        pass
    assert caught.value.exit_status == 2


def test_places_that_are_not_there() -> None:
    with api.start("images/cow-fork") as guest:
        with pytest.raises(api.Refused):
            guest.run("nowhere")
        with pytest.raises(api.Refused):
            guest.symbol("nowhere")
        with pytest.raises(api.Refused):
            guest.write(0x1000, b"x")
        guest.finish()
        with pytest.raises(api.Refused):
            guest.run()
        with pytest.raises(api.Refused):
            guest.step()


def test_what_is_set_is_there() -> None:
    with api.start("images/cow-fork") as guest:
        guest.set_register("eax", 0x1234)
        at = guest.registers["esp"]
        guest.write(at, b"word")
        assert guest.registers["eax"] == 0x1234
        assert guest.read(at, 4) == b"word"
        physical = guest.walk(at).physical
        assert physical is not None
        assert guest.read_physical(physical, 4) == b"word"


def test_a_rom_page_fault_is_seen_and_explained() -> None:
    with api.start("images/rom-write-protect") as guest:
        guest.finish()
        assert guest.faults
        assert guest.explain(1).lines()


def test_an_explanation_of_a_fault_that_never_came() -> None:
    with pytest.raises(api.SandboxError) as caught:
        api.explain("images/cow-fork", 100)
    assert caught.value.exit_status == 2


def test_only_images_with_manifests_are_checked() -> None:
    for image in (api.source(ECHO), api.rom(b"\xf4")):
        with pytest.raises(api.ConfigurationError):
            api.check(image)


def test_everything_is_given_back() -> None:
    def held() -> int:
        gc.collect()
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    with api.Kernel():
        pass
    before = held()
    for _ in range(3):
        api.run("images/cow-fork")
        with api.start("images/cow-fork") as guest:
            guest.run("child")
        with api.Kernel(cpus=2) as kernel:
            assert kernel.read(0xC0100000, 16)
    assert held() == before


@pytest.mark.parametrize(
    ("code", "registers", "vector", "error", "eip"),
    [
        ("xor ecx, ecx\ndiv ecx", {}, 0, 0, 2),  # SDM 2A, DIV: #DE, a fault
        ("int3", {}, 3, 0, 1),  # SDM 3A, 6.4: a trap, behind the instruction
        ("hlt", {}, 13, 0, 0),  # SDM 2A, HLT: #GP(0) above ring 0
        ("ud2", {}, 6, 0, 0),
        ("in al, 0x80", {}, 13, 0, 0),  # SDM 1, 19.5: CPL above IOPL, and no TSS that allows it
        ("in al, 0x80", {"eflags": 0x3202}, None, 0, 2),
        ("mov [0x400000], eax", {}, 14, 7, 0),  # the code's page may be read only: P, W, U
        ("jmp eax", {"eax": 0x500000}, 14, 0x15, 0x100000),  # NX: P, U, I
        ("mov eax, 1", {}, None, 0, 5),
    ],
)
def test_vectors(code: str, registers: dict[str, int], vector: int | None, error: int, eip: int) -> None:
    done = api.execute(code, registers)
    assert (done.vector, done.error_code, done.eip) == (vector, error, eip)


def test_vectors_with_memory() -> None:
    done = api.execute("mov esi, 0x500000\nmov edi, 0x500100\nmov ecx, 4\nrep movsb", {}, {0x500000: b"abcd"})
    assert done.memory[0x100:0x104] == b"abcd"
    assert done.registers["ecx"] == 0
    assert not api.execute(b"\xeb\xfe").ended
    for wrong in ({"eip": 1}, {"rax": 1}):
        with pytest.raises(api.ConfigurationError):
            api.execute("nop", wrong)
    with pytest.raises(api.ConfigurationError):
        api.execute("nop", {}, {0x50FFFF: b"ab"})
    with pytest.raises(api.ConfigurationError):
        api.execute(b"")

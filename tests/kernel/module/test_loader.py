"""Modules: loaded, linked, used, unloaded; damaged files are refused with a word (MM 8)."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.image.assemble import assemble_source
from sandbox.image.build import IMAGES
from sandbox.image.elf import ImageError
from sandbox.kernel.abi.errno import EBUSY, EEXIST, ENOENT, ENOEXEC, ENOMEM
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.module.hypercall import GuestKernelBug
from sandbox.kernel.module.loader import InitFailed, ModuleError, modinfo_name
from sandbox.kernel.task.limits import LimitReached
from sandbox.runner.modules import ModuleSession
from sandbox.runner.target import ModuleFile, resolve
from sandbox.x86.errors import SandboxError
from tests.campaign import part
from tests.conftest import Run
from tests.kernel.calls import results
from tests.kernel.mm.machines import boot_system, physical

Build = Callable[..., bytes]
ADDER = """
        .globl init_module, {name}_add
init_module: xor eax, eax
        ret
{name}_add: mov eax, [esp+4]
        add eax, [value]
        {extra}
        ret
        .data
value:  .long {value}
pointer: .long {name}_add
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(text)``: the object file of an assembly source in Intel syntax."""
    folder: Path = tmp_path_factory.mktemp("modules")
    made: dict[str, bytes] = {}

    def make(text: str) -> bytes:
        if text not in made:
            source, target = folder / f"m{len(made)}.S", folder / f"m{len(made)}.o"
            source.write_text("        .intel_syntax noprefix\n        .text\n" + text + "\n")
            assemble_source(source, target, "module")
            made[text] = target.read_bytes()
        return made[text]

    return make


GOOD = ".globl init_module\ninit_module: xor eax, eax\n ret\n"


class Linked(RuleBasedStateMachine):
    """Four modules; the later ones may need the earlier ones."""

    objects: ClassVar[dict[str, tuple[bytes, tuple[str, ...]]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.system = boot_system()
        self.kernel = self.system.kernel
        self.present: list[str] = []
        self.kernel.vmalloc.vfree(self.kernel.vmalloc.vmalloc(20 * 4096))
        self.free = self.kernel.pgdat.free_frames

    @rule(name=st.sampled_from("abcd"))
    def load(self, name: str) -> None:
        data, needs = self.objects[name]
        if name in self.present:
            with pytest.raises(ModuleError) as caught:
                self.system.modules.load(name, data)
            assert caught.value.errno == EEXIST
        elif set(needs) <= set(self.present):
            module = self.system.modules.load(name, data)
            self.present.append(name)
            assert physical(self.kernel, module.base) is not None
            assert {each.name for each in module.needs} == set(needs)
        else:
            with pytest.raises(ModuleError, match="unresolved symbol") as caught:
                self.system.modules.load(name, data)
            assert caught.value.errno == ENOENT

    @rule(name=st.sampled_from("abcd"))
    def unload(self, name: str) -> None:
        users = [other for other in self.present if name in self.objects[other][1]]
        if name not in self.present or users:
            with pytest.raises(ModuleError) as caught:
                self.system.modules.unload(name)
            assert caught.value.errno == (EBUSY if users else ENOENT)
            return
        base = self.system.modules.find(name).base  # type: ignore[union-attr]
        self.system.modules.unload(name)
        self.present.remove(name)
        assert physical(self.kernel, base) is None, "after unload there are no entries"

    @precondition(lambda self: self.present)
    @rule(data=st.data(), word=st.integers(0, 1000))
    def call(self, data: st.DataObject, word: int) -> None:
        name = data.draw(st.sampled_from(self.present))
        module = self.system.modules.find(name)
        assert module is not None
        depth = {"a": 1, "b": 12, "c": 123, "d": 1000}[name]
        assert self.kernel.this_cpu.call_c(module.symbols[f"{name}_add"], word) == word + depth

    @invariant()
    def books_balance(self) -> None:
        kernel = self.kernel
        assert [module.name for module in self.system.modules.loaded] == self.present
        assert len(kernel.vmalloc.areas) == len(self.present)
        pages = sum(len(area.frames) for area in kernel.vmalloc.areas)
        assert kernel.pgdat.free_frames == self.free - pages
        for module in self.system.modules.loaded:
            users = sum(module.name in self.objects[other][1] for other in self.present)
            assert self.system.modules.use_count(module) == users


def test_modules_that_need_each_other(build: Build) -> None:
    """a is alone; b adds a's; c calls b's and reads it through a pointer; d is alone."""
    add = "push eax\n call {0}\n add esp, 4"
    Linked.objects = {
        "a": (build(ADDER.format(name="a", value=1, extra="")), ()),
        "b": (build(ADDER.format(name="b", value=11, extra=add.format("a_add"))), ("a",)),
        "c": (build(ADDER.format(name="c", value=111, extra=add.format("b_add")) + ".long a_add\n"), ("b", "a")),
        "d": (build(ADDER.format(name="d", value=1000, extra="")), ()),
    }
    case = Linked.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
    case().runTest()


@pytest.mark.parametrize("seed", part(range(8), 1))
@pytest.mark.parametrize("name", ["module-asm", "module-nasm", "kmalloc", "busy"])
def test_damaged_files(name: str, seed: int) -> None:
    """Bytes are changed or cut anywhere: loaded or refused, never our fault, and nothing is left behind."""
    data = resolve(IMAGES / name).data
    chance = random.Random(f"{name} {seed}")
    for _ in range(50):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        config = KernelConfig(ram=8 << 20, time_limit=5)
        with ModuleSession(ModuleFile(name, bytes(damaged)), config) as session:
            try:
                session.finish()
            except SandboxError as error:
                assert error.exit_status != 3, error.summary
                assert isinstance(error, ImageError | ModuleError)
                assert session.kernel.vmalloc.areas == []


def test_a_common_symbol_without_a_name(build: Build) -> None:
    """What is common is what has one name (gABI, Symbol Table, SHN_COMMON); it was our bug where it had none."""
    data = build(GOOD + " mov eax, offset shared\n .comm shared, 4, 4\n")
    entry = struct.pack("<IIBBH", 4, 4, 0x11, 0, 0xFFF2)
    at = data.index(entry) - 4
    with pytest.raises(ModuleError, match="m: a common symbol without a name"):
        load(data[:at] + bytes(4) + data[at + 4 :])


def load(data: bytes, *options: str, **config: object) -> ModuleSession:
    made = KernelConfig(ram=8 << 20, **config)  # type: ignore[arg-type]
    session = ModuleSession(ModuleFile("m", data, options), made)
    session.load()
    return session


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing: ret", "it has no init_module"),
        (".globl init_module\n.extern init_module\n call init_module", "it has no init_module"),
        ('.globl init_module\n.section .nowhere, ""\ninit_module: ret', "in no section that is loaded"),
        (GOOD + "call nobody\n call nothing", "unresolved symbols nobody, nothing"),
        (GOOD + ".data\n.byte printk", "does not fit in 1 bytes"),
        (GOOD + ".data\n.long hidden\n.section .elsewhere\nhidden: .long 1", "which is not loaded"),
    ],
)
def test_what_cannot_be_linked(build: Build, text: str, why: str) -> None:
    with pytest.raises(ModuleError, match=why):
        load(build(text))


def test_a_weak_symbol_may_be_missing(build: Build) -> None:
    text = ".globl init_module\n.weak nobody\ninit_module: mov eax, offset nobody\n ret"
    with load(build(text)) as session:
        assert session.modules.loaded


def test_init_may_say_no(build: Build) -> None:
    for value, errno in ((-12, ENOMEM), (5, 22)):
        with pytest.raises(InitFailed) as caught:
            load(build(f".globl init_module\ninit_module: mov eax, {value}\n ret"))
        assert (caught.value.value, caught.value.errno) == (value, errno)


def test_parameters(build: Build) -> None:
    text = (
        ".globl init_module\ninit_module: mov eax, [irq]\n sub eax, [io+4]\n ret\n.data\nirq: .long 1\nio: .long 2, 3\n"
    )
    data = build(text)
    load(data, "irq=0x10", "io=1,16").close()
    load(data, "irq=020", "io=1,+16").close()
    for option, why in (
        ("irq", "no parameter"), ("nobody=1", "no parameter"), ("printk=1", "no parameter"), ("irq=x", "not a number"),
        ("io=1,2,3", "more than"), ("--cpus", "stand in front of the parameters"), ("init_module=1", "no parameter"),
        ("irq=99999999999", "does not hold"), ("irq=1_6", "not a number"), ("irq=0b1", "not a number"),
    ):  # fmt: skip
        with pytest.raises(ModuleError, match=why):
            load(data, option)


@pytest.mark.parametrize("order", [1, -1])
def test_a_parameter_is_the_global_symbol(build: Build, tmp_path: Path, order: int) -> None:
    """Two files linked into one module (``ld -r``), each with an ``irq``, one's is its own: insmod sets the other."""
    own = (
        ".globl init_module\ninit_module: mov ecx, [theirs]\n mov eax, [ecx]\n shl eax, 4\n add eax, [irq]\n ret\n"
        ".data\n.long 0, 0\nirq: .long 3\n"
    )
    files = []
    for number, text in enumerate((own, ".globl irq, theirs\n.data\nirq: .long 1\ntheirs: .long irq\n")):
        files.append(tmp_path / f"{number}.o")
        files[-1].write_bytes(build(text))
    both = tmp_path / "both.o"
    subprocess.run(["ld", "-m", "elf_i386", "-r", "-o", both, *files[::order]], check=True)
    with pytest.raises(InitFailed) as caught:
        load(both.read_bytes(), "irq=7")
    assert caught.value.value == 0x73


def test_code_runs_and_data_does_not(build: Build) -> None:
    """Under PAE the pages of data carry NX; a jump there is a bug with a name."""
    text = ".globl init_module\ninit_module: call there\n ret\n.data\nthere: ret\n"
    with pytest.raises(GuestKernelBug, match=r"kernel fetch protection.*in there \[m\]"):
        load(build(text))
    with pytest.raises(ModuleError):
        load(build(text), paging="legacy")


def test_a_call_into_freed_text(build: Build) -> None:
    with load(build(GOOD)) as session:
        kernel = session.kernel
        init = session.modules.loaded[0].symbols["init_module"]
        session.unload_modules()
        with pytest.raises(GuestKernelBug, match=r"kernel (fetch|read) not-present"):
            kernel.this_cpu.call_c(init)


def test_endless_init(build: Build) -> None:
    with pytest.raises(LimitReached, match="1000000 blocks"):
        load(build(".globl init_module\ninit_module: jmp init_module"), block_limit=1_000_000)


def test_names() -> None:
    assert modinfo_name(resolve(IMAGES / "busy").data) == ""


def test_from_a_program(run: Run, build: Build) -> None:
    """init_module(2), finit_module(2) and delete_module(2), with their errors."""
    data = build(GOOD + '.section .modinfo, "a"\n.asciz "name=fine"\n')
    calls = [
        ("init_module", "offset object", len(data), "offset empty"),
        ("init_module", "offset object", len(data), "offset empty"),
        ("delete_module", "offset fine", 0),
        ("delete_module", "offset fine", 0),
        ("init_module", "offset object", 20, "offset empty"),
        ("init_module", "offset object", 0, "offset empty"),
        ("init_module", 0x10, 100, "offset empty"),
        ("init_module", "offset object", len(data), 0x10),
        ("open", "offset path", 0, 0),
        ("finit_module", "r8", "offset empty", 0),
        ("finit_module", 77, "offset empty", 0),
        ("finit_module", "r8", "offset empty", 64),
    ]
    text = f'object: .byte {",".join(map(str, data))}\nempty: .byte 0\nfine: .asciz "fine"\npath: .asciz "/m.o"\n'
    found, _ = results(run, calls, text, files={"/m.o": data})
    assert found[:8] == [0, -EEXIST, 0, -ENOENT, -ENOEXEC, -ENOEXEC, -14, -14]
    assert found[8] >= 3
    assert found[9:] == [0, -9, -22]


@pytest.mark.parametrize(("deletes", "left"), [(True, "m: left behind: 4 frames"), (False, "")])
def test_what_a_program_loads_and_unloads(run: Run, build: Build, deletes: bool, left: str) -> None:
    """It may leave nothing behind either; while it is loaded, what it holds is its own."""
    data = build(
        ".globl init_module\ninit_module: push 2\n push 3\n call __get_free_pages\n add esp, 8\n xor eax, eax\n ret\n"
    )
    body = """_start: sys open, "offset path", 0, 0
        mov ebx, eax
        mov ecx, offset empty
        xor edx, edx
        mov eax, 350            # finit_module
        int 0x80
        mov ebp, eax
"""
    remove = "mov eax, 129; mov ebx, offset name; xor ecx, ecx; int 0x80; or ebp, eax  # delete_module\n"
    body += remove * deletes
    body += '        sys exit, ebp\n.data\nempty: .byte 0\nname: .asciz "m"\npath: .asciz "/m.o"\n'
    result = run(body, files={"/m.o": data})
    assert (result.error, result.status) == (left, 0)


def test_devices_come_and_go(run: Run) -> None:
    data = resolve(IMAGES / "busy").data
    found, _ = results(
        run,
        [("open", "offset o", 0, 0), ("finit_module", "r0", "offset e", 0), ("open", "offset dev", 2, 0),
         ("ioctl", "r2", 0, 0x10), ("read", "r2", "offset buf", 4), ("write", "r2", "offset buf", 4),
         ("delete_module", "offset name", 0), ("close", "r2"), ("delete_module", "offset name", 0),
         ("open", "offset dev", 2, 0)],
        'o: .asciz "/busy.o"\ne: .byte 0\ndev: .asciz "/dev/busy"\nname: .asciz "busy"\n',
        files={"/busy.o": data},
    )  # fmt: skip
    assert found[1] == 0
    assert found[3:] == [-14, -22, -22, -EBUSY, 0, 0, -19]


@pytest.mark.parametrize("paging", ["legacy", "pae"])
def test_a_stack_that_overflows(build: Build, paging: str) -> None:
    """It stops at the guard page, before a byte of anything else is stored (VMAP_STACK, Linux 4.9)."""
    text = ".globl init_module\ninit_module: sub esp, 500\n call init_module\n"
    with pytest.raises(GuestKernelBug, match=r"kernel stack overflow under init_module \[m\].*guard page.*not-present"):
        load(build(text), paging=paging)


@pytest.mark.parametrize("kilobytes", [5, 53, 200])
def test_a_frame_that_steps_over_the_guard_page(build: Build, kilobytes: int) -> None:
    """Stacks are far apart while there are few: 53 KB and 200 KB were once stored into other frames."""
    text = f".globl init_module\ninit_module: sub esp, {kilobytes << 10}\n mov dword ptr [esp], 1\n xor eax, eax\n"
    with pytest.raises(GuestKernelBug, match=r"kernel stack overflow.*guard page.*not-present"):
        load(build(text))


@pytest.mark.parametrize("uses", [0, 1])
def test_vfree_of_a_module_that_is_loaded(build: Build, uses: int) -> None:
    """Its own area, whether its use count says so or not: it goes when it is unloaded."""
    text = ".globl init_module\ninit_module: push offset init_module\n call vfree\n pop eax\n xor eax, eax\n ret\n"
    text += f".data\n.globl mod_use_count_\nmod_use_count_: .long {uses}\n"
    with pytest.raises(GuestKernelBug, match=r"vfree\(0xc1400000\): a live area of the kernel's own \(module\)"):
        load(build(text))


def test_a_handlers_stack_has_a_guard_page_too(build: Build) -> None:
    text = """.globl init_module
init_module: push offset deep
 push 0x40
 call request_irq
 add esp, 8
 push 4096
 push 0x80000000
 call vremap
 add esp, 8
 mov dword ptr [eax+0x10], 0x40
 mov dword ptr [eax+0x14], 1
 xor eax, eax
 ret
deep: sub esp, 500
 call deep
"""
    with pytest.raises(GuestKernelBug, match=r"kernel stack overflow under deep \[m\].*guard page"):
        load(build(text), devices=("card",))


def test_hlt_is_no_way_to_return(build: Build) -> None:
    with pytest.raises(GuestKernelBug, match=r"hlt, and no interrupt will come, in init_module.*\[m\]"):
        load(build(".globl init_module\ninit_module: xor eax, eax\n hlt\n ret"))


def test_absurd_sizes_are_refused_before_they_are_laid_out(build: Build) -> None:
    commons = "".join(f".comm c{number}, 0xFFFFFF00, 4\n" for number in range(60))
    with pytest.raises(ModuleError, match="no memory for") as caught:
        load(build(GOOD + commons))
    assert caught.value.errno == ENOMEM


@pytest.mark.parametrize("body", ["call current_pid", "call schedule", "push 0\n call kfree\n pop eax"])
def test_endless_calls(build: Build, body: str) -> None:
    """A loop that calls the kernel each time round is ended by the limits too."""
    with pytest.raises(LimitReached):
        load(build(f".globl init_module\ninit_module: {body}\n jmp init_module"), time_limit=0.5)


def test_a_count_that_others_lowered(build: Build) -> None:
    one = build(".globl init_module, lower\ninit_module: xor eax, eax\n ret\nlower: jmp mod_dec_use_count")
    two = build(".globl init_module\ninit_module: call lower\n call lower\n xor eax, eax\n ret")
    with load(one) as session:
        session.modules.load("two", two)
        session.modules.unload("two")
        session.modules.unload("m")


def test_nameless_modules(run: Run, build: Build) -> None:
    data = build(GOOD)
    load_it = ("init_module", "offset object", len(data), "offset empty")
    text = f'object: .byte {",".join(map(str, data))}\nempty: .byte 0\nzero: .asciz "module0"\n'
    found, _ = results(run, [load_it, load_it, ("delete_module", "offset zero", 0), load_it], text)
    assert found == [0, 0, 0, 0]


def test_init_gives_what_is_no_errno(run: Run, build: Build) -> None:
    for value in (-1000, -512, -(1 << 31)):
        data = build(f".globl init_module\ninit_module: mov eax, {value}\n ret")
        text = f"object: .byte {','.join(map(str, data))}\nempty: .byte 0\n"
        found, _ = results(run, [("init_module", "offset object", len(data), "offset empty")], text)
        assert found == [-22]


def test_int_14_is_no_page_fault(build: Build) -> None:
    with pytest.raises(GuestKernelBug, match="#PF page fault in kernel code"):
        load(build(".globl init_module\ninit_module: int 14\n ret"))


def test_parameters_of_other_sizes(build: Build) -> None:
    """A short and a char take what fits into them, and their neighbours stay."""
    text = """.globl init_module, one, two, three
init_module: movzx eax, word ptr [one]
 sub eax, 7
 movzx ecx, byte ptr [two]
 lea eax, [eax+ecx-9]
 movzx ecx, byte ptr [three]
 lea eax, [eax+ecx-3]
 ret
.data
one: .word 1
two: .byte 2
three: .byte 3
.size one, 2
.size two, 1
.size three, 1
"""
    load(build(text), "one=7", "two=9").close()
    for option in ("two=256", "one=70000"):
        with pytest.raises(ModuleError, match="does not hold"):
            load(build(text), option)


def test_a_stack_pointer_of_nothing(build: Build) -> None:
    with pytest.raises(GuestKernelBug):
        load(build(".globl init_module\ninit_module: mov esp, 0\n mov eax, 5\n int 0xF0\n ret"))


def test_a_limit_of_blocks_is_kept(build: Build) -> None:
    with pytest.raises(LimitReached, match="limit reached: 2000 blocks"):
        load(
            build(".globl init_module\ninit_module: mov ecx, 100000\n1: loop 1b\n xor eax, eax\n ret"), block_limit=2000
        )


def test_the_call_trace_names_callers_only(build: Build) -> None:
    text = """.globl init_module
init_module: push offset table
 push offset helper
 call helper
 ret
helper: push offset init_module
 mov eax, [16]
 ret
.data
table: .long init_module
"""
    with pytest.raises(GuestKernelBug) as caught:
        load(build(text))
    trace = caught.value.detail.splitlines()[-1]
    assert trace.strip() == "called from init_module+0xf [m], call_module+0xf"


def test_the_walk_is_of_the_directory_that_cr3_holds(build: Build) -> None:
    with pytest.raises(GuestKernelBug) as caught:
        load(build(".globl init_module\ninit_module: xor eax, eax\n mov cr3, eax\n mov eax, [0xC0000000]\n ret"))
    assert "not present" in caught.value.detail

"""Guest kernel code gone wild: every exported call with nonsense, and memory of the kernel overwritten.

Ring 0 may damage anything; what must not happen is a Python traceback, or an error that calls it our fault.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandbox.image.assemble import INCLUDES, assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.module.ksyms import ROUTINES
from sandbox.runner.run import Session
from sandbox.runner.session import MachineSession
from sandbox.runner.target import ModuleFile
from sandbox.x86.errors import SandboxError
from tests.campaign import part

NASTY = (
    0, 1, 2, 3, 7, 8, 0x10, 0x7F, 0x80, 0xFFF, 0x1000, 0x1001, 0xA0000, 0xD0000, 0x100000, 0x1000000, 0x7FFFFFFF,
    0x80000000, 0x80000004, 0xBFFFFFFF, 0xC0000000, 0xC0100000, 0xC1000000, 0xC4000000, 0xC5000000, 0xFEFFF000,
    0xFF000000, 0xFFFFF000, 0xFFFFFFFF, 0xFFFFFFF8,
)  # fmt: skip
SCRIBBLER = """#include "module.h"
u32 at, size, value, step;
static int ioctl(int file, u32 request, u32 argument)
{
        u32 offset, page;
        void *near, *far;

        for (offset = 0; offset < size; offset += step)
                *(volatile u8 *)(at + offset) = value ^ offset;
        near = kmalloc(100, GFP_KERNEL), far = vmalloc(8192), page = get_free_page(GFP_KERNEL);
        kfree(near), vfree(far), free_page(page);
        return 0;
}
static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
int init_module(void) { return register_chrdev("wild", &operations) < 0; }
"""
PROGRAM = """#include "user.h"
int main(void)
{
        int fd = open("/dev/wild", O_RDWR), status, page;
        char *area = mmap(0, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (page = 0; page < 20; page++)
                area[page * PAGE] = page;
        if (fork() == 0)
                exit(area[5] = 1);
        ioctl(fd, 1, 0);
        for (page = 0; page < 20; page++)
                area[page * PAGE] += page;
        if (fork() == 0)
                exit(area[5] = 1);
        waitpid(-1, &status, 0);
        waitpid(-1, &status, 0);
        return 0;
}
"""


@pytest.mark.parametrize("seed", part(range(24), 12))
def test_nonsense(seed: int) -> None:
    chance = random.Random(seed)
    policies = {
        "mem_model": chance.choice(["flatmem", "sparsemem", "vmemmap"]),
        "kmalloc": chance.choice(["1.0", "1.3", "2.0", "2.1"]),
        "bugs": chance.choice(["stop", "report"]),
    }
    config = KernelConfig(
        ram=chance.choice([5, 16, 32]) << 20,
        paging=chance.choice(["pae", "legacy"]),
        devices=("card",),
        policies=policies,
    )
    with MachineSession.idle(config) as session:
        kernel, words = session.kernel, list(NASTY)
        names = [each.name for each in session.system.gate.exports] + sorted(ROUTINES)
        for _ in range(60):
            name = chance.choice(names)
            arguments = [chance.choice(words) if chance.random() < 0.8 else chance.randrange(1 << 32) for _ in range(3)]
            try:
                words.append(kernel.this_cpu.call_c(session.system.gate.symbols[name], *arguments))
            except SandboxError as error:
                assert error.exit_status != 3, f"{name}{arguments}: {error.summary}"
            assert kernel.this_cpu.kstack.depth == 0
            assert kernel.this_cpu.module_calls == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder: Path = tmp_path_factory.mktemp("wild")
    made = []
    for name, text, kind in (("wild.c", SCRIBBLER, "module"), ("user.c", PROGRAM, "program")):
        (folder / name).write_text(
            text.replace('"module.h"', f'"{INCLUDES}/module.h"').replace('"user.h"', f'"{INCLUDES}/user.h"')
        )
        assemble_source(folder / name, folder / f"{name}.out", kind)
        made.append((folder / f"{name}.out").read_bytes())
    return made[0], made[1]


@pytest.mark.parametrize("seed", part(range(40), 16))
def test_scribbling(built: tuple[bytes, bytes], seed: int) -> None:
    chance = random.Random(seed)
    where = chance.choice(
        [
            0xC0000000 + chance.randrange(8 << 20),
            0xC0100000 + chance.randrange(0x60000),
            0xC1000000 + chance.randrange(0x20000),
        ]
    )
    options = (
        f"at={where}", f"size={chance.choice([1, 4, 64, 4096, 65536, 1 << 20])}", f"value={chance.randrange(256)}",
        f"step={chance.choice([1, 4, 37])}",
    )  # fmt: skip
    config = KernelConfig(
        ram=32 << 20,
        paging=chance.choice(["pae", "legacy"]),
        cpus=chance.choice([1, 2]),
        time_limit=20,
        block_limit=3_000_000,
    )
    with Session("user", built[1], [], config, None, [ModuleFile("wild", built[0], options)]) as session:
        result = session.finish()
        assert result.error or session.modules.tainted == ["wild"], "the module was loaded, or something is said"

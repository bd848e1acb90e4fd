"""Who maps a file (i_mmap), against a look at every area of every address space."""

from __future__ import annotations

import random

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.filemap import SharedMemory
from sandbox.kernel.mm.mm import Mm, mappings
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from sandbox.kernel.mm.vma import Vma
from sandbox.kernel.process.fork import dup_mm
from sandbox.kernel.vfs.inode import Inode
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace

PAGES = 12


def by_looking(kernel: Kernel, inode: Inode) -> set[tuple[int, int, int]]:
    return {_told(mm, vma) for mm in kernel.mmlist for vma in mm.vmas if vma.inode is inode}


def _told(mm: Mm, vma: Vma) -> tuple[int, int, int]:
    return mm.pgd, vma.start, vma.end


def test_the_list_is_what_a_look_finds(space: MakeSpace, paging: str) -> None:
    """Areas are mapped, cut, joined, forked and unmapped at random."""
    made, chance = space(paging=paging), random.Random(7)
    kernel, task, mmap = made.kernel, made.task, made.kernel.mmap
    files = [SharedMemory(PAGES * PAGE), SharedMemory(PAGES * PAGE)]
    children: list[Mm] = []
    for _ in range(300):
        inode, first, size = chance.choice(files), chance.randrange(PAGES), chance.randrange(1, 5)
        at = AREA + first * PAGE
        action = chance.randrange(5)
        if action < 2:
            kind = chance.choice((MAP_SHARED, MAP_PRIVATE))
            mmap.do_mmap(task, at, size * PAGE, 3, kind | MAP_FIXED, inode, first)
        elif action == 2:
            mmap.do_munmap(task, at, size * PAGE)
        elif action == 3 and len(children) < 3:
            children.append(dup_mm(kernel, made.cpu, made.mm))
        elif children:
            kernel.mmu.mmput(made.cpu, children.pop(chance.randrange(len(children))))
        for each in files:
            listed = [_told(mm, vma) for mm, vma in mappings(each)]
            assert len(listed) == len(set(listed))
            assert set(listed) == by_looking(kernel, each)
        made.mm.vmas.check()
    while children:
        kernel.mmu.mmput(made.cpu, children.pop())
    mmap.do_munmap(task, AREA, (PAGES + 5) * PAGE)
    assert [each.i_mmap for each in files] == [{}, {}]
    assert kernel.mmlist == [made.mm]

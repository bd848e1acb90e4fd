"""The digest of RAM is that of its bytes, whatever the host has made pages for."""

from __future__ import annotations

import os
import random

import pytest

from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SIZE
from tests import ram

SIZE = 16 << 20


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(SIZE)


def naive(memory: PhysicalMemory) -> dict[int, bytes]:
    """Every page that holds something, counted byte by byte."""
    pages = [bytes(memory.bytes[at : at + PAGE_SIZE]) for at in range(0, len(memory.bytes), PAGE_SIZE)]
    return {number: page for number, page in enumerate(pages) if page.count(0) != PAGE_SIZE}


def test_only_what_was_stored_is_read(memory: PhysicalMemory) -> None:
    assert list(ram.touched(memory)) == []
    memory.host_write(5 * PAGE_SIZE - 1, b"\1\2", Reason.IMAGE)
    memory.host_write(SIZE - 1, b"\0", Reason.IMAGE)
    seen = list(ram.touched(memory))  # with huge pages on the host, their neighbours too
    assert {4 * PAGE_SIZE, 5 * PAGE_SIZE, SIZE - PAGE_SIZE} <= set(seen) and seen == sorted(seen)
    assert list(ram.pages(memory)) == [4, 5], "zeros are zeros, stored or not"


def test_it_finds_what_a_loop_over_all_finds(memory: PhysicalMemory) -> None:
    dice = random.Random(1)
    for _ in range(300):
        memory.host_write(dice.randrange(1 << 20, SIZE), bytes([dice.randrange(2)]), Reason.IMAGE)
    before = ram.digest(memory)
    assert ram.pages(memory).keys() == naive(memory).keys()
    assert ram.digest(memory) == before, "reading changes nothing"
    place = min(naive(memory)) * PAGE_SIZE
    memory.host_write(place, bytes(each ^ 1 for each in memory.bytes[place : place + PAGE_SIZE]), Reason.IMAGE)
    assert ram.digest(memory) != before


def test_a_forked_process_sees_the_same(memory: PhysicalMemory) -> None:
    """The debugger's checkpoints are forks; they have not touched the pages themselves."""
    memory.host_write(0x5000, b"here", Reason.IMAGE)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.write(theirs, ram.digest(memory).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert said == ram.digest(memory)

"""Pages of host code, by what the host's kernel says of them (proc(5), ``/proc/PID/maps``)."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path

import pytest

from sandbox.engine import clockcode, internals, nativecode, stubs, tlbcode, watchcode
from sandbox.engine.library import UnknownEngine, library

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the code is x86-64 Linux code")
RETURN_42 = bytes.fromhex("b82a000000 c3")


def permissions(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, end = (int(each, 16) for each in line.split()[0].split("-"))
        if first <= address < end:
            return line.split()[1]
    return ""


@pytest.mark.parametrize("filling", [0, mmap.PAGESIZE - len(RETURN_42), mmap.PAGESIZE])
def test_code_runs_and_only_its_data_can_be_written(filling: int) -> None:
    """Of less than a page, a whole one, and more."""
    code = RETURN_42 + bytes(filling)
    pages, base = nativecode.made_executable(code, 2 * mmap.PAGESIZE, "this test")
    data = base + nativecode.whole_pages(len(code))
    assert len(pages) == data - base + 2 * mmap.PAGESIZE
    assert ctypes.CFUNCTYPE(ctypes.c_int)(base)() == 42
    assert (permissions(base), permissions(data - 1), permissions(data)) == ("r-xp", "r-xp", "rw-p")


def test_no_page_of_ours_is_executable_and_writable() -> None:
    assert clockcode.install() is None
    watchcode.install()
    for base in (clockcode.pages()[1], watchcode.pages()[1], tlbcode.pages()[1], stubs.stub_address("enter")):
        assert permissions(base) == "r-xp"


def test_a_refusal_is_told_in_the_callers_words() -> None:
    with pytest.raises(OSError, match="for nobody") as told:
        nativecode.make_executable(0, mmap.PAGESIZE, "nobody")  # mprotect(2): ENOMEM, nothing is mapped there
    assert told.value.errno == errno.ENOMEM


def test_a_fork_has_pages_of_its_own() -> None:
    pages, _ = nativecode.placed(RETURN_42)
    child = os.fork()
    if not child:
        pages[0] = 0
        os._exit(0)
    os.waitpid(child, 0)
    assert pages[0] == RETURN_42[0]


def test_a_symbol_is_what_ctypes_finds() -> None:
    for name in ("uc_open", "helper_fsin_x86_64", "abort"):
        assert internals.symbol(name) == ctypes.cast(getattr(library(), name), ctypes.c_void_p).value
    with pytest.raises(UnknownEngine, match="does not export no_such_function"):
        internals.symbol("no_such_function")

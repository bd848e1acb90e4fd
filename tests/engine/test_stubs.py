"""The committed host code against its source by GNU as, the layout it assumes, and what it stands between."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import context as ctx
from sandbox.engine import fallback, internals, stubs
from sandbox.engine.library import UnknownEngine
from sandbox.x86.paging import PDPTE_RESERVED
from tests.engine.board import Board
from tests.hosttools import host_code

SOURCE = Path(stubs.__file__).parent / "native" / "stubs.S"
native = pytest.mark.skipif(not stubs.native_host(), reason="the stubs are x86-64 Linux code")
needs_as = pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")


@pytest.fixture(scope="module", name="assembled")
def stub_source(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, int]]:
    """The source's bytes and the offsets of its labels."""
    return host_code(SOURCE, tmp_path_factory.mktemp("stubs"))


@needs_as
def test_bytes_are_the_sources(assembled: tuple[bytes, dict[str, int]]) -> None:
    code, labels = assembled
    assert stubs.stub_bytes() == code[: labels["end_of_code"]]
    assert set(code[4096:]) == {0}


@needs_as
def test_offsets_are_the_sources(assembled: tuple[bytes, dict[str, int]]) -> None:
    _, labels = assembled
    assert {name: labels[name] for name in stubs.OFFSETS} == stubs.OFFSETS
    fields = {name: 4096 + getattr(stubs._Links, name).offset for name, _ in stubs._Links._fields_}
    assert fields == {name: labels[name] for name in fields}
    assert len(assembled[0]) == 4096 + ctypes.sizeof(stubs._Links)


def symbols() -> dict[str, int]:
    """The ``.set`` lines of the source."""
    found: dict[str, int] = {}
    for name, value in re.findall(r"^\s+\.set\s+(\w+),\s+([^#\n]+)", SOURCE.read_text(), re.M):
        found[name] = eval(value, {}, found)
    return found


def test_pad_layout() -> None:
    source = symbols()
    for name, _ in stubs.HookPad._fields_:
        assert source[name.upper()] == getattr(stubs.HookPad, name).offset, name
    for name in ("BLOCKS", "CONTEXT", "STEPS", "SKIP", "FIRST", "END", "REFUSED", "ERROR", "BEHIND", "STOPPING"):
        assert source[name] == 8 * getattr(stubs, f"PAD_{name}")
    assert source["VECTOR"] == 4 * stubs.PAD_VECTOR32
    assert source["REASON"] == 4 * stubs.PAD_REASON32


def test_reasons_and_state_layout() -> None:
    source = symbols()
    reasons = {"TRAP": "TRAP", "SPENT": "BLOCKS", "STEPPED": "STEPS", "BREAKPOINT": "BREAKPOINT", "ABORTED": "ABORTED"}
    for name, ours in {**reasons, "FETCH": "FETCH", "PAUSED": "PAUSED"}.items():
        assert source[name] == getattr(stubs, f"REASON_{ours}")
    assert source["SHARE"] == 8 * stubs.PAD_SHARE
    assert source["STATE"] == ctx.BLOB_HEADER
    assert source["PC"] == ctx.BLOB_HEADER + 8 * ctx.EIP
    assert source["CODE_BASE"] == ctx.BLOB_HEADER + 8 * ctx.CS_BASE
    assert [source[name] for name in ("AT_CR0", "AT_CR3", "AT_CR4")] == [8 * ctx.CR0, 8 * ctx.CR3, 8 * ctx.CR4]
    assert source["PDPTE_RESERVED"] == PDPTE_RESERVED
    assert source["SOFTWARE"] == ctx.BLOB_HEADER + 4 * ctx.IS_SOFTWARE32
    assert source["DEBUG7"] == ctx.BLOB_HEADER + 8 * (ctx.DEBUG_REGISTERS + 7)
    assert source["BREAKPOINTS"] == ctx.BLOB_HEADER + 8 * ctx.BREAKPOINTS
    assert source["IN_FLIGHT"] == ctx.BLOB_HEADER + 4 * ctx.OLD_EXCEPTION32


@native
def test_pages_are_private_and_their_code_read_only() -> None:
    stubs.stub_address("block")
    base = stubs.stub_address("block")
    modes = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode = line.split()[:2]
        first, end = (int(part, 16) for part in span.split("-"))
        modes.update({page: mode for page in (base, base + 4096) if first <= page < end})
    assert modes == {base: "r-xp", base + 4096: "rw-p"}


@native
def test_a_fork_has_its_own_data_page() -> None:
    word = ctypes.c_uint64.from_address(stubs.link_address("running"))
    assert word.value == 0
    pid = os.fork()
    if pid == 0:
        word.value = 1
        os._exit(0)
    os.waitpid(pid, 0)
    assert word.value == 0


@native
def test_library_and_symbols() -> None:
    first, end = internals.image().text
    assert first < internals.symbol("uc_emu_start") < end
    with pytest.raises(UnknownEngine, match="does not export no_such_symbol"):
        internals.symbol("no_such_symbol")
    with pytest.raises(UnknownEngine, match="does not call uc_version through its table"):
        internals.redirect("uc_version", 0)


@native
def test_address_that_is_not_mapped_is_refused() -> None:
    with pytest.raises(UnknownEngine, match="keeps a pointer"):
        internals.read_quad(16)


@native
def test_features_of_another_build_are_refused() -> None:
    words = (ctypes.c_uint32 * 64)()
    with pytest.raises(UnknownEngine, match="CPUID word"):
        internals.restrict_features(ctypes.addressof(words), 0, umip=False)


# -- what stands between the engine and the process ------------------------------------------------------------------


@native
def test_sigfpe_from_elsewhere_reaches_the_previous_handler() -> None:
    program = """
import ctypes, mmap, signal, sys
hits = []
signal.signal(signal.SIGFPE, lambda *_: hits.append(1))
from sandbox.engine.cpu import Cpu
Cpu()
import os
os.kill(os.getpid(), signal.SIGFPE)
print(len(hits))
"""
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert seen.stdout == "1\n", seen.stderr


@native
def test_sigfpe_of_another_library_still_kills() -> None:
    """A real host division fault outside the engine: ``xor ecx, ecx; div ecx``."""
    program = """
import ctypes, mmap
from sandbox.engine.cpu import Cpu
Cpu()
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("31c9f7f1c3"))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGFPE


@native
def test_handler_is_installed_again_when_somebody_took_its_place() -> None:
    def installed() -> int | None:
        action = stubs._SigAction()
        ctypes.CDLL(None).sigaction(int(signal.SIGFPE), None, ctypes.byref(action))
        handler: int | None = action.handler
        return handler

    stubs.guard_division()
    assert installed() == stubs.stub_address("divide_error")
    signal.signal(signal.SIGFPE, signal.SIG_DFL)
    assert installed() is None
    stubs.guard_division()
    assert installed() == stubs.stub_address("divide_error")


@native
def test_abort_outside_a_run_is_the_real_one() -> None:
    program = """
import ctypes
from sandbox.engine import internals, stubs
from sandbox.engine.cpu import Cpu
Cpu()
ctypes.CFUNCTYPE(None)(stubs.stub_address("aborted"))()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGABRT


def test_python_hooks_name_the_same_stubs() -> None:
    hooks = fallback.PythonHooks(stubs.HookPad())
    assert set(hooks._callbacks) == {"block", "steps", "breakpoint", "interrupt"}
    assert set(hooks._callbacks) <= set(stubs.OFFSETS)


@native
def test_cpuid_has_no_long_mode_and_no_rdrand() -> None:
    """SDM 2A, CPUID: 80000001H EDX bit 29 is Intel 64, 01H ECX bit 30 is RDRAND."""
    board = Board()
    board.run("mov eax, 0x80000001\ncpuid\nmov esi, edx\nmov eax, 1\ncpuid\nint 0x80")
    assert not board.cpu.context.esi & 1 << 29
    assert board.cpu.context.esi & 1 << 20, "NX"
    assert not board.cpu.context.ecx & 1 << 30
    assert board.run("rdrand eax").vector == 6  # type: ignore[attr-defined]

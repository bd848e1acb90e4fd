"""x87 and SSE by the host's own: the committed code against its source, and vectors against this host's CPU."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.engine import internals, mends, stubs
from sandbox.engine.cpu import Cpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.engine import fpvectors
from tests.hosttools import compiled, host_code, needs_gcc

SOURCE = Path(stubs.__file__).parent / "native" / "x87.S"
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the stubs are x86-64 Linux code")


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_are_the_sources(tmp_path: Path) -> None:
    assert host_code(SOURCE, tmp_path)[0] == mends.code()


def test_every_helper_is_reached_where_the_hints_say() -> None:
    """In a process without a CPU, where the engine's tables still have its own functions."""
    code = (
        "from sandbox.engine import internals, mends\n"
        "names = [each.name for each in mends.listed(mends.code()) if each.kind == 0]\n"
        "found = mends.search({name: internals.symbol(name + '_x86_64') for name in names})\n"
        "base = internals.image().base\n"
        "print([[at - base for at in found[name]] for name in names])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [list(pair) for pair in struct.iter_unpack("<II", mends.hints())] == eval(done.stdout)


def test_the_layout_of_the_state_is_the_sources() -> None:
    """Where the stubs look for TOP, registers and control words is where a context has them."""
    cpu = Cpu()
    state = cpu.context
    state.set_x87(0x27F, 0x2841, 0x80, [bytes(range(at + 1, at + 11)) for at in range(8)])
    state.mxcsr = 0x3F80
    data = bytes(state.data)
    cpu.close()
    assert struct.unpack_from("<IHH", data, 604) == (5, 0x0041, 0x27F)
    assert data[612:620] == bytes([1] * 7 + [0])
    assert data[624 + 16 * 5 : 624 + 16 * 5 + 10] == bytes(range(1, 11))
    assert struct.unpack_from("<I", data, 816) == (0x3F80,)


def test_the_engine_is_chosen_once() -> None:
    Cpu().close()
    mends.choose(mends.chosen())
    with pytest.raises(mends.EngineChosen, match="the engine is mended in this process"):
        mends.choose(mends.STOCK)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with needs_gcc():
        return fpvectors.build(tmp_path_factory.mktemp("fpvectors"))


def differences(program: Path, kind: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Lines of this host's CPU, and of the sandbox, that are not alike."""
    words = [str(kind), str(count), str(seed), "" if fpvectors.amd() else "m"]
    native = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout.splitlines()
    found = run_program("/tmp/fpvectors", program.read_bytes(), words, KernelConfig(time_limit=0))
    assert (found.error, found.status) == ("", 0), found.detail
    lines = found.stdout.decode().splitlines()
    assert len(lines) == len(native) == count * len((fpvectors.X87, fpvectors.SSE)[kind])
    return [pair for pair in zip(native, lines, strict=True) if pair[0] != pair[1]]


@pytest.mark.parametrize(("kind", "seed"), [(fpvectors.X87_KIND, 1), (fpvectors.SSE_KIND, 2)], ids=["x87", "sse"])
def test_vectors_as_on_this_host(program: Path, kind: int, seed: int) -> None:
    assert differences(program, kind, 12, seed) == []


@pytest.mark.campaign
@pytest.mark.parametrize("kind", [fpvectors.X87_KIND, fpvectors.SSE_KIND], ids=["x87", "sse"])
def test_a_hundred_thousand_vectors(program: Path, kind: int) -> None:
    count = 50_000 // len((fpvectors.X87, fpvectors.SSE)[kind]) + 1
    assert differences(program, kind, count, 20261129) == []


def test_a_wheel_that_differs_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> int:
        raise internals.UnknownEngine(f"the engine's library does not export {name}")

    monkeypatch.setattr(mends.internals, "symbol", lacking)
    found = mends._install()
    assert found.helpers == () and found.reason is not None and "does not export" in found.reason


def test_libm_as_natively(tmp_path: Path) -> None:
    """Results and exception flags of glibc's functions; natively without FMA too, by which it chooses another fmaf."""
    program = tmp_path / "libm"
    source = fpvectors.FOLDER / "libm.c"
    compiled("gcc", "-m32", "-static", "-O1", "-w", "-fno-builtin", "-o", program, source, "-lm")
    tunables = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2"}
    native = subprocess.run([program], env=tunables, capture_output=True, text=True, check=True).stdout
    found = run_program("/tmp/libm", program.read_bytes(), (), KernelConfig(time_limit=0))
    assert found.stdout.decode().splitlines() == native.splitlines()
    assert "1 123.12056519446547" in native  # fmod(2^54, 3)

"""x87 and SSE by the host's own instructions beside the engine's software, and qemu-i386 where it is installed.

Each engine is a process of its own (``python -m benchmarks.fpu ENGINE``), in turns with the others.  "x87 functions"
has no bar against stock, which takes them from libm in double precision: the host's own FSIN, FYL2X and FPATAN, whose
bits programs get, take longer by themselves, as the note says.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import programs
from benchmarks.measure import Row

ROUNDS = 3
_QEMU = "qemu-i386"
_ONE_AND_A_BIT = "mov dword ptr buffer, 0x3f800001\nmov dword ptr buffer+8, 0\nmov dword ptr buffer+12, 0x3ff80000\n"

BODIES = {
    "x87 loop": (  # a polynomial, a square root, a comparison, a store
        f"{_ONE_AND_A_BIT}mov ecx, 2000000\n"
        "1: fld dword ptr buffer\nfmul st, st(0)\nfadd qword ptr buffer+8\nfdiv qword ptr buffer+8\n"
        "fld qword ptr buffer+8\nfmulp st(1), st\nfsqrt\nfld1\nfcomip st, st(1)\nfstp qword ptr buffer+16\n"
        "dec ecx\njnz 1b\n"
    ),
    "x87 functions": f"{_ONE_AND_A_BIT}mov ecx, 300000\n1: fld qword ptr buffer+8\nfsin\nfldln2\nfxch st(1)\nfabs\n"
    "fyl2x\nfld1\nfpatan\nfstp qword ptr buffer+16\ndec ecx\njnz 1b\n",
    "SSE loop": (
        f"{_ONE_AND_A_BIT}mov ecx, 4000000\nmovsd xmm2, qword ptr buffer+8\n"
        "1: movsd xmm0, qword ptr buffer+8\nmulsd xmm0, xmm2\naddsd xmm0, xmm2\ndivsd xmm0, xmm2\n"
        "cvtsd2ss xmm1, xmm0\naddps xmm3, xmm1\ncomisd xmm0, xmm2\ndec ecx\njnz 1b\n"
    ),
    "aligned SSE": (
        "mov ecx, 1000000\nsub esp, 64\nand esp, -16\nxorps xmm0, xmm0\nmovaps [esp], xmm0\n"
        "1: movaps xmm1, [esp]\naddps xmm1, [esp]\nmovaps [esp+16], xmm1\ndec ecx\njnz 1b\n"
    ),
    "integer loop": programs.LOOPS["load and store"],
}
_QEMU_BARS = {"x87 loop": 1.0, "x87 functions": 1.0}
"""Times as fast as qemu-i386, which computes x87 in software; of the others the ratio is shown."""
_BARS = {"x87 loop": 1.25, "SSE loop": 1.0, "aligned SSE": 1.0, "integer loop": 0.95}
"""Times as fast as stock; the integer loop runs the same translated code, which is timed to a few percent."""


def rows() -> Iterator[Row]:
    samples: dict[str, list[dict[str, float]]] = {"mended": [], "stock": []}
    emulator = shutil.which(_QEMU)
    for _ in range(ROUNDS):
        for engine, taken in samples.items():
            command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "benchmarks.fpu", engine]
            taken.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    for name in BODIES:
        mended, stock = (min(sample[name] for sample in taken) for taken in samples.values())
        note = f"{1e3 * mended:.0f} ms against {1e3 * stock:.0f} ms"
        if host := _natively(name):
            note += f", this host {1e3 * host:.0f} ms"
        yield Row(f"{name}: mended against stock", stock / mended, "x", _BARS.get(name), True, note)
        if emulator:
            other = _seconds(name, emulator)
            note = f"{1e3 * mended:.0f} ms against {1e3 * other:.0f} ms"
            yield Row(f"{name}: mended against {_QEMU}", other / mended, "x", _QEMU_BARS.get(name), True, note)


def _natively(name: str) -> float:
    """Processor seconds on this host's CPU, which no emulation of it by its own instructions can fall below; or 0."""
    try:
        return _seconds(name)
    except (OSError, subprocess.CalledProcessError):
        return 0.0


def _seconds(name: str, *before: str) -> float:
    """Processor seconds of a program as a process, behind the words that start it.

    Raises OSError or CalledProcessError where it does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        program.write_bytes(programs.build(BODIES[name]))
        program.chmod(0o755)
        taken = []
        for _ in range(ROUNDS):
            began = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*before, program], check=True)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    return min(taken)


def _sample(engine: str) -> dict[str, float]:
    """Processor seconds of each program."""
    from benchmarks.kernelrun import run_seconds
    from sandbox.engine import mends

    mends.choose(engine)
    return {name: run_seconds(programs.build(body)) for name, body in BODIES.items()}


if __name__ == "__main__":
    print(json.dumps(_sample(sys.argv[1])))

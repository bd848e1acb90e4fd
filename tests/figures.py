"""Programs that compute, before and after the mends: ``python -m tests.figures`` measures for ``docs/fidelity.md``.

Each runs on this host's CPU, in the sandbox with the engine's own arithmetic and with the mends, and by qemu-i386 where
it is installed; what counts are lines of output that are not the host's.  Debian's programs come by ``make programs``;
without them their rows are left out.  Natively libm is told to leave FMA alone, which it chooses by CPUID.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.engine import mends
from tests import fidelity
from tests.engine import fpvectors
from tests.programs.table import ENVIRONMENT, ROOT

PLAIN = {**ENVIRONMENT, "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2"}
_FOLDERS = ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu")
_BC = "".join(f"s({n}/3); c({n}/7); a({n}); l({n}); e({n}/9); sqrt({n}); {n}^9/7; {n}%4\n" for n in range(1, 9))
_AWK = 'BEGIN { for (i = 1; i < 60; i++) { x = i * i / 7; print x, x % 1.3, x - i / 3, int(x); printf "%.17g\\n", x } }'
_LUA = (
    "for i = 1, 60 do local x = i * i / 7\n"
    "for _, n in ipairs{'log', 'log10', 'exp', 'sin', 'cos', 'tan', 'atan', 'sinh', 'cosh', 'tanh', 'sqrt'} do\n"
    "print(n, string.format('%.17g', math[n](x))) end\n"
    "print('fmod', string.format('%.17g', math.fmod(2 ^ (i % 60), 3)), string.format('%.17g', x ^ 0.3)) end\n"
)
_PYTHON = (
    "import math\n"
    "for i in range(1, 40):\n"
    "    x = i * i / 14\n"
    "    for n in 'log log2 log10 log1p exp expm1 sin cos tan atan sinh cosh tanh sqrt gamma lgamma erf'.split():\n"
    "        print(n, repr(getattr(math, n)(x)))\n"
    "    print('two', repr(math.fmod(2.0 ** i, 3)), repr(x ** 0.3), repr(x % 1.3), repr(math.remainder(x, 1.7)))\n"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row: what is shown, the program with its arguments, its standard input; by ``native`` what the host starts."""

    title: str
    program: Path
    words: tuple[str, ...]
    stdin: str = ""
    dynamic: bool = False

    @property
    def native(self) -> list[str]:
        command = [str(self.program), *self.words]
        if not self.dynamic:
            return command
        path = ":".join(str(ROOT / each) for each in _FOLDERS)
        return [str(ROOT / "lib/ld-linux.so.2"), "--library-path", path, *command]


def figures(folder: Path) -> Iterator[Figure]:
    """What can run here; ``folder`` takes what is compiled."""
    libm = folder / "libm"
    source = fpvectors.FOLDER / "libm.c"
    command = ["gcc", "-m32", "-static", "-O1", "-w", "-fno-builtin", "-o", str(libm), str(source), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    yield Figure("functions of libm, results and flags, four rounding modes", libm, ())
    if not ROOT.is_dir():
        return
    yield Figure("bc -l", ROOT / "bin/busybox", ("bc", "-l"), _BC)
    yield Figure("awk", ROOT / "bin/busybox", ("awk", _AWK))
    yield Figure("lua", ROOT / "usr/bin/lua5.1", ("-e", _LUA), dynamic=True)
    yield Figure("python", ROOT / "usr/bin/python3.11", ("-S", "-c", _PYTHON), dynamic=True)


def lines(command: list[str], stdin: str, environment: dict[str, str]) -> list[str]:
    """Standard output.  Raises CalledProcessError."""
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def natively(figure: Figure) -> list[str]:
    return lines(figure.native, figure.stdin, {**PLAIN, "PYTHONHOME": str(ROOT / "usr")})


def sandboxed(figure: Figure, engine: str) -> list[str]:
    root = ["--root", str(ROOT)] if ROOT.is_dir() else []
    options = ["--time-limit", "0", "--engine", engine, *root]
    command = [sys.executable, "-m", "sandbox", "run", *options, str(figure.program), "--", *figure.words]
    return lines(command, figure.stdin, dict(os.environ))


def emulated(figure: Figure) -> list[str]:
    root = ["-L", str(ROOT)] if figure.dynamic else []
    command = ["qemu-i386", *root, str(figure.program), *figure.words]
    return lines(command, figure.stdin, {**PLAIN, "PYTHONHOME": "/usr"})


def differing(native: list[str], other: list[str]) -> int:
    """How many lines are not the host's, in their places."""
    same = sum(one == two for one, two in zip(native, other, strict=False))
    return max(len(native), len(other)) - same


def table() -> Iterator[str]:
    emulator = shutil.which("qemu-i386")
    yield "| lines of output that are not the host's | lines | stock | mended |" + (" qemu-i386 |" if emulator else "")
    yield "| --- | --- | --- | --- |" + (" --- |" if emulator else "")
    with tempfile.TemporaryDirectory() as folder:
        for each in figures(Path(folder)):
            native = natively(each)
            counts = [differing(native, sandboxed(each, engine)) for engine in (mends.STOCK, mends.MENDED)]
            if emulator:
                counts.append(differing(native, emulated(each)))
            yield f"| {each.title} | {len(native):,} | " + " | ".join(f"{count:,}" for count in counts) + " |"


if __name__ == "__main__":
    rows = []
    for row in table():
        print(row, flush=True)
        rows.append(row)
    fidelity.write({"programs": "\n".join(rows)})

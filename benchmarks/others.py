"""The same programs on the sandbox and on what else runs them: qemu-i386, a script on stock Unicorn, Qiling, this host.

All of it is processor time of processes, by turns, in one run; from a program's time that of an empty one on the same
emulator is taken off, which is a row of its own.  Who is not installed is left out, with a word.  Qiling wants a
Unicorn of its own: ``QILING_PYTHON`` names an interpreter that has both.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import linux, programs
from benchmarks.measure import Row, children_seconds

ROUNDS = 3
CALLS = 100_000
BIG = 24 << 20
"""Bytes of the file that is summed."""
WITHIN = 2.5
"""Times qemu-i386 that a program which computes may take."""
REACHED = 3.5
"""The same for what falls short of that: what was reached, with room for noise."""
PATIENCE = 120
START = "start: a small program"
SANDBOX, QEMU, STOCK, QILING, HOST = "sandbox", "qemu-i386", "stock Unicorn", "Qiling", "this host"
_AWK = "BEGIN { for (i = 0; i < 400000; i++) s += i * i % 7; print s }"
_QILING = (
    "import sys\nfrom qiling import Qiling\nfrom qiling.const import QL_VERBOSE\n"
    "Qiling(sys.argv[1:], '.', verbose=QL_VERBOSE.DISABLED).run()\n"
)


@dataclass(frozen=True, slots=True)
class Work:
    """A program of its own by the path of its file, or pipes of busybox's applets.

    ``bar`` is against qemu-i386, and ``goal`` what it is meant to become, where it has not.
    """

    name: str
    file: str = ""
    applets: tuple[tuple[str, ...], ...] = ()
    bar: float | None = None
    goal: float | None = None


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        works = _laid_out(Path(folder))
        who = _installed()
        took = {work.name: _times(work, who, folder) for work in works}
    empty = took[START]
    for work in works:
        times = took[work.name]
        if work.name != START:
            times = {each: seconds - empty[each] for each, seconds in times.items()}
        yield _row(work, times)


def _row(work: Work, times: Mapping[str, float]) -> Row:
    note = ", ".join(f"{who} {1e3 * seconds:.0f} ms" for who, seconds in times.items())
    if QEMU not in times:
        return Row(work.name, 1e3 * times[SANDBOX], "ms", note=note)
    if work.goal is not None:
        note = f"goal {work.goal:g} x; {note}"
    return Row(f"{work.name}: against {QEMU}", times[SANDBOX] / times[QEMU], "x", work.bar, note=note)


def _laid_out(folder: Path) -> list[Work]:
    """The programs' files, and what is to be done with them."""
    calls = f"mov esi, {CALLS}\n1: mov eax, 20\nint 0x80\ndec esi\njnz 1b\n"
    bodies = {
        START: programs.SMALL,
        **{f"computing: {name}": programs.LOOPS[name] for name in ("loop of 5", "load and store", "call and ret")},
        f"calls: {CALLS:,} getpid": calls,
        f"faults: {programs.FAULT_ROUNDS * programs.PAGES:,} new pages": programs.demand_zero_body(),
    }
    works = []
    for number, (name, body) in enumerate(bodies.items()):
        programs.link(body, folder / f"program{number}")
        works.append(Work(name, f"program{number}"))
    return works + _of_busybox(folder)


def _of_busybox(folder: Path) -> list[Work]:
    busybox = linux.ROOT / "bin" / "busybox"
    if not busybox.exists():
        print("busybox: not measured, `make programs` brings it", file=sys.stderr)
        return []
    shutil.copy(busybox, folder / "busybox")
    (folder / "big").write_bytes(bytes(range(256)) * (BIG >> 8))
    return [
        Work("busybox awk", applets=(("awk", _AWK),), bar=WITHIN),
        Work(f"busybox md5sum of {BIG >> 20} MB", applets=(("md5sum", "big"),), bar=REACHED, goal=WITHIN),
        Work("busybox seq | md5sum", applets=(("seq", "1", "300000"), ("md5sum",)), bar=WITHIN),
    ]


def _installed() -> dict[str, list[str]]:
    """What stands before a program's file, by who runs it."""
    python = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m"]
    found = {SANDBOX: [*python, "sandbox", "run", "--root", "."], STOCK: [*python, "benchmarks.stockscript"], HOST: []}
    if emulator := shutil.which(QEMU):
        found[QEMU] = [emulator]
    else:
        print(f"{QEMU}: not installed, not measured", file=sys.stderr)
    other = os.environ.get("QILING_PYTHON", sys.executable)
    if subprocess.run([other, "-c", "import qiling"], capture_output=True, check=False).returncode == 0:
        found[QILING] = [other, "-c", _QILING]
    else:
        print(f"{QILING}: not installed, not measured (QILING_PYTHON names a Python with it)", file=sys.stderr)
    return found


def _times(work: Work, who: Mapping[str, list[str]], folder: str) -> dict[str, float]:
    """The median of processor seconds, by who runs it; without those that do not."""
    samples: dict[str, list[float]] = {}
    commands = {each: _command(each, before, work) for each, before in who.items()}
    for _ in range(ROUNDS):
        for each, command in commands.items():
            taken = _seconds(command, folder) if command else None
            if taken is not None:
                samples.setdefault(each, []).append(taken)
            elif command:
                print(f"{each}: does not run {work.name}", file=sys.stderr)
                commands[each] = None
    return {each: statistics.median(taken) for each, taken in samples.items()}


def _command(who: str, before: Sequence[str], work: Work) -> str | None:
    """For a shell; None where it is not for them: a script does not know what busybox asks of Linux.

    On the sandbox one machine runs all of a pipe; elsewhere each applet is a process of the emulator's, because a shell
    in it would start the next applet on the host itself.
    """
    if work.file:
        return shlex.join([*before, f"./{work.file}"])
    if who == STOCK:
        return None
    if who == SANDBOX:
        inside = " | ".join(shlex.join(["/busybox", *each]) for each in work.applets)
        words = ["sh", "-c", inside] if len(work.applets) > 1 else work.applets[0]
        return shlex.join([*before, "./busybox", *words])
    return " | ".join(shlex.join([*before, "./busybox", *each]) for each in work.applets)


def _seconds(command: str, folder: str) -> float | None:
    """Processor seconds of a shell's command and all that it starts; None if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])

    def run() -> None:
        subprocess.run(
            command, shell=True, cwd=folder, env=environment, timeout=PATIENCE, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    try:
        return children_seconds(run)
    except subprocess.SubprocessError:
        return None

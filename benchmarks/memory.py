"""Host memory beyond the guest's own pages: a process with one machine, of one CPU and of several."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import programs
from benchmarks.measure import Row

MANY = 4
REPETITIONS = 3
_CHILD = """
import os, sys
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import Session
session = Session("benchmark", open(sys.argv[1], "rb").read(), (), KernelConfig(cpus=int(sys.argv[2])))
assert session.finish().passed
base, guest, inside = session.machine.memory.host_base, 0, False
end = base + session.machine.memory.ram
for line in open("/proc/self/smaps"):
    word = line.split(" ", 1)[0]
    if not word.endswith(":"):
        first, last = (int(part, 16) for part in word.split("-"))
        inside = base <= first and last <= end
    elif inside and word == "Rss:":
        guest += int(line.split()[1]) * 1024
resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
print(resident - guest)
"""


def rows() -> Iterator[Row]:
    one, many = _median(1), _median(MANY)
    yield Row("memory beyond the guest's, one CPU", one, "MB", 80)
    yield Row("memory of each further CPU", (many - one) / (MANY - 1), "MB", 12)


def _median(cpus: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "workers"
        image.write_bytes(programs.workers(MANY))
        command = [sys.executable, "-c", _CHILD, str(image), str(cpus)]
        taken = [
            int(subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout) for _ in range(REPETITIONS)
        ]
    return statistics.median(taken) / (1 << 20)

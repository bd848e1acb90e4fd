"""From nothing to a result: in process, as a command, and with much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import programs
from benchmarks.kernelrun import boot_seconds, whole_seconds
from benchmarks.measure import Row, children_seconds, interleaved


def rows() -> Iterator[Row]:
    program = programs.small()
    took = interleaved({"whole": lambda: whole_seconds(program)}, 25)
    yield Row("small image, machine to result", 1e3 * took["whole"], "ms", 6)
    took = interleaved(
        {
            "64 MB": lambda: boot_seconds(program, 64 << 20),
            "4 GB": lambda: boot_seconds(program, 4 << 30),
        },
        15,
    )
    yield Row(
        "boot with 4 GB, beyond 64 MB", 1e3 * (took["4 GB"] - took["64 MB"]), "ms", 15, False,
        f"{1e3 * took['4 GB']:.1f} ms against {1e3 * took['64 MB']:.1f} ms",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "small"
        image.write_bytes(program)
        took = interleaved(
            {
                "run": lambda: _process(folder, "-m", "sandbox", "run", str(image)),
                "import": lambda: _process(folder, "-c", "import unicorn"),
                "help": lambda: _process(folder, "-m", "sandbox", "--help"),
            },
            15,
        )
    yield Row(
        "`sandbox run` against `import unicorn`", took["run"] / took["import"], "x", 2.2, False,
        f"{1e3 * took['run']:.0f} ms against {1e3 * took['import']:.0f} ms of processor time",
    )  # fmt: skip
    yield Row("`sandbox --help`", 1e3 * took["help"], "ms", 60, note="processor time of a process")


def _process(folder: str, *arguments: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return children_seconds(
        lambda: subprocess.run(
            command, check=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
    )

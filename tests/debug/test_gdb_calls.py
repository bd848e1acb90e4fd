"""What gdb does with a program that was compiled: calls of its functions, its threads' own variables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.debug.test_gdb import gdb, needs_gdb, serving

SOURCE = """
__thread int mine = 42;
__thread char room[40] = "thread's own";
int numbers[4] = {1, 2, 3, 4};
int square(int n) { return n * n; }
int twice(int n) { int r = square(n); mine += r; return r + r; }
int main(void) {
    int sum = 0;
    for (int i = 0; i < 4; i++)
        sum += twice(numbers[i]);
    return sum;
}
"""
COMMANDS = (
    "break twice if n == 3", "continue", "print square(7)", "print twice(n + 1)", "print mine", "print room",
    "set var mine = 7", "print &mine == &mine", "print mine", "finish", "print mine", "next", "continue", "continue",
)  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "calls.c").write_text(SOURCE)
    words = ["gcc", "-m32", "-g", "-O0", "-w", "-static", "-o", "calls", "calls.c"]
    if subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("this host compiles no static i386 programs")
    return folder / "calls"


@needs_gdb
def test_functions_of_the_guest_are_called(program: Path) -> None:
    """And all registers are as before: the program ends as it does without."""
    with serving(str(program)) as where:
        told = gdb(where, "break twice", "continue", "print square(7)", "print twice(5)", "delete", "continue")
    assert re.findall(r"^\$\d = (\d+)", told, re.M) == ["49"], "the second call is stopped by the breakpoint"
    with serving(str(program)) as where:
        told = gdb(where, "break main", "continue", "print square(7)", "print twice(5)", "continue")
    assert re.findall(r"^\$\d = (\d+)", told, re.M) == ["49", "50"]
    assert "exited with code 074" in told, "2 * (1 + 4 + 9 + 16)"

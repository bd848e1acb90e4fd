"""What gdb does with a program that was compiled: calls of its functions, its threads' own variables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.debug.test_gdb import gdb, needs_gdb, serving
from tests.debug.test_libraries import LIBC, LOADER, compiled, needs_glibc

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


OWN = """#include <errno.h>
#include <pthread.h>
#include <unistd.h>
__thread int unset, mine = 42;
__thread char room[40] = "thread's own";
static void stop(void) { }
static void *other(void *unused) { mine = 5; errno = 11; stop(); return 0; }
int main(void)
{
    pthread_t made;
    close(77);
    stop();
    pthread_create(&made, 0, other, 0);
    pthread_join(made, 0);
    return mine - 42;
}
"""


@needs_gdb
@needs_glibc
@pytest.mark.parametrize("how", ["-static", "-pie", "-no-pie"])
def test_variables_of_a_thread(tmp_path: Path, how: str) -> None:
    """The first thread's, of the program and of the libc, then the other's: 9 is EBADF (close(2)), 11 its own store."""
    files = [word for each in (LIBC, LOADER) for word in ("--file", f"{each}:/lib/{each.name}")]
    program = compiled(tmp_path / "own.c", OWN, how)
    show = 'printf "%d %d %d\\n", mine, unset, (int) errno'
    commands = [
        "set breakpoint pending on", "break stop", "continue", show, "print room", "set var mine = 43", "continue",
        show, "continue",
    ]  # fmt: skip
    with serving(str(program), *(files if how != "-static" else [])) as where:
        told = gdb(where, *commands)
    assert re.findall(r"^\d+ \d+ \d+$", told, re.M) == ["42 0 9", "5 0 11"]
    assert '"thread\'s own"' in told
    assert "exited with code 01" in told

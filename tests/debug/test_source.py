"""Source lines and callers, beside what readelf and the sources say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.debug.lines import LineTable
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import Target

SOURCE = """static volatile int total;
int add(int n)
{
    total += n;
    return total;
}

int twice(int n)
{
    int a = add(n);
    return add(a) + 1;
}

int main(void)
{
    int i;
    for (i = 0; i < 3; i++)
        total = twice(i) + 2;
    return 0;
}

void _start(void)
{
    int status = main();
    __asm__ volatile ("int $0x80" : : "a" (1), "b" (status));
}
"""
NATURAL = ["-O0", "-fno-pic"]
BARE = ["-O1", "-fno-inline", "-fomit-frame-pointer", "-fno-pic", "-fno-optimize-sibling-calls"]


def compiled(folder: Path, *flags: str) -> Path:
    source, made = folder / "count.c", folder / "count"
    source.write_text(SOURCE)
    command = ["gcc", "-m32", "-g", "-static", "-nostdlib", "-ffreestanding", *flags, "-o", str(made), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(params=[NATURAL, BARE, [*BARE, "-gdwarf-4"]], ids=["O0", "O1", "dwarf4"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return compiled(tmp_path, *request.param)


@pytest.fixture
def made(program: Path) -> Iterator[Remote]:
    image = Target("count", "program", program.read_bytes())
    with Remote(lambda: open_target(image, KernelConfig(ram=16 << 20))) as remote:
        yield remote


def by_readelf(path: Path) -> list[dict[int, int]]:
    """Of each sequence, lines by address where a statement begins; of several rows of one address the last."""
    words = ["readelf", "--debug-dump=decodedline", str(path)]
    found: list[dict[int, int]] = [{}]
    for line in subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines():
        row = line.split()
        if len(row) > 2 and row[0] == "count.c" and row[1] == "-":
            found.append({})
        elif len(row) > 3 and row[0] == "count.c" and row[-1] == "x":
            found[-1][int(row[2], 16)] = int(row[1])
    return [each for each in found if each]


def test_lines_are_those_of_readelf(program: Path) -> None:
    table, (wanted,) = LineTable(program.read_bytes()), by_readelf(program)
    first, last = min(wanted), max(wanted)
    assert {at: table.at(at).number for at in range(first, last + 1) if table.begins(at)} == wanted  # type: ignore[union-attr]
    assert all(table.at(at).path == str(program.with_suffix(".c")) for at in wanted)  # type: ignore[union-attr]
    line = table.at(min(wanted))
    assert line is not None
    assert line.text() == SOURCE.splitlines()[line.number - 1]


def test_break_list_and_step_by_lines(made: Remote) -> None:
    assert not made.execute("break count.c:4").error
    stop = made.execute("continue")
    assert stop.lines[-2] == "count.c:4  total += n;"
    told = made.execute("list").data
    assert told["line"] == 4
    assert "    total += n;" in told["source"]
    assert made.execute("line").data == {}
    assert made.execute("list").data["line"] in (5, 6)
    assert "no code from this line on" in made.execute("break count.c:4000").error
    assert "no line numbers of this file" in made.execute("break other.c:4").error


def test_over_calls_or_into_them(made: Remote) -> None:
    made.execute("break count.c:10")
    made.execute("continue")
    here = made.execute("list").data["line"]
    assert here == 10
    made.execute("next line")
    assert made.execute("list").data["line"] == 11, "over the call of add"
    made.execute("line")
    assert made.execute("list").data["line"] in (2, 3, 4), "into the second one"


def test_callers(made: Remote) -> None:
    """By call frame information; of the code without frame pointers nothing else would find them."""
    made.execute("break add")
    made.execute("continue")
    lines = made.execute("backtrace").lines
    names = [line.split()[2].split("+")[0] for line in lines]
    assert names == ["add", "twice", "main", "_start"]
    assert "count.c:10" in lines[1]


def test_callers_without_any_information(tmp_path: Path) -> None:
    """With frame pointers by EBP; a word that no CALL stands before is no return address."""
    path = compiled(tmp_path, *NATURAL, "-fno-asynchronous-unwind-tables", "-g0")
    image = Target("count", "program", path.read_bytes())
    with Remote(lambda: open_target(image, KernelConfig(ram=16 << 20))) as remote:
        remote.execute("break add")
        remote.execute("continue")
        for _ in range(4):
            names = [line.split()[2].split("+")[0] for line in remote.execute("backtrace").lines]
            assert names[:3] == ["add", "twice", "main"]
            remote.execute("step")


def test_a_module_s_lines(tmp_path: Path) -> None:
    """Each section counts from where it was loaded: as readelf has it, which counts each from 0."""
    source, made = tmp_path / "count.c", tmp_path / "count.o"
    source.write_text(SOURCE.replace("void _start", '__attribute__((section(".init.text"))) void init_module'))
    subprocess.run(["gcc", "-m32", "-g", "-c", "-O1", "-fno-pic", "-o", str(made), str(source)], check=True)
    bases = {".text": 0xC2C00000, ".init.text": 0xC2C40000}
    table, sequences = LineTable(made.read_bytes(), bases), by_readelf(made)
    assert len(sequences) == 2
    for base, wanted in zip(bases.values(), sequences, strict=True):
        found = {at: table.at(base + at) for at in range(0x200) if table.begins(base + at)}
        assert {at: line.number for at, line in found.items() if line is not None} == wanted


def test_a_damaged_table_has_no_lines(program: Path, tmp_path: Path) -> None:
    data = bytearray(program.read_bytes())
    at = data.index(b"count.c")
    for start in range(0, len(data) - 64, 997):
        broken = bytearray(data)
        broken[start : start + 64] = bytes(range(64))
        LineTable(bytes(broken))
    assert at > 0


def test_no_lines_without_g(tmp_path: Path) -> None:
    source, made = tmp_path / "a.S", tmp_path / "a"
    source.write_text(".intel_syntax noprefix\n.globl _start\n_start: mov eax, 1\n int 0x80\n")
    assemble_source(source, made)
    image = Target("a", "program", made.read_bytes())
    with Remote(lambda: open_target(image, KernelConfig(ram=16 << 20))) as remote:
        assert "compile with -g" in remote.execute("list").error
        assert "compile with -g" in remote.execute("line").error

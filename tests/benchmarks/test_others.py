"""What runs beside the sandbox does the same work: as this host does it, which runs i386 programs itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import others, programs
from benchmarks.stockscript import Script

pytestmark = pytest.mark.skipif(not shutil.which("ld"), reason="no GNU binutils")


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[others.Work]:
    monkeypatch.setattr(others, "CALLS", 10)
    monkeypatch.setattr(programs, "PAGES", 5)
    for name in programs.LOOPS:
        body = programs.LOOPS[name].replace("0000000", "000")
        monkeypatch.setitem(programs.LOOPS, name, body)
    return [work for work in others._laid_out(tmp_path) if work.file]


def test_programs_end_well_on_this_host(works: list[others.Work], tmp_path: Path) -> None:
    assert len(works) == 6
    for work in works:
        try:
            done = subprocess.run([tmp_path / work.file], capture_output=True, timeout=10, check=False)
        except OSError:
            pytest.skip("this host does not run i386 programs")
        assert (done.returncode, done.stdout) == (0, b"ok\n" if work.name == others.START else b""), work.name


def test_the_script_on_stock_unicorn_runs_them(
    works: list[others.Work], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each touched page costs the script one call of its hook."""
    for work in works:
        touched: list[int] = []

        class Counting(Script):
            def _fault(self, uc: object, access: int, address: int, *rest: int, seen: list[int] = touched) -> bool:  # type: ignore[override]
                seen.append(address)
                return super()._fault(uc, access, address, *rest)

        assert Counting((tmp_path / work.file).read_bytes()).run() == 0
        pages = programs.FAULT_ROUNDS * programs.PAGES if work.name.startswith("faults") else 0
        assert len([each for each in touched if each >= 0x40000000]) == pages
    assert capfd.readouterr().out == "ok\n"


def test_no_shell_in_an_emulator_starts_applets_on_the_host() -> None:
    """qemu-user leaves ``execve`` to the host, which runs i386 programs itself."""
    pipe = others.Work("pipe", applets=(("seq", "1", "3"), ("md5sum",)))
    assert others._command(others.QEMU, ["qemu-i386"], pipe) == (
        "qemu-i386 ./busybox seq 1 3 | qemu-i386 ./busybox md5sum"
    )
    assert (
        others._command(others.SANDBOX, ["sandbox"], pipe)
        == "sandbox ./busybox sh -c '/busybox seq 1 3 | /busybox md5sum'"
    )
    assert others._command(others.STOCK, ["python"], pipe) is None


def test_a_row_is_against_qemu_where_it_ran() -> None:
    work = others.Work("w", bar=2.5)
    row = others._row(work, {others.SANDBOX: 3.0, others.QEMU: 2.0})
    assert (row.value, row.unit, row.bar, row.note) == (1.5, "x", 2.5, "sandbox 3000 ms, qemu-i386 2000 ms")
    assert others._row(work, {others.SANDBOX: 3.0}).unit == "ms"


def test_a_row_that_falls_short_of_its_goal_names_it() -> None:
    row = others._row(others.Work("w", bar=3.5, goal=2.5), {others.SANDBOX: 3.0, others.QEMU: 1.0})
    assert (row.bar, row.verdict, row.note) == (3.5, "ok", "goal 2.5 x; sandbox 3000 ms, qemu-i386 1000 ms")

"""``--sanitize tlb`` and ``--trace walk`` on the command line: status, where it is printed, JSON."""

from __future__ import annotations

import json

import pytest

from sandbox.cli import main
from sandbox.engine import stubs

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
BROKEN = ["images/mprotect-flush", "--break", "no-flush", "--sanitize", "tlb"]


def told(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(list(words))
    out, err = capfd.readouterr()
    return status, out, err


def test_a_report_is_status_1_behind_the_programs_output(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capfd, "run", *BROKEN)
    assert status == 1
    assert "sandbox: a stale translation was used: CPU 0, " in err
    assert "    missing   INVLPG 0x" in err


def test_without_reports_it_is_as_without(capfd: pytest.CaptureFixture[str]) -> None:
    plain = told(capfd, "run", "images/cow-fork")
    assert told(capfd, "run", "images/cow-fork", "--sanitize", "tlb") == plain
    assert plain[0] == 0


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capfd, "run", "--json", *BROKEN)
    found = json.loads(out)
    assert status == 1 and not found["passed"]
    assert {"use"} <= {each["kind"] for each in found["sanitizer"]}
    (counts,) = found["summary"]["tlb"]
    assert counts["misses"] >= counts["walks"] >= counts["fills"] > 0


def test_status_of_the_guest_does_not_hide_a_report(capfd: pytest.CaptureFixture[str]) -> None:
    assert told(capfd, "run", "--status", "images/munmap-middle", "--break", "no-flush", "--sanitize", "tlb")[0] == 1


def test_stats_count_what_each_cpu_executed(capfd: pytest.CaptureFixture[str]) -> None:
    _, _, err = told(capfd, "run", "--stats", "--cpus", "2", "images/smp-truncate", "--sanitize", "tlb")
    assert "CPU 0: " in err and "CPU 1: " in err and " INVLPG" in err and " CR3 loads" in err


def test_explain_and_debug(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = told(capfd, "explain", "--fault", "5", "images/cow-fork", *BROKEN[1:])
    assert status == 1 and out.startswith("fault 5") and "sandbox: a " in err
    status, _, err = told(capfd, "debug", *BROKEN, "-e", "continue")
    assert status == 1 and "sandbox: a " in err


def test_suite(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capfd, "test", "images/cow-fork", "images/rom-stale-tlb", "--whole", "--sanitize", "tlb")
    assert (status, "FAIL" in out) == (0, False)


def test_a_rom_that_uses_a_stale_translation(capfd: pytest.CaptureFixture[str]) -> None:
    """It says itself which access it is: the first one behind the edit of the entry."""
    status, out, err = told(capfd, "run", "images/rom-stale-tlb", "--sanitize", "tlb")
    assert status == 1
    assert "the CPU still reads frame A" in out
    assert err.count("sandbox: a stale translation was used") == 1


def test_walks(capfd: pytest.CaptureFixture[str]) -> None:
    """Three entries a walk under PAE, two without (SDM 3A, figures 4-2 and 4-5); the first fetch is in the text."""
    for paging, entries in (("pae", 3), ("legacy", 2)):
        _, out, _ = told(capfd, "run", "images/cow-fork", "--paging", paging, "--trace", "walk", "--json")
        walks = [each for each in json.loads(out)["events"] if each["event"] == "TlbMiss"]
        small = [each for each in walks if each["user"] and each["size"] == 4096]
        assert small and {len(each["entries"]) for each in small} == {entries}
        for each in small:
            assert each["entries"][-1][1] & 0xFFFFFF000 == each["physical"]
    status, _, err = told(capfd, "run", "images/cow-fork", "--trace", "walk")
    assert status == 0
    assert any("user fetch 08048" in line and " -> " in line for line in err.splitlines())
    assert any(line.endswith(" fault") for line in err.splitlines())

"""Traces and explanations of ROM images; what they must show follows from the images' sources and SDM 3A, 4.7."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_cli import call

ROM = str(Path(__file__).resolve().parents[2] / "images" / "rom-write-protect")


def test_faults_have_instruction_cr2_and_walk(capfd) -> None:
    _, _, err = call(["run", ROM, "--trace", "faults"], capfd)
    rows = [line for line in err.splitlines() if "CR2" in line]
    assert [line.split()[0] for line in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert any("write protection" in line and "mov" in line and "read-only page" in line for line in rows)
    assert "#PF page fault to 0008:" in err
    assert "{" not in err


def test_ports(capfd) -> None:
    _, out, err = call(["run", ROM, "--trace", "ports"], capfd)
    sent = [line for line in err.splitlines() if "out 0x3f8" in line]
    assert len(sent) == len(out)
    assert any(line.split()[1:3] == ["out", "0xf4,"] for line in err.splitlines())
    events = json.loads(call(["run", ROM, "--trace", "ports", "--json"], capfd)[1])["events"]
    assert bytes(each["value"] for each in events if each["port"] == 0x3F8).decode() == out


def test_explain(capfd) -> None:
    found = json.loads(call(["run", ROM, "--trace", "faults", "--json"], capfd)[1])
    traps = [each for each in found["events"] if each.get("number")]
    assert found["summary"]["page_faults"] == len(traps)
    for trap in traps[:2]:
        told = json.loads(call(["explain", ROM, "--fault", str(trap["number"]), "--json"], capfd)[1])
        assert {name: told[name] for name in ("eip", "address", "error_code")} == {
            name: trap[name] for name in ("eip", "address", "error_code")
        }
        assert "handler" in told["handler"]
    assert call(["explain", ROM, "--fault", "9999"], capfd)[0] == 2

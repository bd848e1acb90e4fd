"""docs/json.md names what ``--json`` prints, and what it names is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.cli.rom import TRACE_KINDS as ROM_KINDS
from sandbox.cli.run import TRACE_KINDS
from sandbox.machine.events import Delivery, TrapTaken
from sandbox.records import replace
from sandbox.report.trace import KINDS
from sandbox.semantics import corpus, report
from sandbox.semantics.campaign import Tally, judge
from sandbox.semantics.vector import Result, Vector
from tests.cli.test_cli import Files, call, elf  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/json.md").read_text()
COUNTS = {f"summary.{name}" for name in ("faults_by_kind", "calls_by_name", "bytes_by_host", "engine_seconds", "tlb[]")}
"""Objects whose members are names of the run's own."""
IMAGES = ROOT / "images"


def tables(heading: str) -> list[list[str]]:
    """The rows of each table below a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"\n\| --- .*\n((?:\|.*\n)+)", section)
    return [each.splitlines() for each in found]


def documented(heading: str, number: int = 0) -> set[str]:
    """The fields in the first column of a table."""
    return {name for row in tables(heading)[number] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def fields(told: Any, name: str = "", stop: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names of all that is in a value, as the page writes them."""
    if isinstance(told, list):
        for each in told:
            if isinstance(each, dict | list):
                yield from fields(each, name + "[]", stop)
    elif isinstance(told, dict) and name not in COUNTS | stop:
        for key, value in told.items():
            full = f"{name}.{key}" if name else key
            yield full
            yield from fields(value, full, stop)


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]):
    """``printed(words)``: what a command prints with --json."""

    def go(*words: str) -> Any:
        return json.loads(call([*words, "--json"], capfd)[1])

    return go


COW, ROM = str(IMAGES / "cow-fork"), str(IMAGES / "rom-large-pages")


def test_run(printed, elf: Files) -> None:  # noqa: F811
    seen: set[str] = set()
    for words in (
        [COW, "--trace", "calls"],
        [elf("_start: ud2")],
        [ROM, "--trace", "faults"],
        [str(IMAGES / "kmalloc")],
        [str(IMAGES / "mprotect-flush"), "--break", "no-flush", "--sanitize", "tlb"],
    ):
        told = printed("run", *words)
        told["events"] = told.get("events") and []
        assert {"events"} | set(fields(told)) <= documented("run")
        seen |= set(fields(told))
    assert seen == documented("run")


def test_run_under_many_seeds(printed, elf: Files) -> None:  # noqa: F811
    draws = elf(
        "_start: mov ebx, esp\n mov ecx, 1\n xor edx, edx\n mov eax, 355\n int 0x80\n sys write, 1, esp, 1\n pass"
    )
    told = printed("run", "--cpus", "2", "--seeds", "1-40", draws)
    assert set(told) == documented("run --seeds")
    assert set(told["outcome"]) == set(told["other"]) <= documented("run")
    assert set(printed("run", "--cpus", "2", "--seeds", "1-2", COW)) == {"seeds", "differs", "outcome"}


def events_of_the_page() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    kind = ""
    for row in tables("Events")[0]:
        _, event, names, _, *_ = row.split("|")
        kind = event.strip().strip("`") or kind
        found.setdefault(kind, {"event", "time", "cpu"}).update(re.findall(r"`([^`]+)`", names))
    return found


def test_events(printed, elf: Files) -> None:  # noqa: F811
    page = events_of_the_page()
    traced = {each.__name__ for kinds in KINDS.values() for each in kinds} | {TrapTaken.__name__, Delivery.__name__}
    assert set(page) == traced
    programs, roms = ",".join(TRACE_KINDS), ",".join(ROM_KINDS)
    seen: dict[str, set[str]] = {}
    races = [str(IMAGES / "fork-tree"), "--cpus", "2", "--seed", "3"]
    for words in ([elf("_start: ud2")], [str(IMAGES / "vmalloc-sync")], [COW], races):
        for event in printed("run", *words, "--trace", programs)["events"]:
            seen[event["event"]] = set(event)
    for event in printed("run", ROM, "--trace", roms)["events"]:
        seen[event["event"]] = set(event)
    assert seen == page
    for event in printed("run", COW, "--strace")["events"]:
        assert set(event) == {"event", "time", "line"}
        assert event["event"] == "strace"


def test_walk(printed) -> None:
    for address in ("_start", "0"):
        assert set(fields(printed("walk", COW, address))) == documented("walk")


@pytest.mark.parametrize(("number", "image"), list(enumerate((COW, ROM))))
def test_explain(printed, number: int, image: str) -> None:
    told = printed("explain", image)
    assert set(fields(told, stop=frozenset(("before", "after")))) == documented("explain", number)
    for name in ("before", "after"):
        assert set(fields(told[name])) <= documented("walk")


def test_maps(printed) -> None:
    seen = set(fields(printed("maps", str(IMAGES / "vmalloc"))))
    assert seen | set(fields(printed("maps", COW))) == documented("maps")
    assert set(fields(printed("maps"))) <= documented("maps")


def test_tlb(printed) -> None:
    assert set(fields(printed("tlb", COW, "--at", "child"))) == documented("tlb")


def test_maps_and_frames_of_a_rom(printed) -> None:
    assert set(fields(printed("maps", ROM))) <= documented("maps")
    assert set(fields(printed("frames", ROM))) == {"map", "map[].start", "map[].end", "map[].kind"}


def test_frames(printed) -> None:
    told = printed("frames", COW, "--device", "card")
    assert set(fields(told)) == documented("frames")
    row = next(row for row in tables("frames")[0] if "map[].kind" in row)
    assert {each["kind"] for each in told["map"]} <= set(re.findall(r"`([^`]+)`", row.split("|")[2]))


def test_the_map_of_frames(printed) -> None:
    """It agrees with the zones' counts and with the ranges that boot reserved; its one gap is a PC's, below 1 MB."""
    told = printed("frames", COW)
    sizes = {
        kind: sum(each["end"] - each["start"] for each in told["map"] if each["kind"] == kind) >> 12
        for kind in ("free", "unopened", "mem_map")
    }
    assert sizes["unopened"] == sum(zone["unopened"] for zone in told["zones"])
    assert sizes["free"] == sum(zone["free"] - zone["unopened"] for zone in told["zones"])
    assert (
        sizes["mem_map"]
        == sum(each["end"] - each["start"] for each in told["reserved"] if each["name"] == "mem_map") >> 12
    )
    starts, ends = [each["start"] for each in told["map"]], [each["end"] for each in told["map"]]
    assert starts == sorted(starts)
    assert [(end, start) for end, start in zip(ends[:-1], starts[1:], strict=True) if end != start] == [
        (640 << 10, 1 << 20)
    ]
    assert (starts[0], ends[-1]) == (0, 64 << 20)


def test_the_suite(printed) -> None:
    assert set(fields(printed("test", COW), "")) == documented("test")
    assert set(fields(printed("images"))) == documented("images")


def test_campaigns(printed, tmp_path: Path) -> None:
    ledger = tmp_path / "seeds"
    images = set(fields(printed("campaign", "images", COW, "-o", str(tmp_path / "images"))))
    assert images == documented("campaign") - {"[].error", "[].detail", "[].status"}
    told = printed("campaign", "seeds", COW, "--seeds", "1-2", "--cpus", "2", "-o", str(ledger))
    assert set(fields(told)) == documented("campaign", 1)
    kept = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    assert sorted(kept, key=lambda each: str(each["key"])) == told


def test_builds(printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one image, for the others are built in the same way."""
    from sandbox.image import build

    only = [each for each in build.manifests() if each.name == "cow-fork"]
    monkeypatch.setattr(build, "manifests", lambda *_: only)
    assert set(fields(printed("images", "--check"))) == documented("images", 1)


def test_listings(printed) -> None:
    module = set(fields(printed("disasm", str(IMAGES / "kmalloc"))))
    assert module | set(fields(printed("disasm", COW))) == documented("asm and disasm")
    assert set(fields(printed("asm", "nop; nop"))) <= documented("asm and disasm")


def test_doctor(printed) -> None:
    assert set(fields(printed("doctor"))) == documented("doctor")


def test_debug(capfd: pytest.CaptureFixture[str]) -> None:
    commands = ("catch fault", "continue", "nonsense", "step")
    _, out, _ = call(["debug", COW, "--json", *(word for each in commands for word in ("-e", each))], capfd)
    told = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(told) == 1 + len(commands)
    point = told[1].pop("point")
    assert set(point) == {"number", "what", "text", "address", "condition", "ignore", "hits", "temporary", "enabled"}
    seen = {field for each in told for field in fields(each, stop=frozenset(("stop.details",)))}
    assert seen == documented("debug")


def test_every_command_with_json_is_on_the_page() -> None:
    """Nothing else takes the option."""
    with_json = {
        path.stem
        for path in (ROOT / "sandbox/cli").glob("*.py")
        if '"--json"' in path.read_text() or "add_listing_options(parser)" in path.read_text()
    }
    named = set(re.findall(r"[a-z]+", " ".join(re.findall(r"\n## (.*)", PAGE)))) - {"and", "vents", "seeds"}
    assert with_json - {"listing"} == named


def test_compare(printed) -> None:
    told = printed("compare", "kmap", "--pages", "16", "--ram", "64M")
    assert set(fields(told)) == documented("compare")


def test_semantics() -> None:
    """Of a corpus with one result that no CPU has, so that there is something to tell."""
    recorded = corpus.read(IMAGES / "semantics" / "amd-epyc.vectors")
    vectors = [each for each in recorded.vectors if each.fpu is not None][:20]
    results = [replace(each, eip=each.eip ^ 1) for each in recorded.results[: len(vectors)]]
    told = report.to_dict(report.Found(recorded.processor, "mended", 1, told_of(vectors, results)))
    whole = frozenset(
        f"ways[].{each}" for each in ("vector.fpu", "theirs.fpu", "ours.fpu", "theirs.fault", "ours.fault")
    )
    stop = whole | {"per_second", "instructions[].causes"}
    assert set(fields(told, stop=stop)) == documented("semantics")


def told_of(vectors: list[Vector], results: list[Result]) -> Tally:
    tally = Tally()
    judge(vectors, results, [replace(each, eip=0) for each in results], tally, "AuthenticAMD")
    return tally

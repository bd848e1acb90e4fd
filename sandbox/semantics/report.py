"""What a run found: a table of 80 columns, JSON, JUnit, a page."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from sandbox.records import asdict, dataclass
from sandbox.semantics import serial
from sandbox.semantics.campaign import Tally
from sandbox.semantics.processor import Processor

NEW = "new"
_WIDE = 80
_ENOUGH = 500_000
"""Vectors that show what is listed; with fewer, what was not seen says nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """A run's end: who was asked, with what seed, and the tally."""

    processor: Processor
    engine: str
    seed: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction: vectors, those that differ, and by what causes (NEW: not listed) how many."""

    mnemonic: str
    vectors: int
    differ: int
    causes: tuple[tuple[str, int], ...]


def rows(tally: Tally) -> list[Row]:
    """One an instruction, those that differ most first."""
    vectors: Counter[str] = Counter()
    for form, count in tally.vectors.items():
        vectors[form.partition(" ")[0]] += count
    causes: dict[str, Counter[str]] = {}
    for (form, _, cause), count in tally.ways.items():
        causes.setdefault(form.partition(" ")[0], Counter())[cause or NEW] += count
    made = [
        Row(name, count, sum(causes.get(name, Counter()).values()), tuple(causes.get(name, Counter()).most_common()))
        for name, count in vectors.items()
    ]
    return sorted(made, key=lambda row: (-(row.differ / row.vectors), row.mnemonic))


def text(found: Found) -> str:
    """A line a cause, a line an instruction that differs, and the sums."""
    tally = found.tally
    total, differ = tally.vectors.total(), tally.ways.total()
    lines = [f"{total:,} vectors of {len(tally.vectors)} forms against {found.processor.name}"]
    lines += [f"{differ:,} differ, {differ - tally.new:,} of them by causes that are listed"]
    if differ:
        lines += ["", f"{'vectors':>9}  cause", *_causes(tally)]
        lines += ["", f"{'instruction':12} {'vectors':>9} {'differ':>8}  in"]
        lines += [_line(row, tally) for row in rows(tally) if row.differ]
    if total >= _ENOUGH and (unseen := tally.unseen(found.engine)):
        lines += ["", "listed, and not seen:", *(line for cause in unseen for line in _told("  ", cause))]
    if tally.new:
        lines += ["", "not listed:", *_new(tally)]
    return "\n".join(lines) + "\n"


def _told(head: str, text: str) -> list[str]:
    """A text whole, below itself where it goes on."""
    return textwrap.wrap(head + text, _WIDE, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _causes(tally: Tally) -> Iterator[str]:
    causes: Counter[str] = Counter()
    for (_, _, cause), count in tally.ways.items():
        causes[cause or "not listed"] += count
    for cause, count in causes.most_common():
        yield from _told(f"{count:9,}  ", cause)


def _line(row: Row, tally: Tally) -> str:
    parts: Counter[str] = Counter()
    for (form, names, _), count in tally.ways.items():
        if form.partition(" ")[0] == row.mnemonic:
            parts[", ".join(names)] += count
    ways = "; ".join(each for each, _ in parts.most_common(3))
    line = f"{row.mnemonic:12} {row.vectors:9,} {row.differ:8,}  {ways}"
    return line if len(line) <= _WIDE else line[: _WIDE - 1] + "…"


def _new(tally: Tally) -> Iterator[str]:
    for (form, parts, cause), count in sorted(tally.ways.items(), key=lambda way: -way[1]):
        if not cause:
            code = tally.kept[form, parts, cause][0].vector.code.hex(" ")
            yield from _told("  ", f"{form}: {', '.join(parts)} ({count:,}): {code}")


def to_dict(found: Found) -> dict[str, Any]:
    """Everything, each way to differ with a vector and both results."""
    tally = found.tally
    return {
        "processor": asdict(found.processor),
        "engine": found.engine,
        "seed": found.seed,
        "vectors": tally.vectors.total(),
        "divergences": tally.ways.total(),
        "new": tally.new,
        "per_second": rates(tally),
        "instructions": [{**asdict(row), "causes": dict(row.causes)} for row in rows(tally)],
        "unseen": tally.unseen(found.engine),
        "ways": [
            {"form": form, "count": count, **serial.divergence_to_dict(tally.kept[form, parts, cause][0])}
            for (form, parts, cause), count in tally.ways.items()
        ],
    }


def rates(tally: Tally) -> dict[str, int]:
    """Vectors a second of each side, on one core."""
    total = tally.vectors.total()
    return {name: round(total / seconds) for name, seconds in tally.seconds.items() if seconds}


def junit(found: Found) -> str:
    """A test case an instruction; it fails for divergences that are not listed."""
    made = rows(found.tally)
    failed = sum(NEW in dict(row.causes) for row in made)
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    lines += [f'<testsuite name="semantics" tests="{len(made)}" failures="{failed}">']
    for row in made:
        lines += [f"<testcase classname={quoteattr('semantics')} name={quoteattr(row.mnemonic)}>"]
        news = [each for each in found.tally.ways if each[0].partition(" ")[0] == row.mnemonic and not each[2]]
        for form, parts, cause in news:
            vector = found.tally.kept[form, parts, cause][0].vector
            message = f"{form}: {', '.join(parts)}"
            lines += [f"<failure message={quoteattr(message)}>{escape(vector.code.hex(' '))}</failure>"]
        lines += ["</testcase>"]
    return "\n".join([*lines, "</testsuite>", ""])


def page(found: Found) -> str:
    """The same as Markdown."""
    tally = found.tally
    lines = [
        "# Divergences by instruction",
        "",
        f"{tally.vectors.total():,} vectors, seed {found.seed}, engine {found.engine}, against {found.processor.name} "
        f"(microcode {found.processor.microcode}).",
        "",
        "| instruction | vectors | differ | causes |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows(tally):
        causes = "; ".join(f"{cause} ({count:,})" for cause, count in row.causes)
        lines += [f"| {row.mnemonic} | {row.vectors:,} | {row.differ:,} | {causes} |"]
    return "\n".join([*lines, ""])

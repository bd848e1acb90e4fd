"""The tables of ``docs/fidelity.md``, measured: ``python -m tests.fidelity`` writes them into the page.

Stock and mended are measured in a process each, against this host's CPU, which the page names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandbox.engine import mends
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from sandbox.semantics import generate, modes, restarts, selfmod
from sandbox.semantics.campaign import Tally, run_chunk
from sandbox.semantics.compare import listed_causes
from sandbox.suite.mendlist import listed
from tests.engine import encodings, fpvectors

PAGE = Path(__file__).parents[1] / "docs" / "fidelity.md"
EACH, SEED = 20, 7
"""Vectors of each instruction, and their seed."""
PLAIN, RESTARTED, OTHERS = 6_000, 3_000, 1_000
"""Vectors of each family of ``sandbox semantics``, of each that goes on behind faults, and of each other."""
CAUSE = "cause: "
KINDS = {"x87 and MMX state": (fpvectors.X87_KIND, fpvectors.X87), "SSE to SSE3": (fpvectors.SSE_KIND, fpvectors.SSE)}
TITLES = {
    "lock": "LOCK and the one-byte opcodes", "lock-0f": "LOCK and 0F", "lock-every-modrm": "LOCK with every ModR/M",
    "one-byte": "one-byte opcodes", "0f": "0F, also with 66, F2, F3", "0f38-0f3a": "0F 38 and 0F 3A",
    "x87": "D8 to DF", "segments": "with segment prefixes",
}  # fmt: skip


def processor() -> str:
    """The name that this host's CPU gives itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def measure(engine: str) -> dict[str, int]:
    """How many vectors and forms of each row differ from the host, and how many by each cause that is listed."""
    mends.choose(engine)
    found = causes(engine)
    with tempfile.TemporaryDirectory() as folder:
        program, vectors = encodings.build(Path(folder)), fpvectors.build(Path(folder))
        for title, (kind, _) in KINDS.items():
            words = [str(kind), str(EACH), str(SEED)]
            native = subprocess.run([vectors, *words], capture_output=True, text=True, check=True).stdout.splitlines()
            done = run_program("/tmp/fpvectors", vectors.read_bytes(), words, KernelConfig(time_limit=0))
            mine = done.stdout.decode().splitlines()
            found[title] = sum(pair[0] != pair[1] for pair in zip(native, mine, strict=True))
        guest = encodings.Guest()
        for name, case in encodings.CASES.items():
            found[name] = len(encodings.differing(program, guest, list(encodings.forms(*case))))
        guest.close()
    return found


def families() -> Iterator[tuple[str, int]]:
    """What ``sandbox semantics`` runs for the page, and how much of each."""
    yield from ((family, PLAIN) for family in generate.FAMILIES)
    yield from ((family + restarts.SUFFIX, RESTARTED) for family in generate.FAMILIES)
    yield from ((family + mode, OTHERS) for mode in modes.MODES for family in generate.FAMILIES)
    yield selfmod.FAMILY, OTHERS


def causes(engine: str) -> dict[str, int]:
    """Vectors that differ by cause, behind ``CAUSE``; those by none that is listed behind an empty one."""
    total = Tally()
    for family, count in families():
        total.add(run_chunk(SEED, (family, 0, count)))
    found = {CAUSE: 0} | {CAUSE + cause: 0 for cause in listed_causes(engine)}
    for (_, _, cause), count in total.ways.items():
        found[CAUSE + cause] = found.get(CAUSE + cause, 0) + count
    return found


def cause_rows(stock: dict[str, int], mended: dict[str, int]) -> Iterator[str]:
    """Mended: what only the engine's own shows.  Listed: what is seen with both.  Not found: what neither showed."""
    names = dict.fromkeys(each for each in (*stock, *mended) if each.startswith(CAUSE) and each != CAUSE)
    yield f"| of {sum(count for _, count in families()):,} vectors differ by | stock | mended | |"
    yield "| --- | --- | --- | --- |"
    for name in sorted(names, key=lambda each: -stock.get(each, 0) - mended.get(each, 0)):
        one, other = stock.get(name, 0), mended.get(name, 0)
        state = "listed" if other else "mended" if one else "not found"
        yield f"| {name.removeprefix(CAUSE)} | {one:,} | {other:,} | {state} |"
    yield f"| nothing that is listed | {stock.get(CAUSE, 0):,} | {mended.get(CAUSE, 0):,} | |"


def vector_rows(stock: dict[str, int], mended: dict[str, int]) -> Iterator[str]:
    yield "| | vectors | stock | mended |"
    yield "| --- | --- | --- | --- |"
    for title, (_, codes) in KINDS.items():
        counts = f"{len(codes) * EACH:,} | {stock[title]:,} | {mended[title]:,}"
        yield f"| {title} ({len(codes)} instructions) | {counts} |"


def form_rows(stock: dict[str, int], mended: dict[str, int]) -> Iterator[str]:
    yield "| forms that are #UD on one side only | forms | stock | mended |"
    yield "| --- | --- | --- | --- |"
    for name, case in encodings.CASES.items():
        forms = sum(1 for _ in encodings.forms(*case))
        yield f"| {TITLES[name]} | {forms:,} | {stock[name]:,} | {mended[name]:,} |"


def mend_rows() -> Iterator[str]:
    """As ``sandbox doctor`` lists them."""
    yield "| mended | helpers of the engine | what | costs |"
    yield "| --- | --- | --- | --- |"
    for each in listed(mends.install()):
        yield f"| {each.name} | {each.helpers or 'none: at translation'} | {each.what} | {each.cost} |"


def tables(stock: dict[str, int], mended: dict[str, int]) -> dict[str, str]:
    """Text of each table by the name in its marks on the page."""
    rows = {"vectors": vector_rows(stock, mended), "forms": form_rows(stock, mended), "mends": mend_rows()}
    rows["semantics"] = cause_rows(stock, mended)
    found = {name: "\n".join(lines) for name, lines in rows.items()}
    return {"processor": f"Measured on an {processor()}.", **found}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- measured: {name} -->\n", "\n<!-- end -->"


def on_page(name: str) -> str:
    """What the page has."""
    first, last = marks(name)
    return PAGE.read_text().split(first)[1].split(last)[0]


def write(found: dict[str, str]) -> None:
    text = PAGE.read_text()
    for name, table in found.items():
        first, last = marks(name)
        before, rest = text.split(first)
        text = before + first + table + last + rest.split(last, 1)[1]
    PAGE.write_text(text)


def measured() -> dict[str, str]:
    """The tables as this host gives them."""
    command = [sys.executable, "-m", "tests.fidelity"]
    outputs = [
        subprocess.run([*command, engine], capture_output=True, check=True).stdout
        for engine in (mends.STOCK, mends.MENDED)
    ]
    engines = [json.loads(each) for each in outputs]
    return tables(*engines)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        write(measured())

"""Manifests: good ones with keys and values changed, and texts that are hardly TOML."""

from __future__ import annotations

import functools
import re
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from sandbox.image.manifest import IMAGES
from sandbox.runner.rom import rom_config, run_rom
from sandbox.runner.run import open_session
from sandbox.runner.target import Target, resolve
from sandbox.suite.compare import compare, mistakes
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws

VALUES = (
    '""', "0", "-1", "1e9", "true", "[]", "{}", '"64M"', '"8M"', '"1G"', '"pae"', '"legacy"', '"rom"', '"module"',
    "4096", "4294967295", "4294967296", "1.5", "nan", "inf", "-inf", '"card"', '["card", "card"]', '["a:/b"]', '["/"]',
    '{kmalloc = "1.3"}', '{nothing = "x"}', '["fault:1"]', '"mem=4M"', '"\\u0000"', '"../../etc/passwd"', "9" * 400,
    '"off"', '"4G"', '[{address = "0x1000", error = "user write not-present"}]', '[{resolution = "cow-copy"}]',
    "[1, 2]",
    '">=1"', '{page_faults = ">=0"}', '{page_faults = "x"}', '{faults_by_kind = 1}', "1979-05-27",
    '"\u00e9\U0001f600"',
)  # fmt: skip
BLOCKS, SECONDS, LATE = 20_000, 2.0, 20.0


@functools.cache
def corpus() -> tuple[tuple[str, str], ...]:
    """Names and texts of the collection's manifests."""
    return tuple((path.parent.name, path.read_text()) for path in sorted(IMAGES.glob("*/manifest.toml")))


def manifest(draw: Random) -> dict[str, Any]:
    """Some of: another value, a key elsewhere, a line lost or doubled, a byte changed."""
    name, text = draw.choice(corpus())
    lines = text.splitlines()
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(lines))
        key = re.match(r"[a-z_0-9]+ = ", lines[at])
        turn = draw.random()
        if key and turn < 0.6:
            lines[at] = key[0] + draw.choice(VALUES)
        elif turn < 0.75:
            lines.insert(draw.randrange(len(lines)), lines[at])
        elif turn < 0.9 and len(lines) > 1:
            del lines[at]
        else:
            raw = draws.mutate(draw, lines[at].encode(), 1000)
            lines[at] = raw.decode("latin-1").replace("\n", " ")
    return {"name": name, "text": "\n".join(lines)}


def run(made: dict[str, Any]) -> str:
    """Refused with a line, or run as far as the limits go and compared."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "images" / made["name"]
        place.parent.mkdir()
        for each in IMAGES.iterdir():
            if each.name != made["name"]:
                (place.parent / each.name).symlink_to(each)
        place.mkdir()
        for each in (IMAGES / made["name"]).iterdir():
            if each.name != "manifest.toml":
                (place / each.name).symlink_to(each)
        (place / "manifest.toml").write_text(made["text"], encoding="utf-8")
        try:
            return _checked(resolve(place))
        except SandboxError as error:
            if error.exit_status == 3:
                raise
            assert error.summary, error
            assert "\n" not in error.summary, error.summary
            return "refused"


def _checked(target: Target) -> str:
    assert target.manifest is not None
    mistakes(target.manifest, _symbols(target))
    began = time.monotonic()
    if target.kind == "rom":
        result = run_rom(target, rom_config(target, block_limit=BLOCKS, time_limit=SECONDS))
    else:
        with open_session(target, target.config(block_limit=BLOCKS, time_limit=SECONDS)) as session:
            result = session.finish()
    assert time.monotonic() - began < SECONDS + LATE
    if mistakes(target.manifest, _symbols(target)):
        return "mistaken"
    return "missed" if compare(target.manifest, result, target.manifest.paging[0], _symbols(target)) else "met"


def _symbols(target: Target) -> Any:
    from sandbox.image.elf import symbols

    return symbols(target.data)

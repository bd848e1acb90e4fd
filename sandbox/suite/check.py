"""One image, one mode, whole or broken: does it do what its manifest says?"""

from __future__ import annotations

from sandbox.image.elf import symbols
from sandbox.image.manifest import Manifest
from sandbox.kernel.drivers.console import BytesSource
from sandbox.records import dataclass, field
from sandbox.runner.result import Result, Summary
from sandbox.runner.rom import rom_config, run_rom
from sandbox.runner.run import run_target
from sandbox.runner.session import Streams
from sandbox.runner.target import Target
from sandbox.suite.compare import compare, mistakes
from sandbox.x86.errors import ConfigurationError, SandboxError

BLOCKS_FACTOR, LEAST_BLOCKS = 4, 200_000
SECONDS_FACTOR, LEAST_SECONDS = 10, 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a run on a broken kernel is cut off, and has failed.  None is the manifest's, or none.

    Blocks of the machine's clock cut a run at the same place every time; seconds are for one whose blocks take the host
    long, or in which the clock stands still.
    """

    blocks: int | None = None
    seconds: float | None = None

    @classmethod
    def after(cls, whole: Summary, most: float) -> Limits:
        """A multiple of the whole run's length, and no more than ``most`` seconds (0: any number)."""
        seconds = max(SECONDS_FACTOR * whole.seconds, LEAST_SECONDS)
        return cls(max(BLOCKS_FACTOR * whole.blocks, LEAST_BLOCKS), min(seconds, most) if most else seconds)


@dataclass(slots=True)
class Verdict:
    """What was compared.  ``failures`` is empty when everything was as expected."""

    name: str
    paging: str
    switch: str
    failures: list[str] = field(default_factory=list)
    result: Result | None = None
    refused: bool = False
    """No such machine, switch, file or symbol: nothing ran, so nothing was noticed."""

    @property
    def passed(self) -> bool:
        """Whole: as expected.  Broken: the image noticed."""
        return bool(self.failures) and not self.refused if self.switch else not self.failures


def check_both(
    target: Target, paging: str, *, broken: bool = True, sanitize: frozenset[str] = frozenset()
) -> list[Verdict]:
    """The whole run in a paging mode, which is sanitized, and the broken one if the manifest names a switch."""
    manifest = manifest_of(target)
    whole = check_image(target, paging, sanitize=sanitize)
    if not broken or not manifest.switch:
        return [whole]
    return [whole, check_image(target, paging, manifest.switch, limits_of(target, whole))]


def limits_of(target: Target, whole: Verdict) -> Limits:
    """Where the broken run that belongs to a whole one is cut off."""
    summary = whole.result.summary if whole.result is not None else Summary()
    return Limits.after(summary, manifest_of(target).time_limit)


def check_image(
    target: Target,
    paging: str,
    switch: str = "",
    limits: Limits | None = None,
    sanitize: frozenset[str] = frozenset(),
) -> Verdict:
    """Run an image in a paging mode, with a kernel switch or none, and compare with its manifest.

    What a sanitizer reports is a failure, except on a bare machine, whose guest is its own kernel.
    A broken run that is given no limits takes them from a whole run, which is made for it.
    """
    manifest, table = manifest_of(target), symbols(target.data)
    verdict = Verdict(target.name, paging, switch, mistakes(manifest, table))
    if verdict.failures:
        verdict.refused = True
        return verdict
    try:
        if switch and limits is None:
            limits = Limits.after(_run(target, paging, "", Limits()).summary, manifest.time_limit)
        verdict.result = _run(target, paging, switch, limits or Limits(), sanitize)
    except SandboxError as error:
        verdict.failures.append(error.summary)
        verdict.refused = error.exit_status == ConfigurationError.exit_status
        return verdict
    verdict.failures += compare(manifest, verdict.result, paging, table)
    return verdict


def manifest_of(target: Target) -> Manifest:
    """The manifest that the target was made from; only such targets can be checked."""
    assert target.manifest is not None
    return target.manifest


def _run(target: Target, paging: str, switch: str, limits: Limits, sanitize: frozenset[str] = frozenset()) -> Result:
    changes: dict[str, object] = {
        "sanitize": sanitize or None,
        "switches": frozenset((switch,)) if switch else None,
        "block_limit": limits.blocks,
        "time_limit": limits.seconds,
    }
    if target.kind == "rom":
        return run_rom(target, rom_config(target, **{**changes, "sanitize": None}))
    streams = Streams(BytesSource(manifest_of(target).stdin.encode()))
    return run_target(target, target.config(paging=paging, **changes), streams)

"""One image, one mode, whole or broken: does it do what its manifest says?"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.image.elf import symbols
from sandbox.image.manifest import ExpectedFault, Manifest
from sandbox.image.symbols import SymbolTable
from sandbox.kernel.abi.signals import name_of as signal_name
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.result import Result
from sandbox.runner.rom import rom_config, run_rom
from sandbox.runner.run import run_target
from sandbox.runner.session import Streams
from sandbox.runner.target import Target
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.errors import ConfigurationError, SandboxError

BROKEN_LIMIT = 50_000_000
"""Blocks after which a run on a broken kernel has failed."""


@dataclass(slots=True)
class Verdict:
    """What was compared.  ``failures`` is empty when everything was as expected."""

    name: str
    paging: str
    switch: str
    failures: list[str] = field(default_factory=list)
    result: Result | None = None
    refused: bool = False
    """No such machine, switch or file: nothing ran, so nothing was noticed."""

    @property
    def passed(self) -> bool:
        """Whole: as expected.  Broken: the image noticed."""
        return bool(self.failures) and not self.refused if self.switch else not self.failures


def check_image(target: Target, paging: str, switch: str = "") -> Verdict:
    """Run an image in a paging mode, with a kernel switch or none, and compare with its manifest."""
    manifest = target.manifest
    assert manifest is not None
    verdict = Verdict(target.name, paging, switch)
    switches = frozenset((switch,)) if switch else None
    limit = BROKEN_LIMIT if switch else None
    try:
        if target.kind == "rom":
            result = run_rom(target, rom_config(target, switches=switches, block_limit=limit))
        else:
            config = target.config(paging=paging, switches=switches, block_limit=limit)
            streams = Streams(BytesSource(manifest.stdin.encode()))
            result = run_target(target, config, streams)
    except SandboxError as error:
        verdict.failures.append(error.summary)
        verdict.refused = error.exit_status == ConfigurationError.exit_status
        return verdict
    verdict.result = result
    verdict.failures += compare(manifest, result, paging, symbols(target.data))
    return verdict


def compare(manifest: Manifest, result: Result, paging: str, table: SymbolTable) -> list[str]:
    """Every expectation that was missed, one line each."""
    missed = []
    if manifest.error:
        if manifest.error not in result.error:
            missed.append(f"ended with {result.error or 'no error'!r}, expected {manifest.error!r}")
    elif result.error:
        missed.append(result.error)
    wanted_signal = manifest.signal
    got_signal = signal_name(result.signal) if result.signal else ""
    if got_signal != wanted_signal:
        missed.append(f"ended by {got_signal or 'exit'}, expected {wanted_signal or 'exit'}")
    if not result.signal and not result.error and result.status != manifest.status:
        missed.append(f"exit status {result.status}, expected {manifest.status}")
    if manifest.stdout is not None and result.stdout != manifest.stdout.encode():
        missed.append(f"standard output {_clip(result.stdout)}, expected {_clip(manifest.stdout.encode())}")
    wanted = [each for each in manifest.faults if not each.paging or each.paging == paging]
    missed += _compare_faults(wanted, result.faults, table)
    summary = result.summary
    for name, value in manifest.counters.items():
        got = getattr(summary, name, None)
        if got is None:
            missed.append(f"no counter is called {name!r}")
        elif got < int(value[2:]) if isinstance(value, str) else got != value:
            missed.append(f"{name} is {got}, expected {value}")
    return missed


def _compare_faults(wanted: list[ExpectedFault], seen: list[PageFault], table: SymbolTable) -> list[str]:
    """The expected faults must be found in order; others may lie between them."""
    at = 0
    for number, expected in enumerate(wanted, 1):
        while at < len(seen) and not _matches(expected, seen[at], table):
            at += 1
        if at == len(seen):
            where = f" at {expected.address}" if expected.address else ""
            what = " ".join(part for part in (expected.error, expected.resolution) if part)
            return [f"expected fault {number}{where} ({what}) was not seen"]
        at += 1
    return []


def _matches(expected: ExpectedFault, fault: PageFault, table: SymbolTable) -> bool:
    if expected.resolution and expected.resolution != fault.resolution:
        return False
    if expected.error and expected.error != PageFaultCode(fault.error_code).describe():
        return False
    if expected.address:
        address = table.address(expected.address)
        if address is None:
            try:
                address = int(expected.address, 0)
            except ValueError:
                return False
        return address == fault.address
    return True


def _clip(data: bytes) -> str:
    text = repr(data.decode("utf-8", "replace"))
    return text if len(text) < 90 else text[:87] + "…'"

"""What a manifest expects against what was seen, and which of its expectations nothing could ever meet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sandbox.image.manifest import ExpectedFault, Manifest
from sandbox.image.symbols import SymbolTable
from sandbox.kernel.abi.signals import name_of as signal_name
from sandbox.kernel.base.events import PageFault
from sandbox.records import fields
from sandbox.runner.result import Result, Summary
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.numbers import parse_address


def mistakes(manifest: Manifest, table: SymbolTable) -> list[str]:
    """Names in a manifest that are no symbol of the image and no counter: whatever runs, they are not seen."""
    found = []
    for number, expected in enumerate(manifest.faults, 1):
        if expected.address and place(expected.address, table) is None:
            name = expected.address.partition("+")[0].partition("-")[0].strip()
            names = [each for each, _ in table.items()]
            found.append(f"expected fault {number}: no such symbol: {expected.address}{_meant(name, names)}")
    counters = [each.name for each in fields(Summary) if each.type in ("int", "float")]
    for name in manifest.counters:
        if name not in counters:
            found.append(f"no counter is called {name!r}{_meant(name, counters)}")
    return found


def place(text: str, table: SymbolTable) -> int | None:
    """The address that ``counter``, ``counter+4`` or a number means; None when the image has no such symbol."""
    address = table.address(text)
    if address is not None:
        return address
    try:
        return parse_address(text)
    except ValueError:
        return None


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


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
    missed += [f"sanitizer: {each.headline()}" for each in result.sanitizer]
    summary = result.summary
    if not result.error and summary.frames_lost and "frames_lost" not in manifest.counters:
        missed.append(f"lost frames: {summary.frames_lost}, of programs that are gone")
    for name, value in manifest.counters.items():
        got = getattr(summary, name)
        if not _meets(got, value):
            missed.append(f"{name} is {got}, expected {value}")
    return missed


def _meets(got: float, value: int | str) -> bool:
    """A counter is what a manifest expects: a number, or a bound."""
    if isinstance(value, int):
        return got == value
    bound = int(value[2:])
    return got <= bound if value.startswith("<") else got >= bound


def _compare_faults(wanted: list[ExpectedFault], seen: list[PageFault], table: SymbolTable) -> list[str]:
    """The expected faults must be found in order; others may lie between them."""
    at = 0
    for number, expected in enumerate(wanted, 1):
        start = at
        while at < len(seen) and not all(_agreement(expected, seen[at], table)):
            at += 1
        if at == len(seen):
            where = f" at {expected.address}" if expected.address else ""
            what = " ".join(part for part in (expected.error, expected.resolution) if part)
            return [
                f"expected fault {number}{where} ({what}) was not seen",
                _nearest(expected, seen, start, table),
            ]
        at += 1
    return []


def _nearest(expected: ExpectedFault, seen: list[PageFault], start: int, table: SymbolTable) -> str:
    """The fault that was most like an expected one, with its number as ``explain`` counts; of equals, one after
    ``start`` faults, where it was looked for."""
    if not seen:
        return "no page fault was seen"
    best = max(
        range(len(seen)),
        key=lambda at: (sum(_agreement(expected, seen[at], table)), at >= start, -abs(at - start)),
    )
    fault = seen[best]
    where = f"{fault.address:08x}"
    name = table.find(fault.address)
    where += f" <{name}>" if name else ""
    early = ", before the one expected ahead of it" if best < start else ""
    return (
        f"nearest: fault {best + 1} at {where} ({PageFaultCode(fault.error_code).describe()} {fault.resolution}){early}"
    )


def _agreement(expected: ExpectedFault, fault: PageFault, table: SymbolTable) -> tuple[bool, bool, bool]:
    """Whether address, error and resolution are as expected; what is left open agrees."""
    return (
        not expected.address or place(expected.address, table) == fault.address,
        not expected.error or expected.error == PageFaultCode(fault.error_code).describe(),
        not expected.resolution or expected.resolution == fault.resolution,
    )


def _clip(data: bytes) -> str:
    text = repr(data.decode("utf-8", "replace"))
    return text if len(text) < 90 else text[:87] + "…'"

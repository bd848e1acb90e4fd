"""ROM images own the whole machine: no kernel under them, their own descriptor tables and handlers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.kernel.drivers.console import HostSink
from sandbox.machine.bare import BareMachine
from sandbox.machine.events import Event
from sandbox.machine.machine import Machine
from sandbox.machine.outcome import Exited
from sandbox.runner.result import Result, Summary
from sandbox.runner.target import Target

EXIT_MASK = 0xFF


@dataclass(slots=True)
class RomConfig:
    """A bare machine.  ``ram`` in bytes; limits of 0 are none."""

    ram: int = 64 << 20
    cpus: int = 1
    seed: int = 0
    switches: frozenset[str] = frozenset()
    block_limit: int = 0
    time_limit: float = 60.0


def rom_config(target: Target, **changes: object) -> RomConfig:
    """What the manifest asks for, with changes; None leaves a field as it is."""
    values: dict[str, object] = {}
    if target.manifest is not None:
        manifest = target.manifest
        values = {"ram": manifest.ram, "cpus": manifest.cpus, "seed": manifest.seed, "time_limit": manifest.time_limit}
    values.update({key: value for key, value in changes.items() if value is not None})
    return RomConfig(**values)  # type: ignore[arg-type]


def run_rom(
    target: Target,
    config: RomConfig,
    sink: Callable[[bytes], object] | None = None,
    readers: Sequence[tuple[Callable[[Event], None], tuple[type[Event], ...]]] = (),
) -> Result:
    """Run a flat image to its end.  The status is what it wrote to the exit port.

    Raises ConfigurationError for what cannot be built, NotModelled for what this machine does not have.
    """
    manifest = target.manifest
    began = time.perf_counter()
    machine = Machine(config.ram, config.cpus)
    try:
        bare = BareMachine(
            machine,
            target.data,
            *((manifest.load, manifest.entry) if manifest is not None else ()),
            switches=config.switches,
            sink=sink,
            seed=config.seed,
        )
        if isinstance(sink, HostSink):
            sink.look = bare.look
        for reader, kinds in readers:
            machine.bus.subscribe(reader, *kinds)
        outcome = bare.run(config.block_limit, config.time_limit)
        result = Result(stdout=bytes(bare.serial.sent))
        if isinstance(outcome, Exited):
            result.status = outcome.status & EXIT_MASK
        else:
            result.error, result.detail = outcome.headline(), "\n".join(outcome.lines())
        result.summary = Summary(
            blocks=bare.clock,
            page_faults=bare.traps,
            bytes_by_host=machine.memory.host_bytes(),
            seconds=time.perf_counter() - began,
        )
        return result
    finally:
        machine.close()

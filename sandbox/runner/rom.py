"""ROM images own the whole machine: no kernel under them, their own descriptor tables and handlers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from sandbox.kernel.drivers.console import HostSink
from sandbox.machine.bare import BareMachine
from sandbox.machine.machine import Machine
from sandbox.machine.outcome import Exited, Outcome
from sandbox.records import dataclass
from sandbox.runner.followed import Followed
from sandbox.runner.result import Result, Summary
from sandbox.runner.target import Target

if TYPE_CHECKING:
    from sandbox.sanitize.rom import RomSanitizer

EXIT_MASK = 0xFF


@dataclass(slots=True)
class RomConfig:
    """A bare machine.  ``ram`` in bytes; limits of 0 are none."""

    ram: int = 64 << 20
    cpus: int = 1
    seed: int = 0
    switches: frozenset[str] = frozenset()
    sanitize: frozenset[str] = frozenset()
    """``tlb``: the machine runs instruction by instruction, and uses of stale translations are told."""
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


class RomSession(Followed):
    """One flat image on one fresh machine.

    Between building it and ``finish`` readers may subscribe to ``machine.bus``.  Raises ConfigurationError for what
    cannot be built.
    """

    def __init__(self, target: Target, config: RomConfig, sink: Callable[[bytes], object] | None = None) -> None:
        self._config = config
        self._began = time.perf_counter()
        manifest = target.manifest
        place = (manifest.load, manifest.entry) if manifest is not None else ()
        self.machine = Machine(config.ram, config.cpus)
        try:
            self.bare = BareMachine(
                self.machine, target.data, *place, switches=config.switches, sink=sink, seed=config.seed
            )
        except BaseException:
            self.machine.close()
            raise
        if config.sanitize:
            self.sanitize_by(_sanitizer(self.bare))
        if isinstance(sink, HostSink):
            sink.look = self.bare.look

    def run(self) -> Outcome:
        """To its end, a breakpoint or a limit.  Raises NotModelled for what this machine does not have."""
        return self.bare.run(self._config.block_limit, self._config.time_limit)

    def now(self) -> int:
        return self.bare.clock

    def finish(self) -> Result:
        """To its end.  The status is what it wrote to the exit port."""
        outcome, bare = self.run(), self.bare
        result = Result(stdout=bytes(bare.serial.sent))
        if isinstance(outcome, Exited):
            result.status = outcome.status & EXIT_MASK
        else:
            result.error, result.detail = outcome.headline(), "\n".join(outcome.lines())
        self.put_reports(result)
        result.summary = Summary(
            blocks=bare.clock,
            page_faults=bare.page_faults,
            bytes_by_host=self.machine.memory.host_bytes(),
            seconds=time.perf_counter() - self._began,
            tlb=self.tlb_counters(),
        )
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()


def _sanitizer(bare: BareMachine) -> RomSanitizer:
    from sandbox.sanitize.rom import RomSanitizer

    return RomSanitizer(bare)


def run_rom(target: Target, config: RomConfig) -> Result:
    """Run a flat image to its end, on a machine that is gone afterwards.  Raises what ``RomSession`` raises."""
    with RomSession(target, config) as session:
        return session.finish()

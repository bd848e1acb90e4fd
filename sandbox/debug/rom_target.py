"""A ROM image on the bare machine as a target."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from sandbox.debug.goals import Steps
from sandbox.debug.rom_symbols import RomSymbols
from sandbox.debug.target import Target
from sandbox.engine.cpu import Cpu
from sandbox.runner.result import Result
from sandbox.runner.rom import RomSession

if TYPE_CHECKING:
    from sandbox.debug.lines import LineTable


class RomTarget(Target):
    """One ROM session.  ``symbols`` are what is known of its addresses."""

    kind = "rom"
    session: RomSession

    def __init__(self, name: str, session: RomSession, symbols: RomSymbols | None = None) -> None:
        super().__init__(name, session.machine)
        self.session, self.bare = session, session.bare
        self.control.check_time = self.bare.look
        self._symbols = symbols or RomSymbols()
        self._table = self._symbols.table()
        self._lines: LineTable | None = None

    @property
    def now(self) -> int:
        return self.bare.clock

    @property
    def fault_count(self) -> int:
        return self.bare.page_faults

    def finish(self) -> Result:
        self.control.goal = Steps(0)
        return self.session.finish()

    def release(self) -> None:
        self.machine.close()

    def excuse(self, seconds: float) -> None:
        self.bare.excuse(seconds)

    @property
    def running_cpu(self) -> Cpu:
        return self.machine.cpus[self.bare.accessing_cpu]

    def root_of(self, pid: int, cpu: int) -> int | None:
        return self.machine.cpus[cpu].context.cr3

    def flow(self, cpu: Cpu) -> Hashable:
        return cpu.index

    def address_of(self, name: str) -> int | None:
        return self._table.address(name)

    def name_of(self, linear: int) -> str:
        return self._symbols.name(linear, self._table)

    def symbol_names(self) -> list[str]:
        return list(self._symbols.names)

    def line_tables(self) -> Iterator[LineTable]:
        if self._symbols.elf:
            from sandbox.debug.lines import LineTable

            self._lines = self._lines or LineTable(self._symbols.elf)
            yield self._lines

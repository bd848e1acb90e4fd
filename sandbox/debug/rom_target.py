"""A ROM image on the bare machine as a target."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from sandbox.debug.run_control import Steps
from sandbox.debug.target import Target
from sandbox.engine.cpu import Cpu
from sandbox.image.symbols import SymbolTable
from sandbox.runner.result import Result
from sandbox.runner.rom import RomSession
from sandbox.sanitize.report import StaleReport


class RomTarget(Target):
    """One ROM session.  ``symbols`` are linear addresses by name, where somebody knows them."""

    kind = "rom"

    def __init__(self, name: str, session: RomSession, symbols: Mapping[str, int] | None = None) -> None:
        super().__init__(name, session.machine)
        self.session, self.bare = session, session.bare
        self._symbols = symbols or {}
        self._table = SymbolTable(self._symbols)

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

    def reports(self) -> list[StaleReport]:
        return self.session.reports()

    def excuse(self, seconds: float) -> None:
        self.bare.excuse(seconds)

    def flow(self, cpu: Cpu) -> Hashable:
        return cpu.index

    def address_of(self, name: str) -> int | None:
        return self._table.address(name)

    def name_of(self, linear: int) -> str:
        return self._table.find(linear) or ""

    def symbol_names(self) -> list[str]:
        return list(self._symbols)

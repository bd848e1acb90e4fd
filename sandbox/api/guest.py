"""A guest that stands still when it is not run: registers, memory, walks and maps at any place of its life."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from sandbox.api.options import Options, configuration
from sandbox.api.runs import explain, given, loaded
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.rom_target import RomTarget
from sandbox.debug.stops import Stop
from sandbox.debug.target import Refused, Target
from sandbox.image.disassemble import Instruction
from sandbox.kernel.base.events import PageFault
from sandbox.machine.events import Event, TrapTaken
from sandbox.runner.result import Result
from sandbox.runner.rom import RomConfig, RomSession
from sandbox.runner.run import open_session
from sandbox.runner.session import Streams
from sandbox.runner.target import Target as Image
from sandbox.x86.walk import Access, Walk

if TYPE_CHECKING:
    from sandbox.debug.bare_view import RomExplanation
    from sandbox.debug.explain import Explanation

REGISTERS = ("eip", "eflags", "cpl", "cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4")


class Guest:
    """One image on one fresh machine, standing at ``stop``; released by ``close`` or at the end of a ``with``.

    The first stop is a program's first instruction, a module's ``init_module``, or where a ROM is entered.
    """

    def __init__(self, image: Image, stdin: bytes | None, symbols: Path | None, options: Options) -> None:
        self.image = image
        self.faults: list[PageFault | TrapTaken] = []
        """Page faults so far, in order: those that the kernel answered, of a ROM those that its CPU took."""
        self._stdin, self._options = stdin, options
        self._target = _target(image, configuration(image, options), stdin, symbols)
        try:
            self._target.machine.bus.subscribe(self._fault, PageFault, TrapTaken)
            self._debugger = Debugger(self._target)
            self.stop: Stop = self._debugger.begin()
        except BaseException:
            self._target.close()
            raise

    def _fault(self, event: Event) -> None:
        if isinstance(event, PageFault) or (isinstance(event, TrapTaken) and event.number):
            self.faults.append(event)

    # -- running

    def run(self, to: str | int | None = None) -> Stop:
        """Run on to a place (a symbol, an expression, a linear address), or to the next breakpoint or the end.

        Raises Refused when the guest is at its end, and for a place that is not there.
        """
        if to is not None:
            self._told(f"tbreak {to:#x}" if isinstance(to, int) else f"tbreak {to}")
        self.stop = self._debugger.go()
        return self.stop

    def step(self, count: int = 1) -> Stop:
        """Execute so many instructions of the task, or of the ROM's CPU.  Raises Refused at the end."""
        self.stop = self._told(f"step {count}").stop or self.stop
        return self.stop

    def finish(self) -> Result:
        """Run to the end, past all breakpoints, and tell how it was."""
        self._debugger.disarm()
        while not self.stop.ended:
            self.stop = self._debugger.go()
        assert self._target.result is not None
        self._target.result.faults = [each for each in self.faults if isinstance(each, PageFault)]
        return self._target.result

    def command(self, line: str) -> Answer:
        """A command of the debugger (``docs/debug.md``): ``break``, ``watch``, ``catch``, ``info`` and so on.

        What it refuses is in the answer's ``error``.
        """
        answer = self._debugger.execute(line)
        self.stop = answer.stop or self.stop
        return answer

    def _told(self, line: str) -> Answer:
        answer = self._debugger.execute(line)
        if answer.error:
            raise Refused(answer.error)
        return answer

    # -- looking: nothing here changes the guest

    @property
    def clock(self) -> int:
        """The machine's time in blocks."""
        return self._target.now

    @property
    def registers(self) -> dict[str, int]:
        """General registers, EIP (an offset in CS), flags, CPL, selectors and control registers of who stands here."""
        names = [*self._target.context.general(), *REGISTERS]
        return {name: value for name in names if (value := self._debugger.register(name)) is not None}

    @property
    def output(self) -> bytes:
        """What the guest has written so far: to standard output, or of a ROM to the serial port."""
        if isinstance(self._target, KernelTarget):
            return bytes(self._target.session.captured[0].data)
        assert isinstance(self._target, RomTarget)
        return bytes(self._target.bare.serial.sent)

    def read(self, linear: int, size: int) -> bytes:
        """Bytes at a linear address, short where nothing is mapped."""
        return self._target.read(linear, size)

    def read_physical(self, physical: int, size: int) -> bytes:
        """Bytes at a physical address, short where RAM ends."""
        return self._target.read_physical(physical, size)

    def walk(self, linear: int, access: str = "r", *, user: bool | None = None) -> Walk:
        """The page walk of a linear address; ``access`` is r, w or x, whose it is the guest's ring says.

        Raises Refused where a table is not in RAM.
        """
        user = self._target.context.cpl == 3 if user is None else user
        return self._target.walk(linear, Access(write=access == "w", user=user, fetch=access == "x"), self._target.cr3)

    def maps(self) -> dict[str, Any]:
        """Areas of the program, regions of the kernel; as ``sandbox maps --json`` has them."""
        found: dict[str, Any] = next(iter(self._told("maps").data.values()))
        return found

    def code(self, linear: int | None = None, count: int = 1) -> list[Instruction]:
        """Instructions from a linear address on, or those that come next."""
        return self._target.code(self.stop.moment.eip if linear is None else linear, count)

    def symbol(self, name: str) -> int:
        """The linear address of a name of the image, or of the kernel.  Raises Refused for one that nobody knows."""
        found = self._target.address_of(name)
        if found is None:
            raise Refused(f"{self.image.name}: no symbol {name!r}")
        return found

    def name_of(self, linear: int) -> str:
        """``name+0x10`` of what lies at a linear address, empty when nobody knows."""
        return self._target.name_of(linear)

    def explain(self, number: int) -> Explanation | RomExplanation:
        """Page fault ``number`` of this run, past or to come, seen by a second machine that runs up to it."""
        return explain(self.image, number, stdin=self._stdin, **self._options)

    # -- changing

    def write(self, linear: int, data: bytes) -> None:
        """Set bytes at a linear address, whatever its protection.  Raises Refused where nothing is mapped."""
        self._target.write(linear, data)

    def write_physical(self, physical: int, data: bytes) -> None:
        """Set bytes of RAM.  Raises Refused where there is none."""
        self._target.write_physical(physical, data)

    def set_register(self, name: str, value: int) -> None:
        """Set a general register, EIP, or the flags.  Raises Refused for any other."""
        self._told(f"set ${name} = {value:#x}")

    def close(self) -> None:
        """Leave the guest where it stands, and release its machine."""
        self._target.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(
    image: Image | str | Path,
    *,
    stdin: bytes | None = None,
    symbols: Path | None = None,
    **options: Unpack[Options],
) -> Guest:
    """A fresh machine with an image on it, which has not run an instruction yet.

    ``symbols`` is an ELF file with the names of a ROM.  Raises ConfigurationError, BadProgram.
    """
    return Guest(loaded(image), stdin, symbols, options)


def _target(image: Image, config: Any, stdin: bytes | None, symbols: Path | None) -> Target:
    if isinstance(config, RomConfig):
        from sandbox.debug import rom_symbols

        return RomTarget(image.name, RomSession(image, config), rom_symbols.known(image, symbols))
    return KernelTarget(image.name, open_session(image, config, Streams(given(image, stdin))))

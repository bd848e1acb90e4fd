"""An image and a configuration become a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.debug.target import Target
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.rom import RomConfig
from sandbox.runner.target import Target as Image

if TYPE_CHECKING:
    from sandbox.runner.outside import Outside


def open_target(
    image: Image, config: KernelConfig | RomConfig, outside: Outside | None = None, symbols: Path | None = None
) -> Target:
    """A fresh machine with the image on it, which has not run yet.  ``symbols`` is a file for a ROM image.

    Raises ConfigurationError, and for a program that cannot be executed BadProgram at the first ``resume``.
    """
    streams = None if outside is None else outside.streams
    made: Target
    if isinstance(config, RomConfig):
        from sandbox.debug import rom_symbols
        from sandbox.debug.rom_target import RomTarget
        from sandbox.runner.rom import RomSession

        known = rom_symbols.known(image, symbols)
        sink = streams.stdout if streams is not None else None
        made = RomTarget(image.name, RomSession(image, config, sink), known)
    else:
        if symbols is not None:
            from sandbox.debug import rom_symbols

            rom_symbols.known(image, symbols)
        from sandbox.debug.kernel_target import KernelTarget
        from sandbox.runner.run import open_session

        made = KernelTarget(image.name, open_session(image, config, streams))
    made.outside = outside
    return made

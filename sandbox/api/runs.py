"""Whole runs: to the end, up to one page fault, or against a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from sandbox.api.images import image as load
from sandbox.api.options import Options, configuration, kernel_configuration
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.result import Result
from sandbox.runner.rom import RomConfig, RomSession, run_rom
from sandbox.runner.run import Session, open_session, run_target
from sandbox.runner.session import Streams
from sandbox.runner.target import Target
from sandbox.suite.check import Verdict, check_both, manifest_of
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.debug.bare_view import RomExplanation
    from sandbox.debug.explain import Explanation
    from sandbox.runner.modules import ModuleSession


def run(image: Target | str | Path, *, stdin: bytes | None = None, **options: Unpack[Options]) -> Result:
    """Run an image to its end on a machine of its own, which is gone afterwards; page faults are in the result.

    ``stdin`` is the manifest's where nothing is given.  Raises ConfigurationError for a machine that cannot be, and
    BadProgram for a file that cannot be executed; what the guest does wrong is in the result.
    """
    target = loaded(image)
    config = configuration(target, options)
    if isinstance(config, RomConfig):
        return run_rom(target, config)
    return run_target(target, config, Streams(given(target, stdin)))


def explain(
    image: Target | str | Path, number: int, *, stdin: bytes | None = None, **options: Unpack[Options]
) -> Explanation | RomExplanation:
    """Page fault ``number`` of a run, from 1: instruction, operands, the walk that failed, who answered it how.

    Raises NoSuchFault, or NoSuchRomFault, where the run had fewer.
    """
    target = loaded(image)
    if target.kind == "rom":
        from sandbox.debug.bare_view import explain_rom

        config = configuration(target, options)
        assert isinstance(config, RomConfig)
        with RomSession(target, config) as bare:
            return explain_rom(bare, number)
    from sandbox.debug import explain as explaining

    with session(target, stdin, options) as opened:
        return explaining.explain(opened, number)


def check(image: Target | str | Path, *, broken: bool = True) -> list[Verdict]:
    """Run an image as ``sandbox test`` does: in each paging mode of its manifest, whole and ``broken`` by its switch.

    Raises ConfigurationError for an image without a manifest.
    """
    target = loaded(image)
    if target.manifest is None or not target.manifest.file or not target.manifest.path.exists():
        raise ConfigurationError(f"{target.name}: it has no manifest to be checked against")
    modes = manifest_of(target).paging
    return [verdict for paging in modes for verdict in check_both(target, paging, broken=broken)]


def loaded(image: Target | str | Path) -> Target:
    """An image that is given, or named."""
    return image if isinstance(image, Target) else load(image)


def given(target: Target, stdin: bytes | None) -> BytesSource:
    """What standard input has: what is given, or the manifest's."""
    if stdin is None:
        stdin = target.manifest.stdin.encode() if target.manifest is not None else b""
    return BytesSource(stdin)


@contextmanager
def session(target: Target, stdin: bytes | None, options: Options) -> Iterator[Session | ModuleSession]:
    """A program or a module on a machine under the kernel."""
    streams = Streams(given(target, stdin))
    with open_session(target, kernel_configuration(target, options), streams) as opened:
        yield opened

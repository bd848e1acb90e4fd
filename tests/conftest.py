"""What tests share: programs assembled in memory, run on a machine of their own."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.machine.memory import PhysicalMemory
from sandbox.runner.result import Result
from sandbox.runner.run import Session, run_program
from tests.programs.summary import pytest_terminal_summary as pytest_terminal_summary

PhysicalMemory.audit_by_default = True
"""Every store of host bytes is checked against what the kernel has declared its frames to be."""

Program = Callable[[str], bytes]
Run = Callable[..., Result]
MakeSession = Callable[..., Session]

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCONT, signal.SIGCHLD)

for each, handler in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)
):  # fmt: skip
    if signal.getsignal(each) is signal.SIG_IGN:  # as in a shell's background job: all that tests start would, too
        signal.signal(each, handler)

HEAD = '        .include "linux.inc"\n        .globl _start\n        .text\n'


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes seconds begins first: no processor waits at the end for another's last test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """The tests themselves, ten thousand of them, are no garbage: each collection would look through them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """What a command sets for its process ends with the test: signal handlers, and how seldom garbage is looked for."""
    before, threshold = [signal.getsignal(each) for each in HANDLED], gc.get_threshold()
    yield
    for each, handler in zip(HANDLED, before, strict=True):
        signal.signal(each, handler)
    gc.set_threshold(*threshold)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """``program(text)``: the ELF file of a GNU as program in Intel syntax, with linux.inc; each is built once."""
    folder: Path = tmp_path_factory.mktemp("programs")
    built: dict[str, bytes] = {}

    def make(text: str) -> bytes:
        if text not in built:
            source, target = folder / f"p{len(built)}.S", folder / f"p{len(built)}"
            source.write_text(HEAD + text + "\n")
            assemble_source(source, target)
            built[text] = target.read_bytes()
        return built[text]

    return make


@pytest.fixture
def run(program: Program) -> Run:
    """``run(text, arguments=(), **config)``: the Result of a program, faults recorded."""

    def go(text: str, arguments: tuple[str, ...] = (), **config: object) -> Result:
        config.setdefault("time_limit", 20.0)
        return run_program("t", program(text), arguments, KernelConfig(**config), record_faults=True)  # type: ignore[arg-type]

    return go


@pytest.fixture
def session(program: Program) -> Iterator[MakeSession]:
    """``session(text, arguments=(), **config)``: a Session, closed after the test."""
    made: list[Session] = []

    def go(text: str, arguments: tuple[str, ...] = (), **config: object) -> Session:
        config.setdefault("time_limit", 20.0)
        made.append(Session("t", program(text), arguments, KernelConfig(**config)))  # type: ignore[arg-type]
        return made[-1]

    yield go
    for each in made:
        each.close()


@pytest.fixture(params=["pae", "legacy"])
def paging(request: pytest.FixtureRequest) -> str:
    """Both paging modes."""
    return str(request.param)

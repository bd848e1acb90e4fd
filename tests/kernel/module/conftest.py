"""Modules in C, and sessions with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.image.assemble import INCLUDES, assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.modules import ModuleSession
from sandbox.runner.result import Result
from sandbox.runner.run import Session
from sandbox.runner.target import ModuleFile

Compile = Callable[[str, str], bytes]
RunModule = Callable[..., Result]
RunBoth = Callable[..., Result]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``compiled(text, kind)``: a C source with module.h or user.h in front, built once."""
    folder: Path = tmp_path_factory.mktemp("guest")
    built: dict[tuple[str, str], bytes] = {}

    def make(text: str, kind: str) -> bytes:
        if (text, kind) not in built:
            header = "module.h" if kind == "module" else "user.h"
            source, target = folder / f"g{len(built)}.c", folder / f"g{len(built)}.out"
            source.write_text(f'#include "{INCLUDES}/{header}"\n{text}\n')
            assemble_source(source, target, kind)
            built[text, kind] = target.read_bytes()
        return built[text, kind]

    return make


@pytest.fixture
def run_module(compiled: Compile) -> RunModule:
    """``run_module(text, **config)``: a module loaded and unloaded; its Result.  ``body`` is of init_module."""

    def go(text: str, **config: object) -> Result:
        config.setdefault("time_limit", 20.0)
        if "init_module" not in text:
            text = f"int init_module(void) {{ {text} return 0; }}"
        made = KernelConfig(**config)  # type: ignore[arg-type]
        with ModuleSession(ModuleFile("m", compiled(text, "module")), made) as session:
            return session.finish()

    return go


@pytest.fixture
def run_both(compiled: Compile) -> Iterator[RunBoth]:
    """``run_both(module, program, **config)``: a program beside a module; its Result."""

    def go(module: str, program: str, **config: object) -> Result:
        config.setdefault("time_limit", 20.0)
        made = KernelConfig(**config)  # type: ignore[arg-type]
        file = ModuleFile("m", compiled(module, "module"))
        with Session("user", compiled(program, "program"), [], made, None, [file]) as session:
            return session.finish()

    yield go

"""Options of a machine, by the names that manifests and the kernel's configuration have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from sandbox.image.manifest import parse_direct_map, parse_size
from sandbox.kernel.base.config import KernelConfig
from sandbox.records import fields
from sandbox.runner.rom import RomConfig, rom_config
from sandbox.runner.target import Target
from sandbox.x86.errors import ConfigurationError


class Options(TypedDict, total=False):
    """What a machine may be asked for; what is left out is the manifest's, or the usual one.

    Sizes are bytes or texts such as ``"64M"``; times seconds of the host; ``block_limit`` blocks of the guest's clock.
    A ROM takes ``ram``, ``cpus``, ``seed``, ``switches``, ``sanitize`` and the two limits.
    """

    ram: int | str
    cpus: int
    paging: str
    boot: str
    highmem: str
    direct_map: int | str
    holes: tuple[tuple[int, int], ...]
    policies: Mapping[str, str]
    devices: tuple[str, ...]
    switches: frozenset[str]
    sanitize: frozenset[str]
    seed: int
    races: tuple[tuple[str, int], ...]
    quantum: int
    block_limit: int
    time_limit: float
    fail_allocation: int
    clock: str
    epoch: int
    root: Path
    writable: bool
    files: Mapping[str, bytes | Path]
    environment: tuple[str, ...]


def configuration(image: Target, options: Options) -> KernelConfig | RomConfig:
    """The machine for an image of any kind.  Raises ConfigurationError."""
    values = _values(options, RomConfig if image.kind == "rom" else KernelConfig, image.name)
    return rom_config(image, **values) if image.kind == "rom" else kernel_configuration(image, options)


def kernel_configuration(image: Target, options: Options) -> KernelConfig:
    """The same where a kernel is sure to be under it.  Files and policies are added to the manifest's."""
    values = _values(options, KernelConfig, image.name)
    base = image.config()
    for name in ("files", "policies"):
        if name in values:
            values[name] = {**getattr(base, name), **values[name]}  # type: ignore[dict-item]
    return image.config(**values)


def _values(options: Options, kind: type[KernelConfig] | type[RomConfig], name: str) -> dict[str, object]:
    known = {each.name for each in fields(kind)}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigurationError(
            f"{name}: this machine has no option {unknown[0]!r}", f"it has {', '.join(sorted(known))}"
        )
    values: dict[str, object] = dict(options)
    try:
        if "ram" in options:
            values["ram"] = parse_size(options["ram"])
        if "direct_map" in options:
            values["direct_map"] = parse_direct_map(options["direct_map"])
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    for word in ("switches", "sanitize"):
        if word in values:
            values[word] = frozenset(values[word])  # type: ignore[call-overload]
    return values

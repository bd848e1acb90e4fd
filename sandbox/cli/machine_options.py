"""The options that choose a machine, for every verb that builds one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sandbox.kernel.base.config import HIGHMEM, KernelConfig
from sandbox.kernel.base.inject import SWITCHES
from sandbox.kernel.base.policies import POLICIES
from sandbox.machine.switches import SWITCHES as BARE_SWITCHES
from sandbox.runner.machine import DEVICES
from sandbox.runner.target import Target, module_file
from sandbox.x86.errors import ConfigurationError

SANITIZERS = ("tlb",)


class _ChooseEngine(argparse.Action):
    """Tells the engine at once: it is one for the whole process."""

    def __call__(self, parser: object, options: argparse.Namespace, value: Any, option: str | None = None) -> None:
        from sandbox.engine import mends

        mends.choose(value)
        setattr(options, self.dest, value)


def add_engine_option(parser: argparse._ActionsContainer) -> None:
    """``--engine``."""
    parser.add_argument(
        "--engine", choices=("mended", "stock"), action=_ChooseEngine,
        help="x87 and SSE by this host's own instructions, encodings, system instructions and the clock as `sandbox "
        "doctor` lists them; or all as Unicorn has it (default: mended)",
    )  # fmt: skip


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """``--paging``, ``--ram``, ``--cpus`` and what else makes a machine."""
    group = parser.add_argument_group("machine")
    group.add_argument("--paging", choices=("pae", "legacy"), help="three levels with NX, or two levels (default: pae)")
    group.add_argument("--ram", metavar="SIZE", help="for example 16M or 4G (default: 64M)")
    group.add_argument(
        "--highmem", choices=HIGHMEM,
        help="RAM above the direct map: ignored, used up to 4 GB, or all (PAE only; default: what --paging reaches)",
    )  # fmt: skip
    group.add_argument(
        "--direct-map", metavar="SIZE",
        help="RAM that has kernel addresses for good, 8M to 896M; 'scaled': a share of RAM as 800 MB are of 1 GB "
        "(default: 800M)",
    )  # fmt: skip
    add_engine_option(group)
    group.add_argument("--cpus", type=int, metavar="N", help="1 to 8 (default: 1)")
    group.add_argument("--boot", metavar="LINE", help='kernel command line, for example "mem=16m"')
    group.add_argument(
        "--policy", dest="policies", action="append", default=[], metavar="NAME=VALUE",
        help="what one kernel version did and another did not: " + ", ".join(POLICIES),
    )  # fmt: skip
    group.add_argument(
        "--device", dest="devices", action="append", default=[], metavar="NAME[@ADDRESS]",
        help="plug a device in: " + ", ".join(DEVICES),
    )  # fmt: skip
    group.add_argument(
        "--module", dest="modules", action="append", default=[], metavar="IMAGE",
        help="load a module first: an object file, a source, or an image of kind module",
    )  # fmt: skip
    group.add_argument("--fail-allocation", type=int, metavar="N", help="let the Nth request for frames fail")
    group.add_argument(
        "--seed", type=int, metavar="N",
        help="of the scheduler and of random numbers (default: 0); with several CPUs it also lets others come in "
        "between two stores of the kernel's protocols",
    )  # fmt: skip
    group.add_argument(
        "--race", dest="races", action="append", default=[], metavar="POINT[:K]",
        help="let other CPUs go on where a protocol is half done, the Kth time it comes there (see --trace races)",
    )  # fmt: skip
    group.add_argument(
        "--break", dest="switches", action="append", default=[], metavar="SWITCH",
        choices=sorted({*SWITCHES, *BARE_SWITCHES}),
        help=f"leave out one step on purpose, of the kernel: {', '.join(sorted(SWITCHES))}; "
        f"under a ROM, of the machine: {', '.join(sorted(BARE_SWITCHES))}",
    )  # fmt: skip
    group.add_argument(
        "--sanitize", action="append", default=[], metavar="WHAT", choices=SANITIZERS,
        help="watch for stale translations (tlb); status 1 on a report",
    )  # fmt: skip
    group.add_argument("--root", type=Path, metavar="DIR", help="host directory that the program sees as /")
    group.add_argument(
        "--file", dest="files", action="append", default=[], metavar="HOST:GUEST",
        help="a host file at a path of the program's tree; what the program writes to it stays in memory",
    )  # fmt: skip
    group.add_argument("--write", action="store_true", help="let the program change files below --root")
    group.add_argument("--clock", choices=("virtual", "host"), help="the machine's own time, or the host's")
    group.add_argument(
        "--epoch", type=int, metavar="SECONDS", help="since 1970, when it starts (default: January 1999)"
    )
    group.add_argument("--limit", metavar="BLOCKS", help="end the run after so many blocks (1M, 50k)")
    group.add_argument(
        "--time-limit", type=float, metavar="SECONDS",
        help="of host time (default: 60, without a person's pauses; 0 for none)",
    )  # fmt: skip


def add_symbols_option(parser: argparse.ArgumentParser) -> None:
    """``--symbols``, for the verbs that look at a ROM."""
    parser.add_argument(
        "--symbols", type=Path, metavar="FILE",
        help="names for a ROM's addresses: an ELF file, or what nm prints (default: from its source, where that is)",
    )  # fmt: skip


def machine_config(options: argparse.Namespace, target: Target) -> KernelConfig:
    """The KernelConfig for an image and these options; the modules that these name join the image's.

    What of the command line nobody reads, and RAM that is ignored, is told on standard error.
    Raises ConfigurationError, and for modules what ``resolve`` raises.
    """
    target.modules += [module_file(name) for name in options.modules]
    config = target.config(
        paging=options.paging,
        ram=parse_count(options.ram),
        highmem=options.highmem,
        direct_map=_direct_map(options.direct_map),
        cpus=options.cpus,
        boot=options.boot,
        seed=options.seed,
        races=_races(options),
        policies={**(target.manifest.policies if target.manifest else {}), **_pairs(options.policies)},
        devices=(*(target.manifest.devices if target.manifest else ()), *options.devices),
        fail_allocation=options.fail_allocation,
        switches=frozenset(options.switches) or None,
        sanitize=frozenset(options.sanitize) or None,
        root=options.root,
        writable=options.write or None,
        files={**target.config().files, **_files(options.files)},
        clock=options.clock,
        epoch=options.epoch,
        block_limit=parse_count(options.limit),
        time_limit=options.time_limit,
    )
    if target.kind != "rom":
        _warn_of_boot(config)
    return config


def _warn_of_boot(config: KernelConfig) -> None:
    """What the kernel will say in its log: words that nobody reads, and RAM that it does not use."""
    from sandbox.kernel.mm.bootmem import parse_boot
    from sandbox.kernel.setup import plan_memory
    from sandbox.machine.memory import ram_ranges

    options = parse_boot(config.boot)
    ram = [(*each, 0) for each in ram_ranges(config.ram)]
    ignored = plan_memory(ram, config, options).warnings
    for warning in options.warnings + ignored:
        print(f"sandbox: {warning}", file=sys.stderr)


def _races(options: argparse.Namespace) -> tuple[tuple[str, int], ...] | None:
    """``POINT:K`` and so on; nothing when a seed is to choose, None for no races (or what the manifest has)."""
    from sandbox.kernel.base.races import parse_point

    try:
        places = tuple(parse_point(text) for text in options.races)
    except ValueError as error:
        raise ConfigurationError(f"--race {error}") from error
    return places if places or options.seed is not None else None


def _direct_map(text: str | None) -> int | None:
    from sandbox.image.manifest import parse_direct_map

    try:
        return None if text is None else parse_direct_map(text)
    except ValueError as error:
        raise ConfigurationError(f"--direct-map {error}") from error


def _pairs(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            known = "\n".join(f"{each}: {', '.join(values)}" for each, values in POLICIES.items())
            raise ConfigurationError(f"--policy {text}: give NAME=VALUE", known)
        found[name] = value
    return found


def _files(pairs: list[str]) -> dict[str, bytes | Path]:
    found: dict[str, bytes | Path] = {}
    for pair in pairs:
        host, colon, guest = pair.rpartition(":")
        if not colon or not host or not guest.startswith("/"):
            raise ConfigurationError(f"--file {pair}: give HOST:GUEST, with an absolute path of the program's tree")
        if guest in found:
            raise ConfigurationError(f"--file {pair}: {guest} is given twice")
        found[guest] = Path(host)
    return found


def parse_count(text: str | None) -> int | None:
    """A number with k, M or G behind it.  Raises ConfigurationError."""
    from sandbox.image.manifest import parse_size

    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error

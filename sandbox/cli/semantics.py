"""``sandbox semantics``: instructions against this host's CPU, or against what another one gave."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.cli.machine_options import add_engine_option

if TYPE_CHECKING:
    from sandbox.semantics.campaign import State, Work
    from sandbox.semantics.report import Found

FAMILIES = ("integer", "x87", "mmx", "sse", "sse2")
"""A copy, so that parsing options imports no table."""
SUFFIXES = ("-restarts", "-pages", "-step", "-alignment", "-code16")
SELF_MODIFYING = "self-modifying"
STATE = Path("semantics.state")


def add_parser(commands: Any, title: str) -> None:
    parser = commands.add_parser(
        "semantics",
        help=title,
        description="Execute instructions in the sandbox and on this host's CPU, and compare all that they leave.",
    )
    parser.usage = f"{parser.prog} [options] [FAMILY ...]"
    parser.add_argument(
        "families",
        nargs="*",
        metavar="FAMILY",
        help=f"of {', '.join(FAMILIES)} (default: all of these), {SELF_MODIFYING}; "
        f"with one of {', '.join(SUFFIXES)} behind it: "
        "faulting on the way and going on, with pages that the kernel brings, single-stepped, with alignment checked, "
        "in code of 16 bits",
    )
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="vectors of each (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed, other vectors (default: 1)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one a CPU)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what is done in a file, and go on from it")
    parser.add_argument("--json", action="store_true", help="all that was found as JSON on standard output")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="a test case an instruction")
    parser.add_argument("--image", type=Path, metavar="DIR", help="of each way to differ, a program that shows it")
    parser.add_argument("--all", action="store_true", help="with --image: of listed divergences too")
    parser.add_argument("--record", type=Path, metavar="FILE", help="only keep what this host's CPU does")
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="ask what was recorded in the place of the host")
    parser.add_argument(
        "--moo",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="what a 286 or 386 did in real mode: files of the SingleStepTests projects, packed by gzip or not",
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="a table in Markdown")
    add_engine_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from sandbox.cli.jobs import processes
    from sandbox.engine import mends
    from sandbox.semantics import campaign, corpus, host, processor, report
    from sandbox.semantics.campaign import Plan, State
    from sandbox.x86.errors import ConfigurationError

    _check_places(options)
    if options.moo is not None:
        return _moo(options)
    if options.corpus is not None:
        if options.families or options.record or options.resume:
            raise ConfigurationError("--corpus goes with none of FAMILY, --record and --resume")
        recorded = corpus.read(options.corpus)
        return _write(
            options, report.Found(recorded.processor, mends.chosen(), recorded.seed, campaign.replay(recorded))
        )
    families = _families(options)
    plan = Plan(families, options.seed, options.count, mends.chosen())
    if options.record is not None:
        corpus.write(options.record, campaign.record(plan))
        return 0
    state = State(options.resume, plan)
    host.build()
    if not _run(plan, state, processes("--jobs", options.jobs)):
        return _cut(state)
    return _write(options, report.Found(processor.this_host(), plan.engine, plan.seed, state.total()))


def _check_places(options: argparse.Namespace) -> None:
    """What takes minutes is not computed for a file that cannot be written.  Raises ConfigurationError."""
    from sandbox.cli.places import check_folder, check_place

    files = (("--junit", options.junit), ("--page", options.page), ("--record", options.record))
    for option, path in (*files, ("--resume", options.resume)):
        if path is not None:
            check_place(option, path)
    if options.image is not None:
        check_folder("--image", options.image)


def _moo(options: argparse.Namespace) -> int:
    """Files of one processor."""
    from sandbox.cli.jobs import processes
    from sandbox.engine import mends
    from sandbox.semantics import moo_run, report
    from sandbox.semantics.campaign import State
    from sandbox.x86.errors import ConfigurationError

    if options.families or options.corpus or options.record or options.image:
        raise ConfigurationError("--moo goes with none of FAMILY, --corpus, --record and --image")
    plan = moo_run.plan(options.moo, mends.chosen())
    state = State(options.resume, plan)
    if not _run(plan, state, processes("--jobs", options.jobs)):
        return _cut(state)
    return _write(options, report.Found(plan.processor, plan.engine, 0, state.total()))


def _families(options: argparse.Namespace) -> tuple[str, ...]:
    from sandbox.x86.errors import ConfigurationError

    known = (*FAMILIES, SELF_MODIFYING, *(family + suffix for suffix in SUFFIXES for family in FAMILIES))
    unknown = set(options.families) - set(known)
    if unknown:
        raise ConfigurationError(
            f"no family {min(unknown)!r}: known are {', '.join((*FAMILIES, SELF_MODIFYING))}",
            f"{', '.join(SUFFIXES)} may stand behind each of the first {len(FAMILIES)}",
        )
    if options.count < 1 or options.seed < 0:
        raise ConfigurationError("--count must be at least 1, --seed not negative")
    return tuple(family for family in known if family in options.families) or FAMILIES


def _run(plan: Work, state: State, jobs: int) -> bool:
    """False when Ctrl-C came."""
    from sandbox.semantics import campaign
    from sandbox.semantics.progress import Progress

    shown = Progress(sum(chunk[2] for chunk in plan.chunks()), sum(chunk[2] for chunk in state.done))
    chunks = campaign.run(plan, state, jobs)
    try:
        for vectors in chunks:
            shown.add(vectors)
    except KeyboardInterrupt:
        chunks.close()  # type: ignore[attr-defined]
        return False
    finally:
        shown.end()
    return True


def _cut(state: State) -> int:
    path = state.path or STATE
    if state.path is None:
        state.save(path)
    print(f"sandbox: interrupted; go on with the same options and --resume {path}", file=sys.stderr)
    return 130


def _write(options: argparse.Namespace, found: Found) -> int:
    """Tell what was found; the exit status."""
    from sandbox.semantics import report

    for path, text in ((options.junit, report.junit), (options.page, report.page)):
        if path is not None:
            _store(path, text(found))
    print(json.dumps(report.to_dict(found), indent=2) + "\n" if options.json else report.text(found), end="")
    if options.image is not None:
        _write_images(options, found)
    return 1 if found.tally.new else 0


def _write_images(options: argparse.Namespace, found: Found) -> None:
    from sandbox.semantics import campaign, image
    from sandbox.x86.errors import ConfigurationError

    for (_, _, cause), kept in found.tally.kept.items():
        if (options.all or not cause) and not image.can_show(kept[0].vector):
            print(
                f"sandbox: no image of {kept[0].vector.form}: its pages or its code are not ordinary", file=sys.stderr
            )
        elif options.all or not cause:
            least = campaign.smallest(kept[0])
            try:
                home = image.write(options.image, least, found.processor.name, found.processor.vendor)
            except OSError as error:
                raise ConfigurationError(f"{options.image}: {error.strerror}") from error
            print(f"sandbox: wrote {home}", file=sys.stderr)


def _store(path: Path, text: str) -> None:
    from sandbox.x86.errors import ConfigurationError

    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error

"""What campaigns are made of: images against their manifests, and one image under many seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.campaign.items import Item
from sandbox.engine import mends
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.records import replace
from sandbox.runner.run import open_session
from sandbox.runner.session import Streams
from sandbox.runner.target import Target
from sandbox.semantics import campaign as semantics
from sandbox.semantics.campaign import Plan
from sandbox.suite.check import check_both, manifest_of


def image_items(targets: Sequence[Target], *, broken: bool = True) -> list[Item]:
    """An item for each image and paging mode, with the engine that is chosen here."""
    return [
        Item(f"{target.name} {paging}", f"{__name__}:check", (target, paging, broken, mends.chosen()))
        for target in targets
        for paging in manifest_of(target).paging
    ]


def check(target: Target, paging: str, broken: bool, engine: str) -> list[dict[str, Any]]:
    """The verdicts, whole and broken; of a broken run that was noticed not by what, which seconds may decide."""
    mends.choose(engine)
    return [
        {
            "image": verdict.name, "paging": paging, "switch": verdict.switch or None, "passed": verdict.passed,
            "failures": [] if verdict.passed else verdict.failures,
        }
        for verdict in check_both(target, paging, broken=broken)
    ]  # fmt: skip


def vector_items(plan: Plan) -> list[Item]:
    """An item for each chunk of ``sandbox semantics``."""
    return [
        Item(f"{family} {first:09}", f"{__name__}:run_vectors", (plan.engine, plan.seed, family, first, count))
        for family, first, count in plan.chunks()
    ]


def run_vectors(engine: str, seed: int, family: str, first: int, count: int) -> dict[str, Any]:
    """The tally of a chunk, against the CPU of the host where it runs, without the times."""
    mends.choose(engine)
    told = semantics.run_chunk(seed, (family, first, count)).to_dict()
    del told["seconds"]
    return told


def seed_items(target: Target, config: KernelConfig, seeds: range) -> list[Item]:
    """An item for each seed of a schedule, with the engine that is chosen here."""
    engine = mends.chosen()
    return [Item(f"{seed:06}", f"{__name__}:run_seed", (target, config, seed, engine)) for seed in seeds]


def run_seed(target: Target, config: KernelConfig, seed: int, engine: str) -> dict[str, Any]:
    """How the image ends under a seed's schedule."""
    mends.choose(engine)
    given = target.manifest.stdin.encode() if target.manifest is not None else b""
    with open_session(target, replace(config, seed=seed, races=()), Streams(BytesSource(given))) as session:
        whole = session.finish().to_dict()
    told = {key: whole[key] for key in ("status", "signal", "error", "stdout", "stderr")}
    return {**told, "sanitizer": sorted({each["kind"] for each in whole["sanitizer"]})}

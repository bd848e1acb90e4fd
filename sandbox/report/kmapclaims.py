"""What posts 001 and 004 say of reaching highmem, each sentence beside what was measured.

A claim is judged from the counts; where the mechanism that it is about was not measured there is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.records import asdict, dataclass
from sandbox.runner.kmapcost import SHARED, Cost, Measured

TWEEDIE, PFLUGSTAD = "001 (Tweedie, January 1999)", "004 (pflugstad, October 2009)"
Costs = dict[tuple[str, str], Cost]
"""By mechanism and work."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of a post; ``holds`` is None when nothing was measured that could tell."""

    post: str
    sentence: str
    measured: str
    holds: bool | None


def claims(found: Sequence[Measured]) -> list[Claim]:
    """All of them, in the order of the posts."""
    costs = {(each.mechanism, each.work): each.cost for each in found}
    return [judge(costs) for judge in _JUDGES]


def _unmeasured(post: str, sentence: str) -> Claim:
    return Claim(post, sentence, "not measured", None)


def _persistent(costs: Costs) -> Claim:
    sentence = "we don't have to update the va mappings for every single kernel access"
    cost = costs.get(("sequence", "read"))
    if cost is None:
        return _unmeasured(TWEEDIE, sentence)
    text = f"read: {cost.pte_stores:,} entries stored for {cost.page_maps:,} accesses, {cost.hits:,} of them hits"
    return Claim(TWEEDIE, sentence, text, cost.pte_stores < cost.page_maps)


def _better(costs: Costs) -> Claim:
    sentence = "it's better than remapping for every single highmem access"
    pool, window = costs.get(("sequence", "copy")), costs.get(("stack", "copy"))
    if pool is None or window is None:
        return _unmeasured(TWEEDIE, sentence)
    text = (
        f"copy: {pool.pte_stores:,} entries stored and {pool.invlpg:,} INVLPG by the pool, {window.pte_stores:,} and "
        f"{window.invlpg:,} by windows"
    )
    return Claim(TWEEDIE, sentence, text, pool.pte_stores + pool.invlpg < window.pte_stores + window.invlpg)


def _deferred(costs: Costs) -> Claim:
    sentence = "defer the SMP-global page invalidation until we detect a cross-CPU conflict"
    pairs = [(costs.get(("sequence", work)), costs.get(("everywhere", work))) for work in ("copy", "storm", "read")]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not both:
        return _unmeasured(TWEEDIE, sentence)
    one, other = (sum(pair[side].ipis for pair in both) for side in (0, 1))
    text = f"{one:,} interrupts to other CPUs with sequence numbers, {other:,} with a flush everywhere at each recycle"
    return Claim(TWEEDIE, sentence, text, one < other if other else None)


def _conflict(costs: Costs) -> Claim:
    """Addresses that are good everywhere, unchecked: a conflict is one that other CPUs had to be told of."""
    sentence = (
        "only if several CPUs need to access the same kva without an intervening context switch do we invalidate "
        "everywhere"
    )
    found = [(work, cost) for (mechanism, work), cost in costs.items() if mechanism == "sequence"]
    if not any(cost.recycles for _, cost in found):
        return _unmeasured(TWEEDIE, sentence)
    text = ", ".join(f"{cost.conflicts:,} of {cost.recycles:,} ({work})" for work, cost in found)
    interrupts = sum(cost.ipis for _, cost in found)
    return Claim(
        TWEEDIE, sentence, f"recycled addresses that were in conflict: {text}; {interrupts:,} interrupts, none without",
        all(bool(cost.ipis) == bool(cost.conflicts) for _, cost in found),
    )  # fmt: skip


def _lap(costs: Costs) -> Claim:
    """What the merged kernels did instead of the pool: is it worse where CPUs share addresses?"""
    sentence = "Much better to use the page_kva() style, and make the temporary mapping persistent"
    pairs = [(work, costs.get(("sequence", work)), costs.get(("kmap", work))) for work in SHARED]
    both = [(work, pool, kmap) for work, pool, kmap in pairs if pool is not None and kmap is not None]
    if not both:
        return _unmeasured(TWEEDIE, sentence)
    text = "interrupts by the pool and by kmap, which flushes once for many: " + ", ".join(
        f"{pool.ipis:,} and {kmap.ipis:,} ({work})" for work, pool, kmap in both
    )
    return Claim(TWEEDIE, sentence, text, all(pool.ipis <= kmap.ipis for _, pool, kmap in both))


def _own_mapping(costs: Costs) -> Claim:
    sentence = "we just copy it out of the existing mm context and into the newly allocate page"
    cost = costs.get(("stack", "storm"))
    if cost is None:
        return _unmeasured(TWEEDIE, sentence)
    return Claim(
        TWEEDIE, sentence, f"storm: {cost.page_maps:,} windows for {cost.copies:,} copies: one each, the target's",
        0 < cost.page_maps <= cost.copies * 1.1,
    )  # fmt: skip


def _flush(costs: Costs) -> Claim:
    sentence = "since you changed the virtual<->physical mapping, now you have to flush your TLB"
    cost = costs.get(("stack", "read"))
    if cost is None:
        return _unmeasured(PFLUGSTAD, sentence)
    text = f"read: {cost.global_flushes:,} whole flushes for {cost.page_maps:,} windows; one INVLPG each, here only"
    return Claim(PFLUGSTAD, sentence, text, cost.global_flushes >= cost.page_maps)


def _user_pointers(costs: Costs) -> Claim:
    sentence = "pointers the user space process may pass may point to memory that is not currently mapped"
    cost = costs.get(("stack", "read"))
    if cost is None:
        return _unmeasured(PFLUGSTAD, sentence)
    text = f"read: {cost.page_maps:,} windows for {cost.calls:,} reads into the program's highmem: the file's page only"
    return Claim(PFLUGSTAD, sentence, text, cost.page_maps >= 2 * cost.calls)


_JUDGES: tuple[Callable[[Costs], Claim], ...] = (
    _persistent, _better, _deferred, _conflict, _lap, _own_mapping, _flush, _user_pointers,
)  # fmt: skip


def to_dicts(found: Sequence[Claim]) -> list[dict[str, object]]:
    """For JSON."""
    return [asdict(each) for each in found]

"""How highmem was reached, for ``--stats``: a row for each mechanism that was used, none for the others."""

from __future__ import annotations

from sandbox.runner.result import Summary

_COSTS = {
    "pte_stores": "entries stored", "local_invlpg": "INVLPG", "avoided": "avoided by CR3 loads", "laps": "laps",
    "global_flushes": "global flushes", "conflicts": "conflicts between CPUs", "ipis": "interrupts to other CPUs",
    "sleeps": "sleeps", "refused": "passed over for IO", "given_back": "given back by freed pages",
    "tables": "tables of 4 KB",
}  # fmt: skip
"""Field of a pool's counters to its word."""


def highmem_rows(summary: Summary) -> list[tuple[str, str]]:
    """Names and values."""
    rows = []
    for name, pool in (("kva pool", summary.kva), ("kmap pool", summary.kmap)):
        if pool.get("hits") or pool.get("misses"):
            rows.append((name, pool_text(pool)))
    windows, pages = summary.kmap_atomic, summary.high_pages
    if windows.get("windows") or windows.get("refused"):
        rows.append(("kmap_atomic", _windows_text(windows)))
    if pages.get("maps") or pages.get("strays"):
        text = (
            f"{pages['maps']:,} addresses, {pages['pte_stores']:,} entries stored, {pages['invlpg']:,} INVLPG, "
            f"{pages['strays']:,} by windows after all"
        )
        rows.append(("high pages", text))
    return rows


def pool_text(pool: dict[str, int]) -> str:
    """Hits and misses, and what was not 0 of the rest."""
    asked = pool["hits"] + pool["misses"]
    hits = f"{pool['hits']:,} of {asked:,} hit ({pool['hit_rate']} %)"
    first = f"{hits}, {pool['recycles']:,} recycles, {pool['capacity']:,} slots"
    costs = [f"{pool[name]:,} {word}" for name, word in _COSTS.items() if pool.get(name)]
    return ", ".join([first, *costs])


def _windows_text(windows: dict[str, int]) -> str:
    return (
        f"{windows['windows']:,} windows, {windows['pte_stores']:,} entries stored, {windows['invlpg']:,} INVLPG, "
        f"{windows['deepest']} open at most, {windows['refused']:,} refused "
        f"({windows['refused_by_fragmentation']:,} by fragmentation{_last_refusal(windows)})"
    )


def _last_refusal(windows: dict[str, int]) -> str:
    """How the windows lay when a run of them was refused that would have fitted, had they been in a row."""
    if not windows.get("refused_by_fragmentation"):
        return ""
    free, runs, longest = (windows[f"{what}_when_refused"] for what in ("free", "runs", "longest"))
    return f": {free} free in {runs} runs, the longest of {longest}"

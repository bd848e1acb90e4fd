"""``sandbox compare kmap`` as text: a table for each work, and the posts' claims, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from sandbox.report.kmapclaims import Claim
from sandbox.runner.kmapcost import MECHANISMS, WORKS, Measured

COLUMNS = 80
FIELDS = {
    "pte_stores": "stores", "invlpg": "invlpg", "cr3_loads": "CR3", "global_flushes": "flushes", "ipis": "IPIs",
    "tlb_misses": "misses",
}  # fmt: skip
MORE = {
    "page_maps": "maps", "hits": "hits", "recycles": "recycl.", "sleeps": "sleeps", "blocks_user": "user",
    "blocks_kernel": "kernel",
}  # fmt: skip
_WIDTHS, _MORE_WIDTHS = (8, 7, 7, 8, 9, 11), (8, 7, 7, 7, 11, 10)
VERDICTS = {True: "holds", False: "does not hold", None: "open"}


def tables(found: Sequence[Measured]) -> list[str]:
    """Two for each work: what the CPUs did, what the mechanism did and how many blocks ran."""
    lines: list[str] = []
    for work in dict.fromkeys(each.work for each in found):
        rows = [each for each in found if each.work == work]
        lines += [WORKS[work], *_table(rows, FIELDS, _WIDTHS), "", *_table(rows, MORE, _MORE_WIDTHS), ""]
    return lines


def _table(rows: Sequence[Measured], names: dict[str, str], widths: Sequence[int]) -> list[str]:
    head = "".join(f" {title:>{width}}" for title, width in zip(names.values(), widths, strict=True))
    lines = [f"  {'':22}{head}"]
    for row in rows:
        cells = zip(names, widths, strict=True)
        values = "".join(f" {getattr(row.cost, name):>{width},}" for name, width in cells)
        lines.append(f"  {_short(row.mechanism):22}{values}")
    return lines


def _short(mechanism: str) -> str:
    title = MECHANISMS[mechanism][0]
    return title.replace("kva pool", "pool").replace("sequence numbers", "sequence").replace("kmap_atomic", "atomic")


def claim_lines(found: Sequence[Claim]) -> list[str]:
    """Each claim with what was measured and whether it holds."""
    lines = ["What the posts claim, and what was measured"]
    for each in found:
        for label, text in (("post", f'{each.post}: "{each.sentence}"'), (VERDICTS[each.holds], each.measured)):
            lines += textwrap.wrap(f"{label}: {text}", COLUMNS - 2, initial_indent="  ", subsequent_indent="      ")
        lines.append("")
    return lines[:-1]

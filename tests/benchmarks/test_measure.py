"""The table's judgement: what is ok, what is short, and that every sampler gets its turns."""

from __future__ import annotations

import pytest

from benchmarks.measure import Row, interleaved, table


@pytest.mark.parametrize(
    ("value", "bar", "least", "verdict"),
    [
        (96.0, 95, True, "ok"),
        (95.0, 95, True, "ok"),
        (94.9, 95, True, "short"),
        (3.9, 4, False, "ok"),
        (4.1, 4, False, "short"),
        (4.1, None, False, ""),
    ],
)
def test_verdict(value: float, bar: float | None, least: bool, verdict: str) -> None:
    row = Row("row", value, "x", bar, least)
    assert row.verdict == verdict
    assert row.to_dict()["verdict"] == verdict


def test_turns_are_interleaved_and_the_first_round_only_warms() -> None:
    order: list[str] = []

    def sampler(name: str, values: list[float]):  # type: ignore[no-untyped-def]
        left = iter(values)

        def sample() -> float:
            order.append(name)
            return next(left)

        return sample

    medians = interleaved({"a": sampler("a", [99, 1, 5, 3]), "b": sampler("b", [0, 2, 2, 8])}, 3)
    assert medians == {"a": 3, "b": 2}
    assert order == ["a", "b"] * 4
    assert interleaved({"a": sampler("a", [0, 5, 3, 4])}, 3, min) == {"a": 3}


def test_table_has_a_line_for_every_row() -> None:
    lines = table([Row("first", 1.234, "x", 2), Row("second", 5, "ms", 4, note="why")]).splitlines()
    assert [line.split()[0] for line in lines] == ["measured", "first", "second"]
    assert "<= 2 x" in lines[1] and lines[1].endswith("ok")
    assert "short" in lines[2] and lines[2].endswith("why")

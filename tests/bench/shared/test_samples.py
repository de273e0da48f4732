from __future__ import annotations

from bench.shared.samples import SEVERAL, Samples, table


def samples(*, rate: float, seconds: float) -> Samples:
    made = Samples()
    for factor in (1, 2, 3):
        made.rate("chat", "tokens/s", rate * factor)
        made.seconds("search", [seconds * factor] * SEVERAL)
    made.seconds("seldom", [seconds])
    return made


def test_the_table_has_medians_in_their_units_and_the_second_s_ratio_to_the_first() -> None:
    found = table(["here", "there"], [samples(rate=10, seconds=0.001), samples(rate=5, seconds=0.004)])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()]
    assert rows[0][2:] == ["here: p50", "p95", "there: p50", "p95", "ratio of p50"]
    assert rows[2:] == [
        ["chat", "tokens/s", "20.0", "", "10.0", "", "0.50"],
        ["search", "ms", "2.0", "3.0", "8.0", "12.0", "4.00"],
        ["seldom", "ms", "1.0", "", "4.0", "", "4.00"],  # one sample has no p95
    ]


def test_every_row_is_as_wide_as_the_head() -> None:
    lines = table(["here", "there"], [samples(rate=1, seconds=1), samples(rate=1, seconds=1)]).splitlines()
    assert {line.count("|") for line in lines} == {8}


def test_what_took_no_time_has_no_ratio() -> None:
    nothing = Samples()
    nothing.seconds("search", [0.0])
    assert table(["here", "there"], [nothing, nothing]).endswith("| – |")

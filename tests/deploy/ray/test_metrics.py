from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from deploy.ray.metrics import merged

ONE = """# HELP asked_total Requests.
# TYPE asked_total counter
asked_total{adapter="a b"} 1.0
asked_total{adapter="c"} 2.0
# HELP up Whether.
# TYPE up gauge
up 1.0
"""
OTHER = """# HELP up Whether.
# TYPE up gauge
up 0.0
# HELP slow_seconds Time.
# TYPE slow_seconds histogram
slow_seconds_bucket{le="+Inf"} 3.0
slow_seconds_count 3.0
slow_seconds_sum 0.5
"""


def test_every_sample_says_whose_it_is():
    families = {family.name: family for family in text_string_to_metric_families(merged({"0": ONE, "1": OTHER}))}
    asked = {(s.labels["replica"], s.labels["adapter"]): s.value for s in families["asked"].samples}
    assert asked == {("0", "a b"): 1.0, ("0", "c"): 2.0}
    assert {s.labels["replica"]: s.value for s in families["up"].samples} == {"0": 1.0, "1": 0.0}
    assert [s.name for s in families["slow_seconds"].samples] == [
        "slow_seconds_bucket",
        "slow_seconds_count",
        "slow_seconds_sum",
    ]


def test_a_metric_of_two_replicas_is_described_once_and_stands_together():
    lines = merged({"0": ONE, "1": OTHER}).splitlines()
    assert lines.count("# TYPE up gauge") == 1
    place = lines.index('up{replica="0"} 1.0')
    assert lines[place + 1] == 'up{replica="1"} 0.0'

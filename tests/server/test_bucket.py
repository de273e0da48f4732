"""A bucket refills evenly, never over its rim, and a debt is paid back before anything is there again."""

from __future__ import annotations

from server.bucket import Bucket, refilled


def test_it_refills_evenly_and_not_over_its_rim() -> None:
    bucket = Bucket.full(60, now=0.0)
    bucket.level -= 30
    bucket.refill(10.0)
    assert bucket.level == 40
    bucket.refill(1000.0)
    assert bucket.level == 60


def test_the_wait_for_an_amount_includes_the_debt() -> None:
    bucket = Bucket.full(60, now=0.0)
    bucket.put_back(-90)
    assert bucket.level == -30
    assert bucket.seconds_until(1) == 31
    bucket.refill(31.0)
    assert bucket.seconds_until(1) == 0


def test_what_comes_back_does_not_overflow() -> None:
    bucket = Bucket.full(10, now=0.0)
    bucket.put_back(5)
    assert bucket.level == 10


def test_no_limit_has_no_bucket_and_a_changed_limit_starts_full() -> None:
    bucket = refilled(None, 10, now=0.0)
    assert bucket is not None
    bucket.level = 0
    assert refilled(bucket, 10, now=6.0) is bucket
    assert bucket.level == 1
    raised = refilled(bucket, 20, now=6.0)
    assert raised is not None
    assert raised.level == 20
    assert refilled(bucket, None, now=6.0) is None

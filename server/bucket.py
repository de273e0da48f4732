"""So many per minute, refilled evenly."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60.0
ROUNDING = 1e-6  # whoever waited as long as told finds its place, whatever floats make of it


@dataclass(slots=True)
class Bucket:
    """So many per minute; `level` may be below zero after a settlement."""

    per_minute: int
    level: float
    filled_at: float

    @classmethod
    def full(cls, per_minute: int, now: float) -> Bucket:
        """A bucket that nothing was taken from yet."""
        return cls(per_minute, float(per_minute), now)

    def refill(self, now: float) -> None:
        """What has come back since the last look."""
        self.level = min(self.per_minute, self.level + (now - self.filled_at) * self.per_minute / MINUTE)
        self.filled_at = now

    def seconds_until(self, amount: float) -> float:
        """Seconds until so much is there; 0 when it is there now."""
        missing = amount - self.level
        return missing * MINUTE / self.per_minute if missing > ROUNDING else 0.0

    def put_back(self, amount: float) -> None:
        """Give back what was not used; negative takes what was used beyond the estimate."""
        self.level = min(self.per_minute, self.level + amount)


def refilled(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    """The bucket as it is now; None for no limit, and a full one where the limit is new."""
    if per_minute is None:
        return None
    if bucket is None or bucket.per_minute != per_minute:  # a limit that was changed starts full
        return Bucket.full(per_minute, now)
    bucket.refill(now)
    return bucket

"""One file per step, numbered; `upgrade` only, because a data directory is never taken back."""

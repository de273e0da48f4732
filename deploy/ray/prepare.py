"""`python -m deploy.ray.prepare`: what a server that is alone does at its start, done before the replicas start."""

from __future__ import annotations

import sys

from server import logs
from server.boot import put_in_order
from server.cli_output import errors_are_told
from server.offline import Offline
from server.settings import load_settings


def main() -> int:
    """Migrate, mend what the last end left half-done, install the demo. Only while no replica runs."""
    settings = load_settings()
    logs.configure(settings)
    with errors_are_told(), Offline(settings) as offline:
        put_in_order(offline.app.state.services)
    return 0


if __name__ == "__main__":
    sys.exit(main())

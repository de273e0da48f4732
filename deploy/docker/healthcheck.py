"""Whether the server in this container answers GET /health: exit status 0, else 1. Standard library only."""

from __future__ import annotations

import os
import sys
import urllib.request

TIMEOUT_SECONDS = 4.0  # below the health check's own

# never by a proxy: the server is in this container
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    """The exit status; what was wrong goes to the container's health log."""
    port = os.environ.get("MANYHATS_PORT") or "8000"
    try:
        with _opener.open(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT_SECONDS):
            return 0
    except OSError as error:  # refused, timed out, or a status that is none of success
        print(f"GET /health on port {port}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

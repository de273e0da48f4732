"""What a person reads when the server is ready: where it is, what `model` may be, and a line to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from server.probe import Listing

QUESTION = "What can you do?"
GUIDE = "demo-guide"  # not imported from `server.demo`, which brings the database with it
GUIDE_QUESTION = "When does Brisa Bikes open?"  # its answer is in the demo's documents


def banner(address: str, seconds: float, listing: Listing, base_name: str) -> str:
    """Lines for a terminal. `listing` is what GET /v1/models said; without a key only the base's name is known."""
    names = listing.names or [base_name]
    lines = ["", f"Manyhats is ready at {address} after {seconds:.0f} s; a browser finds the console there."]
    lines.append(f"`model` may be: {', '.join(names)}")
    if listing.needs_key:
        lines.append("and more; each request needs an API key: `manyhats keys create NAME` makes one.")
    lines += ["Try:", f"  {curl_line(address, _to_try(listing, base_name), needs_key=listing.needs_key)}", ""]
    return "\n".join(lines)


def curl_line(address: str, model: str, *, needs_key: bool) -> str:
    """A chat request that can be pasted into a shell; the demo's guide is asked what its documents know."""
    question = GUIDE_QUESTION if model == GUIDE else QUESTION
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
    key = ' -H "Authorization: Bearer $MANYHATS_API_KEY"' if needs_key else ""
    return f"curl {address}/v1/chat/completions{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _to_try(listing: Listing, base_name: str) -> str:
    """The demo's guide, whose answer has sources; else the first adapter, else the base."""
    if GUIDE in listing.names:
        return GUIDE
    adapters: Sequence[str] = [name for name, kind in listing.models if kind == "adapter"]
    return adapters[0] if adapters else base_name

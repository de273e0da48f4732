"""The sources of an answer as Open WebUI shows them: a `source` event in the first chunk of a stream.

Annotations alone are not enough there. It reads `[2]` as the second source that it was told of, so an answer that cites
the second one only, or before the first, would be shown with the wrong name or with none.

https://docs.openwebui.com/features/extensibility/plugin/development/events/
"""

from __future__ import annotations

from typing import Any

from server.citing.bibliography import Bibliography
from server.source import Source


def source_event(bibliography: Bibliography) -> dict[str, Any] | None:
    """All sources by number, with their text; None where there are none.

    Without scores: it would show them as percentages of relevance, in red for what is a good one here.
    """
    sources = bibliography.retrieved.sources
    if not sources:
        return None
    data = {
        "source": {"name": "retrieval"},
        "document": [source.hit.passage.text for source in sources],
        "metadata": _metadata(bibliography),
    }
    return {"type": "source", "data": data}


def _metadata(bibliography: Bibliography) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    addresses: set[str] = set()
    for source in bibliography.retrieved.sources:
        # sources of one address become one, which would move the numbers behind them; the first keeps the address of
        # its annotations, which are then counted to it
        address = bibliography.link(source)
        if address in addresses:
            address = f"{address}{'&' if '#' in address else '#'}source={source.number}"
        addresses.add(address)
        told.append({"source": address, "external": True, **_named(source)})
    return told


def _named(source: Source) -> dict[str, Any]:
    """`external` above keeps this name before the address; pages are counted from 0 there."""
    passage = source.hit.passage
    return {"name": passage.filename} | ({} if passage.page is None else {"page": passage.page - 1})

"""The sources of one answer in the words of each dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.citations import Citation, Markers
from server.engine.vllm_frames import prescribing
from server.retrieved import Retrieved
from server.source import Source
from server.source_links import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Bibliography:
    """What was retrieved for one answer, and what may be said of it there."""

    retrieved: Retrieved
    link: Link
    prescribed: bool = False  # the request prescribes the answer's form, so brackets in it are JSON's and not markers
    echoed: str = ""  # what stands before the answer of a completion that repeats its prompt

    @classmethod
    def of(cls, retrieved: Retrieved, link: Link, body: Mapping[str, Any]) -> Bibliography:
        """For the answer to this request, as its client sent it and with what its assistant presets."""
        prompt = body.get("prompt")
        return cls(
            retrieved=retrieved,
            link=link,
            prescribed=prescribing(body) is not None,
            echoed=prompt if body.get("echo") and isinstance(prompt, str) else "",
        )

    def markers(self) -> Markers:
        """A reader for one text of the answer."""
        numbers = () if self.prescribed else tuple(source.number for source in self.retrieved.sources)
        strip = self.retrieved.strip_markers and not self.prescribed
        return Markers(numbers, strip=strip, position=len(self.echoed))

    def opening(self) -> dict[str, Any]:
        """The `retrieval` object before the answer: without `cited`."""
        return self.retrieved.as_object(None)

    def closing(self, cited: Iterable[int]) -> dict[str, Any]:
        """What a stream's end adds to it: the numbers of the sources that the answer cites."""
        return {} if self.prescribed else {"cited": list(cited)}

    def whole(self, cited: Iterable[int]) -> dict[str, Any]:
        """The `retrieval` object of an answer in one body."""
        numbers = list(cited)
        return {**self.retrieved.as_object(None if self.prescribed else numbers), **self.closing(numbers)}

    def url_citations(self, citations: Iterable[Citation]) -> list[dict[str, Any]]:
        """Annotations of chat completions, one for each number of each marker."""
        return [self._url_citation(citation) for citation in citations]

    def file_citations(self, citations: Iterable[Citation]) -> list[dict[str, Any]]:
        """Annotations of Responses; `index` is where the marker begins in the text."""
        return [self._file_citation(citation) for citation in citations]

    def search_result_locations(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """Citations of Anthropic's messages, one for each source."""
        return [self._search_result_location(self._source(number)) for number in numbers]

    def _url_citation(self, citation: Citation) -> dict[str, Any]:
        source = self._source(citation.number)
        cited = {
            "start_index": citation.start,
            "end_index": citation.end,
            "title": source.hit.passage.filename,
            "url": self.link(source),
        }
        return {"type": "url_citation", "url_citation": cited}

    def _file_citation(self, citation: Citation) -> dict[str, Any]:
        passage = self._source(citation.number).hit.passage
        return {
            "type": "file_citation",
            "file_id": passage.file_id,
            "filename": passage.filename,
            "index": citation.start,
        }

    def _search_result_location(self, source: Source) -> dict[str, Any]:
        passage = source.hit.passage
        return {
            "type": "search_result_location",
            "cited_text": passage.text,
            "title": passage.filename,
            "source": self.link(source),
            "search_result_index": source.number - 1,
            "start_block_index": 0,
            "end_block_index": 1,
        }

    def _source(self, number: int) -> Source:
        return next(source for source in self.retrieved.sources if source.number == number)


def first_cited(readers: Iterable[Markers]) -> list[int]:
    """Numbers that any of these texts cites, in the order of their first markers."""
    return list(dict.fromkeys(number for reader in readers for number in reader.cited))

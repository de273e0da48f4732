"""Vector stores through OpenAI's client and its polling helpers: the real ingestion process, embedder and search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import openai
import pytest
from openai.types import VectorStore, VectorStoreSearchResponse

from tests.e2e.library import FERRY, FILES, SKY, SOON_MS, Library
from tests.retrieval import made_files as make

DAY = 24 * 60 * 60
WORDS = ("anchor", "beacon", "cabin", "dinghy", "estuary", "funnel", "galley", "hatch", "inlet", "jetty")


def search(client: openai.OpenAI, store_id: str, query: str, **asked: Any) -> list[VectorStoreSearchResponse]:
    return list(client.vector_stores.search(store_id, query=query, **asked))


def names(found: Sequence[VectorStoreSearchResponse]) -> list[str]:
    return [result.filename for result in found]


def uploaded(client: openai.OpenAI, texts: Sequence[str]) -> list[str]:
    """The ids of files with these texts."""
    return [
        client.files.create(file=(f"{number:03}.txt", text.encode()), purpose="assistants").id
        for number, text in enumerate(texts)
    ]


def test_created_listed_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.vector_stores.create(name="harbour", description="What the harbour says", metadata={"team": "boats"})
    assert made.object == "vector_store"
    assert made.status == "completed"
    assert made.file_counts.total == 0
    assert made.usage_bytes == 0
    assert made.metadata == {"team": "boats"}
    assert made.id in [store.id for store in client.vector_stores.list()]
    changed = client.vector_stores.update(
        made.id, name="port", metadata={"team": "ships"}, expires_after={"anchor": "last_active_at", "days": 3}
    )
    assert (changed.name, changed.metadata) == ("port", {"team": "ships"})
    assert changed.expires_at == changed.last_active_at + 3 * DAY  # type: ignore[operator]  # set: the store was made
    assert client.vector_stores.retrieve("port").id == made.id  # a name is as good as an id
    assert client.vector_stores.update(made.id, expires_after=None).expires_at is None
    assert client.vector_stores.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.vector_stores.retrieve(made.id)


def test_lists_go_in_both_directions(client: openai.OpenAI) -> None:
    made = [client.vector_stores.create(name=f"page {n}").id for n in range(4)]
    newest = client.vector_stores.list(limit=2)
    assert [store.id for store in newest.data] == made[:1:-1]
    assert newest.has_more
    after = client.vector_stores.list(limit=2, after=newest.data[-1].id)
    assert [store.id for store in after.data] == made[1::-1]
    before = client.vector_stores.list(limit=3, before=after.data[0].id)
    assert [store.id for store in before.data] == made[:1:-1]
    for store_id in made:
        client.vector_stores.delete(store_id)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
        ({"file_ids": ["file-nothing"]}, None),
        ({"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}}},
         "chunking_strategy.static.max_chunk_size_tokens"),
    ],
    ids=["days", "long key", "many keys", "no such file", "short chunks"],
)  # fmt: skip
def test_what_a_store_cannot_be_is_told(client: openai.OpenAI, asked: Any, param: str | None) -> None:
    before = [store.id for store in client.vector_stores.list()]
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        client.vector_stores.create(name="wrong", **asked)
    assert caught.value.type == "invalid_request_error"
    if param is not None:
        assert (caught.value.param or "").startswith(param)
    assert [store.id for store in client.vector_stores.list()] == before


def test_one_file_uploaded_and_polled(client: openai.OpenAI, store: VectorStore) -> None:
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("lumen.md", FILES["lumen.md"]),
        attributes={"about": "sky"},
        poll_interval_ms=SOON_MS,
    )
    assert file.object == "vector_store.file"
    assert file.status == "completed"
    assert file.last_error is None
    assert file.attributes == {"about": "sky"}
    assert file.vector_store_id == store.id
    assert file.usage_bytes >= 384 * 4 + 50  # the vector and the text
    now = client.vector_stores.retrieve(store.id)
    assert (now.status, now.file_counts.completed, now.usage_bytes) == ("completed", 1, file.usage_bytes)
    (text,) = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert text.text == FILES["lumen.md"].decode().strip()
    (found,) = search(client, store.id, SKY)
    assert found.file_id == file.id
    assert found.attributes == {"about": "sky"}
    assert 0 < found.score <= 1
    assert [part.text for part in found.content] == [text.text]
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert search(client, store.id, SKY) == []
    client.files.delete(file.id)


def test_an_answer_is_of_the_clients_own_types(client: openai.OpenAI, store: VectorStore) -> None:
    """Warnings are errors here: the client warns when it writes an object whose fields are none of its type's."""
    file_id = uploaded(client, ["The tide comes twice a day."])[0]
    auto = client.vector_stores.files.create_and_poll(file_id, vector_store_id=store.id, poll_interval_ms=SOON_MS)
    assert auto.to_dict()["status"] == "completed"
    client.vector_stores.files.delete(file_id, vector_store_id=store.id)
    static: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    told = client.vector_stores.files.create_and_poll(
        file_id, vector_store_id=store.id, chunking_strategy=static, poll_interval_ms=SOON_MS
    )
    assert told.to_dict()["chunking_strategy"] == static
    for item in (store, client.vector_stores.retrieve(store.id), *search(client, store.id, "tide")):
        assert item.to_dict()


def test_a_batch_of_every_kind_of_file(client: openai.OpenAI, store: VectorStore) -> None:
    good = {
        "notes.md": b"# Notes\n\nThe anchor weighs nine tons.",
        "plain.txt": "The beacon on the café's roof is red.".encode("cp1252"),
        "two.pdf": make.pdf("The cabin has two bunks."),
        "letter.docx": make.docx("The dinghy leaks at the stern."),
        "slides.pptx": make.pptx(("Estuary", "The estuary is four miles wide.")),
        "sheet.xlsx": make.xlsx({"Parts": [["part", "colour"], ["funnel", "black"]]}),
        "page.html": b"<html><body><h1>Galley</h1><p>The galley opens at noon.</p></body></html>",
        "book.epub": make.epub("Hatches", "The hatch is made of teak."),
        "rows.csv": b"place,depth\ninlet,seven fathoms\n",
        "facts.json": b'{"jetty": {"length": "ninety metres"}}',
        "boat.py": b'def keel() -> str:\n    """How long the keel is."""\n    return "twelve feet"\n',
    }
    bad = {
        "blank.txt": ("invalid_file", b" \n\t\n"),
        "noise.bin": ("unsupported_file", b"\x7fELF" + bytes(range(256)) * 20),
        "broken.pdf": ("invalid_file", b"%PDF-1.4\nnothing that a reader knows"),
        "locked.pdf": ("invalid_file", make.encrypted_pdf("secret", password="unknown")),
        "scan.pdf": ("invalid_file", make.pdf("")),
    }
    files = [*good.items(), *((name, content) for name, (_, content) in bad.items())]
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=SOON_MS)
    assert batch.status == "completed"
    assert batch.file_counts.completed == len(good)
    assert batch.file_counts.failed == len(bad)
    assert batch.file_counts.in_progress == 0
    assert batch.file_counts.total == len(good) + len(bad)
    failed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    told = {(file.model_extra or {})["filename"]: file.last_error for file in failed}
    assert {name: error.code for name, error in told.items() if error} == {
        name: code for name, (code, _) in bad.items()
    }
    for error in told.values():
        assert error is not None
        assert len(error.message) > 20
    for question, name in [
        ("How much does the anchor weigh?", "notes.md"),
        ("What is on the café's roof?", "plain.txt"),
        ("How many bunks has the cabin?", "two.pdf"),
        ("Where does the dinghy leak?", "letter.docx"),
        ("How wide is the estuary?", "slides.pptx"),
        ("Which colour is the funnel?", "sheet.xlsx"),
        ("When does the galley open?", "page.html"),
        ("What is the hatch made of?", "book.epub"),
        ("How deep is the inlet?", "rows.csv"),
        ("How long is the jetty?", "facts.json"),
        ("How long is the keel?", "boat.py"),
    ]:
        assert names(search(client, store.id, question, max_num_results=1)) == [name], question


def test_the_rankers_find_what_they_are_for(client: openai.OpenAI, library: Library) -> None:
    for ranker in ("hybrid", "dense", "lexical", "auto", "default-2024-11-15"):
        found = search(client, library.store_id, SKY, ranking_options={"ranker": ranker})
        assert found[0].filename == "lumen.md"
        scores = [result.score for result in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    meant = "At what time can I take a boat to the other town?"  # hardly a word in common
    assert search(client, library.store_id, meant, ranking_options={"ranker": "dense"})[0].filename == "ferry.txt"
    assert search(client, library.store_id, "Whales?", ranking_options={"ranker": "lexical"}) == []
    with pytest.raises(openai.BadRequestError, match="ranker"):
        search(client, library.store_id, SKY, ranking_options={"ranker": "best"})


def test_a_threshold_cuts_the_score_that_is_shown(client: openai.OpenAI, library: Library) -> None:
    found = search(client, library.store_id, SKY)
    best, second = found[0].score, found[1].score
    assert best > second
    cut = search(client, library.store_id, SKY, ranking_options={"score_threshold": (best + second) / 2})
    assert [result.score for result in cut] == [best]
    assert search(client, library.store_id, SKY, ranking_options={"score_threshold": 1}) == []


def test_several_questions_and_a_number_of_results(client: openai.OpenAI, library: Library) -> None:
    both = client.vector_stores.search(library.store_id, query=[SKY, FERRY], max_num_results=2)
    assert set(names(list(both))) == {"lumen.md", "ferry.txt"}
    assert both.model_extra is not None
    assert both.model_extra["search_query"] == [SKY, FERRY]
    assert len(search(client, library.store_id, SKY, max_num_results=1)) == 1
    for wrong in (0, 51):
        with pytest.raises(openai.BadRequestError, match="max_num_results"):
            search(client, library.store_id, SKY, max_num_results=wrong)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"type": "eq", "key": "about", "value": "sky"}, {"lumen.md"}),
        ({"type": "ne", "key": "about", "value": "sky"}, {"ferry.txt", "rules.pdf"}),
        ({"type": "gte", "key": "year", "value": 2024}, {"ferry.txt", "rules.pdf"}),
        ({"type": "lt", "key": "year", "value": 2024}, {"lumen.md"}),
        ({"type": "in", "key": "year", "value": [2020, 2026]}, {"lumen.md", "rules.pdf"}),
        ({"type": "nin", "key": "year", "value": [2020, 2026]}, {"ferry.txt"}),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "eq", "key": "about", "value": "ferry"},
                    {"type": "gt", "key": "year", "value": 2024},
                ],
            },
            {"rules.pdf"},
        ),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "about", "value": "sky"},
                    {"type": "and", "filters": [{"type": "eq", "key": "year", "value": 2024}]},
                ],
            },
            {"lumen.md", "ferry.txt"},
        ),
        ({"type": "eq", "key": "nothing", "value": 1}, set()),
    ],
    ids=["eq", "ne", "gte", "lt", "in", "nin", "and", "or", "nothing"],
)
def test_filters(client: openai.OpenAI, library: Library, given: Any, kept: set[str]) -> None:
    assert set(names(search(client, library.store_id, "ferry, sky and harbour", filters=given))) == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "like", "key": "about", "value": "sky"},
        {"type": "eq", "key": "about"},
        {"type": "and", "filters": []},
        {"type": "in", "key": "about", "value": "sky"},
        {"type": "gt", "key": "about", "value": True},
        "about = sky",
    ],
    ids=["operator", "no value", "empty and", "in without list", "gt of a truth", "text"],
)
def test_a_bad_filter_is_400_and_never_ignored(client: openai.OpenAI, library: Library, wrong: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        search(client, library.store_id, SKY, filters=wrong)
    assert (caught.value.param or "").startswith("filters")


def test_a_filter_sees_new_attributes_at_once(client: openai.OpenAI, store: VectorStore) -> None:
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.txt", b"The tide comes twice."), attributes={"state": "draft"},
        poll_interval_ms=SOON_MS,
    )  # fmt: skip
    draft: Any = {"type": "eq", "key": "state", "value": "draft"}
    final: Any = {"type": "eq", "key": "state", "value": "final"}
    assert len(search(client, store.id, "tide", filters=draft)) == 1
    for number in range(10):
        state, other = (final, draft) if number % 2 == 0 else (draft, final)
        changed = client.vector_stores.files.update(
            file.id, vector_store_id=store.id, attributes={"state": state["value"], "turn": number}
        )
        assert changed.attributes == {"state": state["value"], "turn": number}
        assert search(client, store.id, "tide", filters=other) == []
        (found,) = search(client, store.id, "tide", filters=state)
        assert found.attributes == changed.attributes
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=store.id).status == "completed"


def test_the_files_of_a_store_are_listed_page_by_page(client: openai.OpenAI, store: VectorStore) -> None:
    file_ids = uploaded(client, [f"Buoy {n} is {word}." for n, word in enumerate(WORDS[:5])])
    client.vector_stores.file_batches.create_and_poll(store.id, file_ids=file_ids, poll_interval_ms=SOON_MS)
    page = client.vector_stores.files.list(store.id, limit=2, order="asc")
    assert [file.id for file in page.data] == file_ids[:2]
    assert page.has_more
    assert [file.id for file in page] == file_ids
    assert list(client.vector_stores.files.list(store.id, filter="failed")) == []


def test_a_sentence_at_the_end_of_a_long_chunk_is_found(client: openai.OpenAI, store: VectorStore) -> None:
    filler = " ".join(f"Sentence {n} says that the weather over the hills is mild again." for n in range(240))
    static: Any = {"type": "static", "static": {"max_chunk_size_tokens": 4096, "chunk_overlap_tokens": 0}}
    for name, text in {
        "with.txt": f"{filler} The lighthouse keeper feeds a tame albatross.",
        "without.txt": filler,
    }.items():
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, text.encode()), chunking_strategy=static, poll_interval_ms=SOON_MS
        )
        assert file.status == "completed"
    found = search(client, store.id, "Whom does the lighthouse keeper feed?", ranking_options={"ranker": "dense"})
    assert names(found) == ["with.txt", "without.txt"]  # each once, though several windows of each were embedded
    assert found[0].content[0].text.endswith("tame albatross.")
    assert found[0].score > found[1].score + 0.1


def test_chat_goes_on_beside_300_files(client: openai.OpenAI, store: VectorStore, metric: Callable[..., float]) -> None:
    file_ids = uploaded(client, [f"Log of day {n}: the {WORDS[n % 10]} was painted in colour {n}." for n in range(300)])
    batch = client.vector_stores.file_batches.create(store.id, file_ids=file_ids)
    assert batch.status == "in_progress"
    assert batch.file_counts.total == 300
    assert metric("manyhats_ingestion_queue") > 0
    errors: list[BaseException] = []
    ends: list[str | None] = []  # of each answer
    read = threading.Event()

    def talk() -> None:
        asked: Any = {"messages": [{"role": "user", "content": "Tell me of animals."}], "max_tokens": 60}
        try:
            while not read.is_set() or not ends:
                stream = client.chat.completions.create(
                    model="demo", **asked, stream=True, extra_body={"ignore_eos": True}
                )
                ends.append(list(stream)[-1].choices[0].finish_reason)
        except BaseException as error:  # told by the test, below
            errors.append(error)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        batch = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id, poll_interval_ms=200)
    finally:
        read.set()
        talking.join()
    assert not errors
    assert set(ends) == {"length"}  # each went on to its last token
    assert batch.status == "completed"
    assert batch.file_counts.completed == 300
    assert metric("manyhats_ingestion_queue") == 0
    searched = metric("manyhats_retrieval_seconds_count", stage="search")
    (found,) = search(client, store.id, "What was painted on day 217?", max_num_results=1)
    assert "day 217" in found.content[0].text
    assert metric("manyhats_retrieval_seconds_count", stage="search") == searched + 1


def test_a_batch_is_cancelled(client: openai.OpenAI, store: VectorStore) -> None:
    texts = [f"The {word} number {n} needs paint, and nothing else." for n in range(15) for word in WORDS]
    batch = client.vector_stores.file_batches.create(store.id, file_ids=uploaded(client, texts))
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status in ("cancelled", "in_progress")
    done = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id, poll_interval_ms=SOON_MS)
    assert done.status == "cancelled"
    counts = done.file_counts
    assert counts.cancelled > 0
    assert counts.cancelled + counts.completed == counts.total == len(texts)
    # the next file is read after those, if any of them were still to be read
    last = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("last.txt", b"The very last one."), poll_interval_ms=SOON_MS
    )
    assert last.status == "completed"
    now = client.vector_stores.retrieve(store.id)
    assert now.status == "completed"
    assert (now.file_counts.cancelled, now.file_counts.completed) == (counts.cancelled, counts.completed + 1)

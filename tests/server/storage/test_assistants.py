from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.errors import NameInvalid, NameTaken
from retrieval.pages import Order
from server.storage.assistants import Assistant, Assistants
from server.storage.database import Database
from server.storage.errors import AssistantInvalid, AssistantNotFound, CursorUnknown, FileInvalid, ManagedByFile
from server.storage.feed import Feed
from server.storage.tables import assistants as assistants_table

FULL: dict[str, Any] = {
    "name": "lawyer",
    "model": "legal@0123abcd",
    "description": "Knows the code.",
    "instructions": "Cite the article.",
    "tools": [{"type": "file_search", "file_search": {"max_num_results": 3}}],
    "tool_resources": {"file_search": {"vector_store_ids": ["vs_1", "law"]}},
    "temperature": 0.2,
    "top_p": 0.9,
    "metadata": {"team": "a"},
    "response_format": {"type": "json_object"},
    "examples": [{"user": "May I?", "assistant": "Art. 5 says so."}],
}


@pytest.fixture
def assistants(database: Database) -> Assistants:
    return Assistants(database, taken={"demo", "legal"}.__contains__)


def assistants_file(folder: Path, text: str) -> Path:
    path = folder / "assistants.yaml"
    path.write_text(text)
    return path


def test_an_assistant_is_found_by_name_and_id(assistants: Assistants) -> None:
    made = assistants.create(FULL)
    assert made.id.startswith("asst_")
    assert assistants.find("lawyer") is assistants.find(made.id)
    assert assistants.get("lawyer") == made
    assert made.managed == "api"
    assert made.examples == ({"user": "May I?", "assistant": "Art. 5 says so."},)
    assert made.vector_store_ids == ("vs_1", "law")
    assert assistants.find("nobody") is None
    with pytest.raises(AssistantNotFound, match="'nobody'"):
        assistants.get("nobody")


def test_the_object_is_openais(assistants: Assistants) -> None:
    made = assistants.create(FULL)
    assert made.as_object() == {
        **FULL, "id": made.id, "object": "assistant", "created_at": int(made.created_at), "managed": "api",
    }  # fmt: skip
    plain = assistants.create({"model": "demo"}).as_object()
    assert (plain["tools"], plain["metadata"], plain["instructions"], plain["temperature"]) == ([], {}, None, None)


def test_without_a_name_the_id_is_it(assistants: Assistants) -> None:
    made = assistants.create({"model": "demo", "name": None})
    assert made.name == made.id
    assert assistants.get(made.id) == made


def test_finding_reads_memory_only(assistants: Assistants, database: Database) -> None:
    assistants.create(FULL)
    statements: list[str] = []
    sa.event.listen(
        database._engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement)
    )
    assert assistants.find("lawyer")
    assert assistants.all()
    assert statements == []


@pytest.mark.parametrize("name", ["demo", "legal", "lawyer"])
def test_a_name_means_one_thing(assistants: Assistants, name: str) -> None:
    assistants.create(FULL)
    with pytest.raises(NameTaken, match=name):
        assistants.create({"model": "demo", "name": name})
    other = assistants.create({"model": "demo", "name": "other"})
    with pytest.raises(NameTaken, match=name):
        assistants.update(other.id, {"name": name})
    assert assistants.get(other.id).name == "other"


def test_a_name_taken_by_another_process_is_told(assistants: Assistants, url: str) -> None:
    elsewhere = Database(url)
    Assistants(elsewhere).create(FULL)
    with pytest.raises(NameTaken, match="lawyer"):
        assistants.create(FULL)
    elsewhere.close()


@pytest.mark.parametrize("name", ["two words", "a@b", "-x", "x" * 97, "ã"])
def test_a_name_has_a_grammar(assistants: Assistants, name: str) -> None:
    with pytest.raises(NameInvalid, match="assistant's name"):
        assistants.create({"model": "demo", "name": name})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": None}, "model: Field required"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tool_resources": {"file_search": {"vector_store_ids": "law"}}}, "vector_store_ids"),
        ({"tool_resources": {"file_search": ["law"]}}, "vector_store_ids"),
        ({"response_format": "json"}, "response_format"),
        ({"examples": [{"user": "only half"}]}, "examples.0.assistant"),
        ({"instruction": "x"}, "instruction: unknown field"),
    ],
)
def test_what_an_assistant_cannot_be(assistants: Assistants, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(AssistantInvalid, match=told):
        assistants.create({"model": "demo", "name": "new", **wrong})
    made = assistants.create(FULL)
    if wrong != {"model": None}:
        with pytest.raises(AssistantInvalid, match=told):
            assistants.update(made.id, wrong)
    assert assistants.get(made.id) == made


@pytest.mark.parametrize("key", ["vector_stores", "vector_store_id"])
def test_what_file_search_would_ignore_is_refused_and_is_read_where_it_is_stored(
    assistants: Assistants, database: Database, key: str
) -> None:
    asking = {"tool_resources": {"file_search": {"vector_store_ids": ["law"], key: [{"file_ids": ["file-1"]}]}}}
    made = assistants.create(FULL)
    for change in (lambda: assistants.create({"model": "demo", **asking}), lambda: assistants.update(made.id, asking)):
        with pytest.raises(AssistantInvalid, match=f"{key}: .*`vector_store_ids`") as refused:
            change()
        assert refused.value.param == f"tool_resources.file_search.{key}"
    with database.write() as connection:  # as it was before that was checked
        connection.execute(assistants_table.update().values(fields=asking))
    assistants.refresh()
    assert assistants.get(made.id).vector_store_ids == ("law",)
    assert assistants.update(made.id, {"top_p": 0.5}).vector_store_ids == ("law",)


def test_updating_changes_what_is_given(assistants: Assistants) -> None:
    made = assistants.create(FULL)
    changed = assistants.update("lawyer", {"name": "advocate", "temperature": None, "top_p": 0.5})
    assert changed == Assistant(
        **{name: getattr(made, name) for name in Assistant.__slots__}
        | {"name": "advocate", "temperature": None, "top_p": 0.5}
    )
    assert assistants.find("lawyer") is None
    assert assistants.get("advocate") == assistants.get(made.id) == changed
    assert assistants.update("advocate", {"name": "advocate"}) == changed


def test_a_deleted_assistant_is_gone(assistants: Assistants) -> None:
    made = assistants.create(FULL)
    assert assistants.delete("lawyer") == made
    assert assistants.find("lawyer") is assistants.find(made.id) is None
    with pytest.raises(AssistantNotFound):
        assistants.delete(made.id)


def test_other_processes_follow_the_feed(assistants: Assistants, url: str) -> None:
    elsewhere = Database(url)
    followers, feed = Assistants(elsewhere), Feed(elsewhere)
    made = assistants.create(FULL)
    assert feed.generations() == {"assistants": 1}
    followers.refresh()
    assert followers.get("lawyer") == made
    assistants.update("lawyer", {"top_p": 1})
    assistants.delete("lawyer")
    assert feed.generations() == {"assistants": 3}
    with pytest.raises(AssistantNotFound):  # without a refresh of its own
        followers.update("lawyer", {"top_p": 0.5})
    elsewhere.close()


def test_pages_are_by_age(database: Database) -> None:
    times = iter(range(100))
    assistants = Assistants(database, clock=lambda: float(next(times)))
    made = [assistants.create({"model": "demo"}) for _ in range(5)]
    assert [one.id for one in assistants.all()] == [one.id for one in made]
    page = assistants.list(limit=2)
    assert (page.items, page.has_more) == ((made[4], made[3]), True)
    assert assistants.list(limit=2, after=made[3].id).items == (made[2], made[1])
    assert assistants.list(order="asc", before=made[1].id).items == (made[0],)
    with pytest.raises(CursorUnknown):
        assistants.list(after="asst_none")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_all_are_deleted_page_by_page(database: Database, order: Order) -> None:
    times = iter(range(100))
    assistants = Assistants(database, clock=lambda: float(next(times) // 2))  # some were made at the same moment
    for _ in range(7):
        assistants.create({"model": "demo"})
    after = None
    while (page := assistants.list(limit=2, order=order, after=after)).items:
        for one in page.items:
            assistants.delete(one.id)
        after = page.items[-1].id
    assert assistants.all() == ()


FILE = """
- name: guide
  model: demo
  instructions: Answer from the documents.
  tool_resources: {file_search: {vector_store_ids: [handbook]}}
  examples: [{user: Hi, assistant: Hello}]
- {name: plain, model: demo}
"""


def test_the_files_assistants_are_read_only(database: Database, tmp_path: Path) -> None:
    path = assistants_file(tmp_path, FILE)
    assistants = Assistants(database, file=path)
    guide = assistants.get("guide")
    assert (guide.managed, guide.vector_store_ids) == ("file", ("handbook",))
    assert {one.name for one in assistants.list().items} == {"guide", "plain"}
    for change in (lambda: assistants.update("guide", {"top_p": 1}), lambda: assistants.delete(guide.id)):
        with pytest.raises(ManagedByFile, match="'guide'"):
            change()
    with pytest.raises(NameTaken):
        assistants.create({"name": "guide", "model": "demo"})
    assert Assistants(database, file=path).get(guide.id) == guide  # clients keep ids


def test_the_file_wins_over_an_older_name(database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Assistants(database).create({"name": "guide", "model": "legal"})
    with caplog.at_level(logging.WARNING):
        assistants = Assistants(database, file=assistants_file(tmp_path, FILE))
    assert assistants.get("guide").managed == "file"
    assert assistants.get(made.id) == made
    assert [one.name for one in assistants.all()].count("guide") == 1
    assert made.id in caplog.text
    assistants.update(made.id, {"name": "old-guide"})
    assert {one.name for one in assistants.all()} == {"guide", "plain", "old-guide"}


def test_a_models_name_in_the_file_is_told(database: Database, tmp_path: Path) -> None:
    path = assistants_file(tmp_path, "- {name: demo, model: demo}")
    with pytest.raises(FileInvalid, match="'demo'"):
        Assistants(database, file=path, taken={"demo"}.__contains__).check_file_names()
    Assistants(database, file=assistants_file(tmp_path, FILE), taken={"demo"}.__contains__).check_file_names()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {model: demo}", "entry 1: name: Field required"),
        ("- {name: a, model: demo}\n- {name: a, model: demo}", "two entries are called 'a'"),
        ("- {name: two words, model: demo}", "assistants.yaml: 'two words' cannot be"),
        (
            "- {name: a, model: demo, tool_resources: {file_search: {vector_stores: []}}}",
            r"assistants.yaml: 'a': tool_resources.file_search.vector_stores: ",
        ),
        ("- {name: a, modle: demo}", r"entry 1 \('a'\): "),
        ("- {name: a, model: demo, managed: api}", "managed: unknown field"),
    ],
)
def test_a_wrong_file_names_the_entry(database: Database, tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FileInvalid, match=told):
        Assistants(database, file=assistants_file(tmp_path, text))


def test_two_who_change_one_lose_nothing(database: Database, url: str) -> None:
    """Each gives its own field, and keeps what the other gave: the row is read and written in one turn."""
    with closing(Database(url)) as other:
        tables = {"temperature": Assistants(database), "top_p": Assistants(other)}
        tables["temperature"].create({"name": "shared", "model": "demo"})
        start = threading.Barrier(2)

        def change(field: str) -> None:
            start.wait()
            for number in range(1, 21):
                tables[field].update("shared", {field: number / 100})

        threads = [threading.Thread(target=change, args=(field,)) for field in tables]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = Assistants(database).get("shared")
    assert (seen.temperature, seen.top_p) == (0.2, 0.2)

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from bench.shared import places
from bench.shared.places import LOGGED_REQUEST, LOGGED_SQL, Lines, database_of, embedded, shared
from tests.postgresql import FAST, why_missing


def test_a_log_is_counted_from_where_it_was_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("LOG:  statement: BEGIN\n")
    lines = Lines(log, LOGGED_SQL)
    assert lines.new() == 0  # what was there before is nobody's
    with log.open("a") as more:
        more.write("LOG:  execute <unnamed>: SELECT 1,\n\t2\nLOG:  checkpoint starting\nLOG:  statement: COMM")
    assert lines.new() == 1  # a line that is not whole yet waits
    with log.open("a") as more:
        more.write("IT\n")
    assert (lines.new(), lines.new()) == (1, 0)


def test_without_a_log_there_is_nothing_to_count() -> None:
    assert Lines(None, LOGGED_SQL).new() == 0


def test_the_database_of_an_embedded_place_is_the_data_directory_s(tmp_path: Path) -> None:
    with closing(database_of(embedded(), tmp_path)) as database:
        database.migrate()
    assert (tmp_path / "manyhats.db").is_file()


@pytest.mark.skipif(bool(why_missing()), reason=why_missing())
def test_a_shared_place_answers_and_tells_what_it_was_asked(tmp_path: Path) -> None:
    with shared(tmp_path, told=True) as place, closing(database_of(place, tmp_path)) as database:
        database.migrate()
        sql, s3 = Lines(place.sql_log, LOGGED_SQL), Lines(place.s3_log, LOGGED_REQUEST)
        with database.read() as connection:
            assert connection.scalar(sa.text("SHOW fsync")) == "on" != FAST["fsync"]  # a bench's is durable
        assert 2 <= sql.new() <= 4  # it begins, is asked, and ends; and whether it is there
        bucket = f"{place.settings['AWS_ENDPOINT_URL']}/{places.BUCKET}"
        assert httpx.get(f"{bucket}?list-type=2", trust_env=False, timeout=60).status_code == httpx.codes.OK
        assert s3.new() == 1
    with pytest.raises(httpx.TransportError):
        httpx.get(bucket, trust_env=False)


def test_without_postgresql_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.postgresql.why_missing", lambda: "there is no PostgreSQL here")
    with pytest.raises(RuntimeError, match="no PostgreSQL"), shared(tmp_path):
        pass

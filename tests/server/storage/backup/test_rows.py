from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.storage.backup import rows, schema
from server.storage.database import Database
from server.storage.errors import BackupInvalid

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("a", sa.Text),
    sa.Column("vector", sa.LargeBinary),
    sa.Column("required", sa.JSON(none_as_null=False), nullable=False),
    sa.Column("optional", sa.JSON(none_as_null=True)),
    sa.Column("yes", sa.Boolean),
    sa.Column("seconds", sa.Double),
)
ROW = {
    "id": 1,
    "a": "cão\n\"'",
    "vector": bytes(range(256)),
    "required": {"z": [1, 2.0, None], "a": "half \ud83d, NUL \0"},
    "optional": None,
    "yes": True,
    "seconds": 0.1 + 0.2,
}


def database(path: Path) -> Database:
    made = Database(f"sqlite:///{path}")
    with made.write() as connection:
        TABLE.metadata.create_all(connection)
    return made


def test_a_row_goes_over_as_it_is(tmp_path: Path) -> None:
    one, other = database(tmp_path / "one.db"), database(tmp_path / "other.db")
    with one.write() as connection:
        connection.execute(TABLE.insert(), [ROW, {**ROW, "id": 2, "required": None, "vector": None, "a": None}])
    with one.read() as reading, other.write() as writing:
        (there,) = schema.tables(writing, ["t"])
        rows.write(writing, there, list(rows.read(reading, TABLE)))
        assert rows.count(writing, there) == rows.count(reading, TABLE)
    with one.read() as left, other.read() as right:
        raw = sa.text("SELECT *, typeof(vector), typeof(seconds), required, optional IS NULL FROM t ORDER BY id")
        assert left.execute(raw).all() == right.execute(raw).all()
        first, second = right.execute(sa.select(TABLE).order_by(TABLE.c.id)).mappings()
        assert dict(first) == ROW
        assert second["required"] is None
        assert right.execute(sa.text("SELECT required FROM t WHERE id = 2")).scalar() == "null"
    one.close()
    other.close()


def test_a_digest_is_of_the_rows_whatever_their_order() -> None:
    def counted(*lines: bytes) -> rows.Counted:
        counter = rows.Counter()
        for line in lines:
            counter.add(line)
        return counter.counted()

    assert counted(b"[1]", b"[2]") == counted(b"[2]", b"[1]") != counted(b"[1]", b"[3]")
    assert counted(b"[1]", b"[1]") != counted(b"[1]")
    assert counted().rows == 0


def test_a_line_is_one_line_with_the_columns_by_name() -> None:
    assert json.loads(rows.header(TABLE)) == ["a", "id", "optional", "required", "seconds", "vector", "yes"]
    line = rows.encode(["a\nb", b"\x00\xff"])
    assert b"\n" not in line
    assert json.loads(line) == ["a\nb", "AP8="]
    assert json.loads(rows.encode(["a\0b", {"in": "JSON \0"}])) == ["a\ufffdb", {"in": "JSON \0"}]


def test_batches_are_bounded_by_rows_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WRITE_ROWS", 3)
    monkeypatch.setattr(rows, "WRITE_BYTES", 10)
    sizes = [len(batch) for batch in rows.batches([b"1"] * 7 + [b"x" * 20] * 2 + [b"1"])]
    assert sizes == [3, 3, 2, 1, 1]


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"[1,2,3]", b"not json", b'"ab"'])
def test_a_line_that_is_none_is_told(line: bytes) -> None:
    with pytest.raises(BackupInvalid):
        rows.named(["a", "b"], line)


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"not json"])
def test_a_header_that_is_none_is_told(line: bytes) -> None:
    with pytest.raises(BackupInvalid, match="without the names"):
        rows.names_of(line)


def test_reading_goes_on_after_a_key(tmp_path: Path) -> None:
    one = database(tmp_path / "one.db")
    with one.write() as connection:
        connection.execute(TABLE.insert(), [{**ROW, "id": number} for number in range(120)])
        assert len(list(rows.read(connection, TABLE, after=99))) == 20
        assert len(list(rows.read(connection, TABLE))) == 120
    one.close()


def test_a_row_that_breaks_a_rule_is_told(tmp_path: Path) -> None:
    one = database(tmp_path / "one.db")
    with one.write() as connection:
        connection.execute(TABLE.insert(), ROW)
        with pytest.raises(BackupInvalid, match="does not take a row of 't'"):
            rows.write(connection, TABLE, list(rows.read(connection, TABLE)))
    one.close()

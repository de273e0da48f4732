from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from server.logs import REQUEST_ID, LineFormatter, LogFormat, configure, configure_engine
from server.settings import Settings


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("server.test")
    yield logger
    REQUEST_ID.set("")


def lines(logger: logging.Logger, log_format: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(log_format))
    logger.addHandler(handler)
    return stream


def test_json_lines_hold_fields_and_the_request_id(logger: logging.Logger) -> None:
    stream = lines(logger, "json")
    REQUEST_ID.set("req-1")
    logger.info("request\nend", extra={"fields": {"status": 200, "seconds": 0.25, "model": None}})
    assert stream.getvalue().count("\n") == 1
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "server.test",
        "message": "request\nend",
        "request_id": "req-1",
        "status": 200,
        "seconds": 0.25,
    }


def test_text_lines_cannot_be_forged(logger: logging.Logger) -> None:
    stream = lines(logger, "text")
    logger.warning("refused\n2026 INFO all is well", extra={"fields": {"path": "/x\n2026 INFO fine", "seconds": 0.25}})
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith('refused\\n2026 INFO all is well path="/x\\n2026 INFO fine" seconds=0.250\n')


def test_a_terminal_is_not_steered(logger: logging.Logger) -> None:
    stream = lines(logger, "text")
    nasty = "\x1b[31m\u2028\u202e\x85\ud800ação 😀"
    logger.info("no %s", nasty, extra={"fields": {"path": f"/{nasty}", "model": "ação"}})
    line = stream.getvalue()
    assert line.rstrip("\n").isprintable()
    assert "ação 😀" in line
    assert "model=ação" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_prompt_within_pydantics_words_is_not_logged(logger: logging.Logger, log_format: LogFormat) -> None:
    class Body(BaseModel):
        n: int

    stream = lines(logger, log_format)
    given = {"n": "my secret\nprompt"}
    try:
        Body.model_validate(given)
    except ValidationError as error:
        logger.exception("bad: %s", error)
    assert "secret" not in stream.getvalue()
    assert "validation error" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


@pytest.fixture
def restored() -> Iterator[None]:
    """What pytest and other tests had set up comes back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    environ = dict(os.environ)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = before, level
    os.environ.clear()
    os.environ.update(environ)


@pytest.mark.usefixtures("restored")
def test_uvicorn_and_vllm_log_in_our_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json", log_level="info"))
    logging.getLogger("uvicorn.error").warning("started")
    logging.getLogger("uvicorn.access").info("GET /?key=mh-secret")
    logging.getLogger("vllm.engine").warning("slow")
    logging.getLogger("server.x").debug("too much")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in told] == [
        ("uvicorn.error", "started"),
        ("vllm.engine", "slow"),
    ]


@pytest.mark.usefixtures("restored")
def test_the_engines_processes_are_told_by_a_file(tmp_path: Path) -> None:
    configure_engine(Settings(log_format="json", log_level="warning", data_dir=tmp_path / "data"))
    child = (  # what vLLM does in each of its processes, wherever that was started
        "import json, logging.config, os;"
        "logging.config.dictConfig(json.load(open(os.environ['VLLM_LOGGING_CONFIG_PATH'])));"
        "log = logging.getLogger('vllm.core');"
        "log.warning('full', extra={'vllm_process_name': 'EngineCore'});"
        "log.info('quiet')"
    )
    told = subprocess.run([sys.executable, "-c", child], cwd=tmp_path, capture_output=True, text=True, check=True)
    (line,) = told.stderr.splitlines()
    assert json.loads(line)["message"] == "full"
    assert json.loads(line)["process"] == "EngineCore"


@pytest.mark.usefixtures("restored")
def test_talk_at_the_start_is_kept_back_but_at_level_debug(capsys: pytest.CaptureFixture[str]) -> None:
    for level, told in (("info", ""), ("debug", "Enforce eager set")):
        configure(Settings(log_level=level))
        logging.getLogger("vllm.config").warning("Enforce eager set, disabling this and that")
        logging.getLogger("vllm.config").info("resolved architecture")
        error = capsys.readouterr().err
        assert (told in error) if told else (error == "")
    logging.getLogger("vllm.config").error("Enforce eager set, and now it failed")
    assert "failed" in capsys.readouterr().err

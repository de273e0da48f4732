"""The command line as a person uses it: what it says, what it changes, and what it answers to mistakes."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

import server.serve
from server.cli import app, main
from server.settings import DEMO_DIR, Settings
from server.storage.data_lock import DataLock
from server.storage.database import Database
from server.storage.keys import Keys

ONE, OTHER = (str(DEMO_DIR / "adapters" / name) for name in ("pirate", "shout"))

Manyhats = Callable[..., str]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of its own, and no other settings."""
    for name in list(os.environ):
        if name.startswith("MANYHATS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MANYHATS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def manyhats(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Manyhats:
    """Run the command and return what it wrote; `status` is how it must end, and `said` are the words of a mistake."""

    def run(*words: str, status: int = 0, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "argv", ["manyhats", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == status, written.out + written.err
        return written.err if status else written.out

    return run


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command with its path; typer has its own copy of click, so that no type of click's is named."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)
    else:
        yield " ".join(path), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_commands() -> None:
    assert {"serve", "doctor", "keys create", "keys list", "keys revoke"} <= COMMANDS.keys()
    assert {f"adapters {verb}" for verb in ("add", "list", "show", "alias", "remove")} <= COMMANDS.keys()
    assert {f"files {verb}" for verb in ("add", "list", "show", "remove")} <= COMMANDS.keys()
    assert {f"stores {verb}" for verb in ("list", "create", "show", "remove", "search", "reembed")} <= COMMANDS.keys()
    assert "ingest" in COMMANDS
    assert {f"assistants {verb}" for verb in ("add", "list", "show", "remove")} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert [one.name for one in command.params if not getattr(one, "help", None)] == []


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
sys.argv = ["manyhats", "--help"]
try:
    from server.cli import main
    main()
except SystemExit:
    heavy = {"torch", "transformers", "vllm", "fastapi", "sqlalchemy", "httpx2", "numpy"} & sys.modules.keys()
    sys.exit(f"loaded: {sorted(heavy)}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "adapters" in result.stdout


def test_every_setting_is_an_option_of_serve() -> None:
    options = {option for one in COMMANDS["serve"].params for option in one.opts}
    assert {f"--{name.replace('_', '-')}" for name in Settings.model_fields} <= options


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, list[str]]]:
    """What `serve` was started with; nothing runs."""
    calls: list[tuple[Settings, list[str]]] = []

    def note(settings: Settings, *, vllm_args: list[str], show: object) -> int:
        calls.append((settings, vllm_args))
        return 0

    monkeypatch.setattr(server.serve, "serve", note)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return calls


def test_serve_takes_settings_and_vllm_flags(
    manyhats: Manyhats, served: list[tuple[Settings, list[str]]], tmp_path: Path
) -> None:
    manyhats(
        *("serve", "--port", "9001", "--cors-origins", "https://a.example,https://b.example"),
        *("--metrics-open", "true", "--", "--max-num-seqs", "4"),
    )
    ((settings, flags),) = served
    assert settings.port == 9001
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.metrics_open
    assert settings.data_dir == tmp_path / "data"  # what no option names comes from the environment
    assert flags == ["--max-num-seqs", "4"]


def test_a_bad_value_is_told_by_its_setting(manyhats: Manyhats, served: list[Any]) -> None:
    said = manyhats("serve", "--port", "99999", status=1)
    assert "MANYHATS_PORT" in said
    assert "Traceback" not in said
    assert served == []


def test_a_misspelt_setting_is_told(manyhats: Manyhats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYHATS_PROT", "1")
    said = manyhats("keys", "list", status=1)
    assert "MANYHATS_PROT" in said
    assert "MANYHATS_PORT" in said


def test_a_flag_that_the_server_owns_is_refused_before_anything_starts(manyhats: Manyhats) -> None:
    said = manyhats("serve", "--", "--max-loras", "3", status=1)
    assert "MANYHATS_MAX_ADAPTERS" in said


def test_two_servers_on_one_data_directory(manyhats: Manyhats, data_dir: Path) -> None:
    with DataLock(data_dir) as lock:
        lock.write_address("http://127.0.0.1:7999")
        said = manyhats("serve", status=1)
    assert "http://127.0.0.1:7999" in said


def test_keys(manyhats: Manyhats, data_dir: Path) -> None:
    secret = manyhats("keys", "create", "ci", "--model", "legal*", "--requests-per-minute", "60").strip()
    database = Database(f"sqlite:///{data_dir / 'manyhats.db'}")
    caller = Keys(database).find(secret)
    assert caller
    assert (caller.name, caller.role, caller.models, caller.requests_per_minute) == ("ci", "inference", ("legal*",), 60)
    (listed,) = json.loads(manyhats("keys", "list", "--json"))
    assert (listed["name"], listed["status"], listed["last4"]) == ("ci", "works", secret[-4:])
    assert secret not in manyhats("keys", "list")
    manyhats("keys", "revoke", "ci")
    assert Keys(database).find(secret) is None
    database.close()
    assert "revoked" in manyhats("keys", "list")


def test_an_unknown_key_cannot_be_revoked(manyhats: Manyhats) -> None:
    assert "'nobody'" in manyhats("keys", "revoke", "nobody", status=1)


def test_adapters_on_the_data_directory(manyhats: Manyhats) -> None:
    made = json.loads(manyhats("adapters", "add", ONE, "--name", "mine", "--json"))
    first = made["version"]["id"]
    assert json.loads(manyhats("adapters", "list", "--json"))[0]["traffic"] == {first: 1}
    assert "loaded" not in manyhats("adapters", "show", "mine")  # there is no engine to be loaded in

    said = manyhats("adapters", "add", OTHER, "--name", "mine", status=1)
    assert "versions" in said  # other bytes under a taken name
    added = json.loads(manyhats("adapters", "add", OTHER, "--name", "mine", "--new-version", "--json"))
    second = added["version"]["id"]
    assert added["traffic"] == {first: 1}

    manyhats("adapters", "alias", "mine", second)
    assert second in manyhats("adapters", "list")
    moved = json.loads(manyhats("adapters", "alias", "mine", "previous", "--json"))
    assert moved["traffic"] == {first: 1}
    split = json.loads(manyhats("adapters", "alias", "mine", f"{first}=95", f"{second}=5", "--json"))
    assert split["traffic"] == {first: 95, second: 5}

    manyhats("adapters", "remove", "mine", stdin="n\n", status=1)
    assert "mine" in manyhats("adapters", "list")
    manyhats("adapters", "remove", "mine", "--yes")
    assert "No adapters yet" in manyhats("adapters", "list")


def test_an_archive_is_taken_as_it_is(manyhats: Manyhats, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "mine"), "gztar", root_dir=ONE)
    from_folder = json.loads(manyhats("adapters", "add", ONE, "--name", "folder", "--json"))
    from_archive = json.loads(manyhats("adapters", "add", archive, "--name", "archive", "--json"))
    assert from_folder["version"]["digest"] == from_archive["version"]["digest"]


def test_what_is_no_adapter_is_told_before_anything_is_sent(manyhats: Manyhats, tmp_path: Path) -> None:
    assert "adapter_config.json" in manyhats("adapters", "add", str(tmp_path), "--name", "mine", status=1)
    (tmp_path / "notes.txt").touch()
    assert ".tar.gz" in manyhats("adapters", "add", str(tmp_path / "notes.txt"), "--name", "mine", status=1)


def test_what_the_check_refuses_is_told(manyhats: Manyhats, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(ONE, tmp_path / "broken"))
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    said = manyhats("adapters", "add", str(broken), "--name", "mine", status=1)
    assert said.startswith("Error: ")
    assert "DoRA" in said
    assert json.loads(manyhats("adapters", "list", "--json")) == []


def test_traffic_needs_weights(manyhats: Manyhats) -> None:
    assert "VERSION=WEIGHT" in manyhats("adapters", "alias", "mine", "abcdef", "123456=5", status=1)


def test_assistants_on_the_data_directory(manyhats: Manyhats, tmp_path: Path) -> None:
    file = tmp_path / "guide.yaml"
    file.write_text("model: demo\ninstructions: Be kind.\nexamples:\n- {user: Hi, assistant: Hello}\n")
    words = ("assistants", "add", "guide", "--file", str(file), "--instructions", "Be brief.", "--store", "handbook")
    assert "no vector store has the id or name 'handbook'" in manyhats(*words, status=1)
    manyhats("stores", "create", "handbook")
    made = json.loads(manyhats(*words, "--json"))
    assert (made["name"], made["model"], made["instructions"]) == ("guide", "demo", "Be brief.")
    assert made["examples"] == [{"user": "Hi", "assistant": "Hello"}]
    assert made["tool_resources"]["file_search"]["vector_store_ids"] == ["handbook"]
    assert "guide" in manyhats("assistants", "list")
    assert "handbook" in manyhats("assistants", "show", "guide")
    manyhats("assistants", "remove", "guide", "--yes")
    assert json.loads(manyhats("assistants", "list", "--json")) == []


def test_every_page_of_assistants_is_listed(manyhats: Manyhats, data_dir: Path) -> None:
    from server.storage.assistants import Assistants

    manyhats("keys", "list")  # makes the database
    database = Database(f"sqlite:///{data_dir / 'manyhats.db'}")
    assistants = Assistants(database)
    for number in range(101):
        assistants.create({"name": f"guide-{number}", "model": "demo"})
    database.close()
    assert len(json.loads(manyhats("assistants", "list", "--json"))) == 101


def test_a_file_that_is_no_assistant_is_told(manyhats: Manyhats, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- one\n- two\n")
    said = manyhats("assistants", "add", "guide", "--file", str(tmp_path / "list.yaml"), status=1)
    assert "list.yaml" in said


def test_a_server_that_does_not_answer_is_told(manyhats: Manyhats) -> None:
    said = manyhats("adapters", "list", "--url", "http://127.0.0.1:9", status=1)
    assert "http://127.0.0.1:9" in said
    assert "manyhats serve" in said


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's own, of other kinds
def test_another_kind_of_adapter_becomes_a_plain_one(manyhats: Manyhats, tmp_path: Path) -> None:
    scaled = tmp_path / "ia3"
    scaled.mkdir()
    module = "model.layers.0.self_attn.q_proj"
    factors = np.random.default_rng(0).normal(1, 0.1, (256, 1)).astype(np.float32)
    save_file({f"base_model.model.{module}.ia3_l": factors}, scaled / "adapter_model.safetensors")
    fields = {"peft_type": "IA3", "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], "feedforward_modules": []}
    (scaled / "adapter_config.json").write_text(json.dumps(fields))

    out = tmp_path / "made" / "plain"
    said = manyhats("adapters", "convert", str(scaled), "--out", str(out), "--error", "0.5")
    assert module in said
    assert "IA3" in said
    assert "is there already" in manyhats("adapters", "convert", str(scaled), "--out", str(out), status=1)
    told = json.loads(
        manyhats("adapters", "convert", str(scaled), "--out", str(tmp_path / "other"), "--rank", "100", "--json")
    )
    assert (told["rank"], told["kind"]) == (100, "IA3")
    assert 0 < told["relative_error"][module] < 1
    assert "MANYHATS_MAX_RANK is 64" in told["note"]
    manyhats("adapters", "add", str(out), "--name", "plain")
    sent = json.loads(manyhats("adapters", "add", str(scaled), "--name", "sent", "--rank", "4", "--json"))
    assert sent["version"]["rank"] == 4
    for words in (["--rank", "4", "--error", "0.1"], ["--error", "2"]):
        manyhats("adapters", "convert", str(scaled), "--out", str(tmp_path / "third"), *words, status=1)
    assert not (tmp_path / "third").exists()
    assert "no '" in manyhats("adapters", "convert", str(tmp_path / "none"), "--out", str(tmp_path / "x"), status=1)
    base = str(DEMO_DIR / "base")
    assert "nothing differs" in manyhats("adapters", "convert", base, "--out", str(tmp_path / "x"), status=1)
    assert "adapters convert" in manyhats("adapters", "add", base, "--name", "x", status=1)


def test_adapters_are_mixed(manyhats: Manyhats, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("one", ONE), ("other", OTHER)):
        manyhats("adapters", "add", folder, "--name", name)
    both = 2 * json.loads((Path(ONE) / "adapter_config.json").read_text())["r"]
    with monkeypatch.context() as small:
        small.setenv("MANYHATS_MAX_RANK", str(both // 2))  # room for each of them, not for both
        assert f"--rank {both // 2}" in manyhats("adapters", "mix", "blend", "one=0.7", "other=0.3", status=1)
    blend = json.loads(manyhats("adapters", "mix", "blend", "one=0.7", "other=0.3", "--rank", str(both), "--json"))
    assert blend["version"]["rank"] == both  # the ranks add up
    assert {round(one["weight"], 3) for one in blend["version"]["details"]["mix"]["adapters"]} == {0.7, 0.3}
    words = ("--method", "ties", "--density", "0.3", "--rank", "8")
    ties = json.loads(manyhats("adapters", "mix", "ties", "other=1", "one=1", *words, "--json"))
    assert ties["version"]["rank"] == 8
    assert ties["version"]["details"]["mix"]["density"] == 0.3
    again = json.loads(manyhats("adapters", "mix", "ties", "one=1", "other=1", *words, "--json"))
    assert again["version"]["id"] == ties["version"]["id"]
    assert "named twice" in manyhats("adapters", "mix", "x", "one=1", "one=2", status=1)
    assert "its weight" in manyhats("adapters", "mix", "x", "one", "other=1", status=1)

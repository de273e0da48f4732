"""What the doctor finds, and that it finds what is wrong."""

import json
import os
import shutil
import socket
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from server import doctor
from server.doctor import Finding
from server.settings import DEMO_BASE, Settings
from server.storage.data_lock import DataLock
from server.storage.object_store import ObjectStore


def found(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """What is found on this machine, with the demo."""
    return doctor.examine(Settings(data_dir=tmp_path_factory.mktemp("demo") / "data", port=0), load=True)


def test_nothing_is_missing_where_the_tests_run(demo: list[Finding]) -> None:
    assert [finding for finding in demo if finding.status == "fail"] == []


def test_the_demo_base_is_described(demo: list[Finding]) -> None:
    base = found(demo, "base model")
    assert "context 2048" in base.detail
    assert "M parameters" in base.detail
    assert "chat template" in found(demo, "tokenizer").detail
    assert "finite" in found(demo, "weights").detail


def test_it_changes_nothing(settings: Settings) -> None:
    doctor._data_dir(settings)
    doctor._disk(settings)
    doctor._port(settings)
    assert not settings.data_dir.exists()


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    finding = found(list(doctor._packages()), "peft")
    assert (finding.status, finding.detail) == ("fail", "not installed")


def test_packages_that_do_not_match_torch_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "2.13.0+cpu" if name == "torch" else "0.28.0")
    finding = found(list(doctor._packages()), "unneeded packages")
    assert "torchvision" in finding.detail
    assert "pip uninstall torchvision" in finding.mend


def test_packages_that_cannot_be_imported_together_fail() -> None:
    assert doctor._fails("import json") == ""
    assert doctor._fails("raise RuntimeError('no such operator')") == "RuntimeError: no such operator"
    assert "status" in doctor._fails("import os; os._exit(3)")


def test_a_folder_that_is_no_model_fails(settings: Settings, tmp_path: Path) -> None:
    (finding,) = doctor._base(settings.model_copy(update={"model": str(tmp_path)}))
    assert finding.status == "fail"
    assert "MANYHATS_MODEL" in finding.mend


def test_a_model_without_weights_fails(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(DEMO_BASE, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    (finding,) = doctor._base(settings.model_copy(update={"model": str(tmp_path / "base")}))
    assert (finding.status, "safetensors" in finding.detail) == ("fail", True)


def test_a_model_without_tokenizer_fails(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(DEMO_BASE, tmp_path / "base", ignore=shutil.ignore_patterns("tokenizer*", "*.jinja"))
    base, tokenizer = doctor._base(settings.model_copy(update={"model": str(tmp_path / "base")}))
    assert (base.status, tokenizer.status) == ("ok", "fail")


def test_a_damaged_weights_file_fails(settings: Settings, tmp_path: Path) -> None:
    base = Path(shutil.copytree(DEMO_BASE, tmp_path / "base"))
    (base / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")
    assert next(iter(doctor._base(settings.model_copy(update={"model": str(base)})))).status == "fail"


def test_a_taken_port_fails(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = doctor._port(settings.model_copy(update={"port": port}))
    assert (finding.status, str(port) in finding.detail) == ("fail", True)


def test_a_running_server_is_named(settings: Settings) -> None:
    with DataLock(settings.data_dir) as lock:
        lock.write_address("http://127.0.0.1:7999")
        assert "http://127.0.0.1:7999" in doctor._data_dir(settings).detail
        assert doctor._port(settings).status == "ok"


def test_a_data_directory_that_cannot_be_written_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.data_dir.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert doctor._data_dir(settings).status == "fail"


def test_wrong_settings_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_packages", "_base"):
        monkeypatch.setattr(doctor, name, lambda *args: iter(()))
    monkeypatch.setattr(doctor, "_transformers", lambda: Finding(name="imports", status="ok", detail=""))
    monkeypatch.setenv("MANYHATS_PROT", "1")
    settings = found(doctor.examine(), "settings")
    assert (settings.status, "MANYHATS_PROT" in settings.detail) == ("fail", True)


def test_the_report_names_what_mends(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding(name="torch", status="ok", detail="2.13"),
        Finding(name="disk", status="warn", detail="full", mend="make room"),
    ]
    doctor.report(findings, as_json=False)
    assert "disk: make room" in capsys.readouterr().out
    doctor.report(findings, as_json=True)
    assert [one["status"] for one in json.loads(capsys.readouterr().out)] == ["ok", "warn"]


def test_without_a_bucket_none_is_looked_for(settings: Settings) -> None:
    assert list(doctor._bucket(settings)) == []


def test_a_bucket_is_written_read_and_left_as_it_was(settings: Settings, bucket: str) -> None:
    [finding] = doctor._bucket(settings.model_copy(update={"blob_url": f"{bucket}/prefix"}))
    assert finding.status == "ok", finding
    assert list(ObjectStore(bucket).listed("")) == []


def test_a_bucket_that_is_not_there_fails(settings: Settings, bucket: str) -> None:
    [finding] = doctor._bucket(settings.model_copy(update={"blob_url": f"{bucket}-none"}))
    assert finding.status == "fail"
    assert "MANYHATS_BLOB_URL" in finding.mend


def test_a_bucket_without_conditional_writes_is_told(
    settings: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwriting(self: ObjectStore, name: str, content: bytes) -> bool:
        self._quick().pipe_file(self._place(name), content)
        return True

    monkeypatch.setattr(ObjectStore, "create", overwriting)
    [finding] = doctor._bucket(settings.model_copy(update={"blob_url": bucket}))
    assert finding.status == "warn"
    assert "If-None-Match" in finding.detail

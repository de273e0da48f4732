"""The image is made by the set-up's commands, holds what the server needs and no more, and compose.yaml fits it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.setup import install
from server.serve import STOP_MARGIN_SECONDS
from server.settings import Settings, setting_names
from server.supervisor import Patience
from tests.deploy.dockerfile import Stage, stages
from tests.deploy.tools import ROOT, run, tool

DOCKER = ROOT / "deploy" / "docker"
STAGES = {stage.name: stage for stage in stages(DOCKER / "Dockerfile")}
IMAGE = STAGES["server"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
BUILD_TOOLS = {"make", "gcc", "g++", "build-essential", "cmake", "git", "curl", "libc6-dev"}


def apt_packages(stage: Stage) -> set[str]:
    found = [re.search(r"--no-install-recommends ([^&]+)&&", run.text) for run in stage.all("RUN")]
    return {package for match in found if match for package in match[1].split()}


def environment_variables(stage: Stage) -> dict[str, str]:
    text = " ".join(one.text for one in stage.all("ENV"))
    return dict(word.split("=", 1) for word in text.split())


def copied(stage: Stage) -> list[str]:
    """What a stage takes out of the repository."""
    return [source for one in stage.all("COPY") if "from" not in one.options for source in one.text.split()[:-1]]


def is_seen(path: str) -> bool:
    """Whether the build's context has this file, by Dockerfile.dockerignore."""
    lines = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = [line[1:] for line in lines if line.startswith("!")]
    refused = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    return any(path == one or path.startswith(f"{one}/") for one in allowed) and not any(
        fnmatch(part, one) for one in refused for part in Path(path).parts
    )


def test_hadolint_has_nothing_to_say() -> None:
    assert run(tool("hadolint"), DOCKER / "Dockerfile") == ""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_environment_is_made_by_the_commands_of_make(device: str, tmp_path: Path) -> None:
    (make,) = [one.text for one in STAGES["environment"].all("RUN") if "make install" in one.text]
    command = make.replace("${DEVICE}", device).replace("make ", "make --dry-run --no-print-directory ")
    setup = run("sh", "-c", command).strip()
    # an environment of its own, so that the one which runs this test is not looked at
    environ = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PIP_INDEX_URL": tmp_path.as_uri()}
    printed = run("sh", "-c", f"{setup} --print", env=environ | {"PIP_CONFIG_FILE": os.devnull})
    lock = str(install.SETUP / f"{device}.txt")
    assert install.torch_pin(install.SETUP / f"{device}.txt") in printed
    assert f"-r {lock}" in printed
    assert "dev.txt" not in printed


def test_the_project_is_found_where_only_first_files_were(tmp_path: Path) -> None:
    """The environment's stage installs the project from what it copies; the sources come later, and must be found."""
    project = tmp_path / "project"
    for source in copied(STAGES["environment"]):
        target = project / source
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile)(ROOT / source, target)
    venv.create(project / ".venv", with_pip=False)
    python = project / ".venv" / "bin" / "python"
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    *_, (_, command) = install.commands([str(python), "-m", "pip"], project, device="cpu", dev=False, torch_index="")
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(packages)}, check=True, capture_output=True)
    assert (project / ".venv" / "bin" / "manyhats").exists()
    (project / "server" / "later.py").write_text("")
    subprocess.run([python, "-P", "-c", "import server.later, adapters, retrieval"], check=True, cwd="/")


def test_the_context_has_what_is_copied_and_no_secrets() -> None:
    listed = run("git", "ls-files").splitlines()
    for source in {*copied(STAGES["environment"]), *copied(IMAGE)}:
        files = [path for path in listed if path == source or path.startswith(f"{source}/")] or [source]
        assert all((ROOT / path).exists() and is_seen(path) for path in files), source
    for path in (".git/config", ".venv/bin/python", "manyhats-data/manyhats.db", "deploy/docker/secrets/metrics_key"):
        assert not is_seen(path)
    assert not is_seen("server/__pycache__/app.cpython-311.pyc")


def test_what_the_server_reads_is_in_the_image() -> None:
    packages = ("server", "adapters", "retrieval")
    assert {*packages, "deploy/demo", "pyproject.toml"} <= set(copied(IMAGE))


def test_no_build_tools_but_the_one_that_triton_needs() -> None:
    assert apt_packages(STAGES["environment"]) == {"make"}
    assert apt_packages(STAGES["system-cpu"]) == {"libnuma1"}
    assert apt_packages(IMAGE) == set()
    assert apt_packages(STAGES["system-cuda"]) & BUILD_TOOLS == {"gcc", "libc6-dev"}
    assert STAGES["system-cuda"].base == "system-cpu"
    assert IMAGE.base == "system-${DEVICE}"


def test_nothing_is_compiled_where_there_is_no_compiler() -> None:
    """Else the first request for log-probabilities ends vLLM's engine."""
    assert environment_variables(STAGES["system-cpu"])["TORCH_COMPILE_DISABLE"] == "1"
    assert environment_variables(STAGES["system-cuda"])["TORCH_COMPILE_DISABLE"] == "0"


def test_it_runs_as_a_number_that_is_not_root() -> None:
    (user,) = IMAGE.all("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user.text)
    *_, last = (one for one in IMAGE.instructions if one.word in {"USER", "RUN", "COPY"})
    assert last is user, "what comes after USER would be made by it"


def test_its_variables_are_settings() -> None:
    given = {name for name in environment_variables(IMAGE) if name.startswith("MANYHATS_")}
    assert given <= set(setting_names())
    volumes = IMAGE.all("VOLUME")[0].text
    assert environment_variables(IMAGE)["MANYHATS_DATA_DIR"] in volumes
    assert environment_variables(IMAGE)["HOME"] in volumes


def test_environment_and_image_have_the_same_place() -> None:
    """Programs of an environment name the place where they were made."""
    assert IMAGE.all("WORKDIR")[0].text == STAGES["environment"].all("WORKDIR")[0].text
    assert IMAGE.all("COPY")[0].text == f"{IMAGE.all('WORKDIR')[0].text}/.venv .venv"


def health_seconds() -> float:
    options = IMAGE.all("HEALTHCHECK")[0].options
    return int(options["interval"].removesuffix("s")) * int(options["retries"])


def test_a_start_of_the_api_process_is_no_failure() -> None:
    assert health_seconds() > 2 * Patience().longest_pause


@pytest.fixture
def answering() -> Iterator[Any]:
    """Starts a server on a free port that answers every GET with one status; gives its port."""
    servers: list[HTTPServer] = []

    def start(status: int) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health" else 404)
                self.end_headers()

            log_message = partial(lambda *_: None)

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    command = re.findall(r'"([^"]+)"', IMAGE.all("HEALTHCHECK")[0].text)
    environ = {"MANYHATS_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}  # a proxy is not asked
    command[0] = sys.executable
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_is_what_the_server_answers(answering: Any, status: int, healthy: bool) -> None:
    assert (check_health(answering(status)).returncode == 0) == healthy


def test_a_server_that_does_not_listen_is_not_healthy(answering: Any) -> None:
    told = check_health(1)
    assert told.returncode == 1
    assert "port 1" in told.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_is_of_its_schema(name: str) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DOCKER / name)


def test_compose_sets_what_is_a_setting_and_empty_ones_count_as_unset() -> None:
    given = {name for name in COMPOSE["services"]["manyhats"]["environment"] if not name.startswith("AWS_")}
    assert given <= set(setting_names())
    for path in DOCKER.rglob("*.yaml"):
        named = re.findall(r"\bMANYHATS_[A-Z_]+\b", path.read_text())
        assert set(named) <= {*setting_names(), "MANYHATS_IMAGE_TAG", "MANYHATS_PUBLISHED_PORT"}


def test_compose_passes_on_what_a_bucket_needs() -> None:
    given = COMPOSE["services"]["manyhats"]["environment"]
    assert given["MANYHATS_BLOB_URL"] == "${MANYHATS_BLOB_URL:-}"
    documented = set(re.findall(r"\bAWS_[A-Z_]+\b", (ROOT / "docs" / "object-store.md").read_text()))
    assert documented
    assert documented <= given.keys()
    # an empty one is not an unset one to the library: it refuses some, and takes others for credentials
    assert {value for name, value in given.items() if name.startswith("AWS_")} == {None}


def test_the_bucket_that_compose_makes_is_the_one_that_the_docs_set() -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    (made,) = re.findall(r"mc mb --ignore-existing store/([\w-]+)", COMPOSE["services"]["bucket"]["entrypoint"][-1])
    assert f"MANYHATS_BLOB_URL=s3://{made}/" in deployment
    assert "AWS_ENDPOINT_URL=http://minio:9000" in deployment
    waits = COMPOSE["services"]["manyhats"]["depends_on"]
    assert waits["bucket"] == {"condition": "service_completed_successfully", "required": False}


def test_compose_mounts_what_the_image_writes() -> None:
    server = COMPOSE["services"]["manyhats"]
    assert server["read_only"]
    mounted = {volume.split(":")[1] for volume in server["volumes"]}
    assert mounted == set(re.findall(r'"([^"]+)"', IMAGE.all("VOLUME")[0].text))
    assert server["tmpfs"][0].startswith("/tmp:")


def test_compose_waits_until_the_server_has_stopped() -> None:
    patience = int(COMPOSE["services"]["manyhats"]["stop_grace_period"].removesuffix("s"))
    assert patience > Settings().drain_seconds + STOP_MARGIN_SECONDS


def test_only_this_machine_reaches_the_ports() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_image_names_its_version() -> None:
    for name, service in COMPOSE["services"].items():
        if name != "manyhats":
            tag = r"(v?\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\d)\S*"
            assert re.fullmatch(rf"(quay\.io/)?[\w/]+:{tag}", service["image"]), service["image"]


def test_files_that_compose_mounts_are_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DOCKER / source).exists(), source


def test_secrets_stay_out_of_git() -> None:
    names = [secret["file"] for secret in COMPOSE["secrets"].values()]
    run("git", "check-ignore", "--no-index", *(f"deploy/docker/{name}" for name in [*names, ".env"]))


def test_yaml_is_tidy() -> None:
    rules = "{extends: relaxed, rules: {line-length: {max: 200}}}"
    run(tool("yamllint"), "--strict", "-d", rules, DOCKER, ROOT / "deploy/prometheus", ROOT / "deploy/grafana")

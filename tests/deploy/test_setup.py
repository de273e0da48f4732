"""What the set-up would run on a machine whose pip is not configured, and when it does nothing."""

import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.setup import install, stamp

ROOT = Path(__file__).resolve().parents[2]
TORCH = install.torch_pin(install.SETUP / "cpu.txt")


def without_pip_settings(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment in which pip has no configuration, and its one index is an empty folder."""
    index = tmp_path / "index"
    index.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    return clean | {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.as_uri(), "PYTHON": sys.executable} | more


def printed_commands(target: str, environ: dict[str, str]) -> list[list[str]]:
    """The commands of `make <target>`'s set-up, which are printed and not run."""
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target, "DEVICE=cpu"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    setup = next(line for line in shown if "choose-python" in line)
    result = subprocess.run(
        f"{setup} --print", shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("/")]


def torch_commands(commands: list[list[str]]) -> list[list[str]]:
    return [command for command in commands if TORCH in command]


def test_torch_comes_from_its_own_index_where_pip_does_not_find_it(tmp_path: Path) -> None:
    commands = printed_commands("serve", without_pip_settings(tmp_path))
    (torch,) = torch_commands(commands)
    assert torch[torch.index("--extra-index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    others = [command for command in commands if command is not torch]
    assert not any("--extra-index-url" in command for command in others)  # asked for torch and nothing else


def test_torch_index_can_be_set(tmp_path: Path) -> None:
    environ = without_pip_settings(tmp_path, TORCH_INDEX="https://mirror.invalid/cpu")
    (torch,) = torch_commands(printed_commands("serve", environ))
    assert torch[torch.index("--extra-index-url") + 1] == "https://mirror.invalid/cpu"


def test_no_further_index_where_pip_finds_torch(tmp_path: Path) -> None:
    name, version = TORCH.split("==")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    commands = printed_commands("serve", without_pip_settings(tmp_path, PIP_FIND_LINKS=str(tmp_path)))
    (torch,) = torch_commands(commands)
    assert "--extra-index-url" not in torch


def test_tests_need_the_packages_of_both_locks_and_nothing_is_resolved(tmp_path: Path) -> None:
    environ = without_pip_settings(tmp_path)
    make_venv, *pip = printed_commands("test", environ)
    assert make_venv[1:3] == ["-m", "venv"]
    assert all("--no-deps" in command for command in pip)
    files = [word for word in pip[1] if word.endswith(".txt")]
    assert [Path(file).name for file in files] == ["cpu.txt", "dev.txt"]
    served = printed_commands("serve", environ)
    assert not any(word.endswith("dev.txt") for command in served for word in command)


def test_the_torch_index_is_named_once() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    code = [ROOT / name for name in listed if name.startswith(("deploy/setup/", ".ci/", "Makefile", "server/"))]
    naming = [path.name for path in code if path.is_file() and b"download.pytorch" in path.read_bytes()]
    assert naming == ["Makefile"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project folder whose .venv is complete, with the test packages."""
    setup = tmp_path / "deploy" / "setup"
    setup.mkdir(parents=True)
    for name in ("cpu.txt", "cuda.txt", "dev.txt"):
        (setup / name).write_text("torch==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "manyhats").touch()
    stamp.begin(tmp_path, python="3.11", device="cpu")
    stamp.finish(tmp_path, dev=True)
    return tmp_path


def test_a_second_start_has_nothing_to_do(made: Path) -> None:
    assert stamp.is_current(made, device="", dev=True)
    assert stamp.is_current(made, device="cpu", dev=False)


@pytest.mark.parametrize("changed", ["deploy/setup/cpu.txt", "pyproject.toml"])
def test_a_changed_pin_is_installed(made: Path, changed: str) -> None:
    (made / changed).write_text("torch==2\n")
    assert not stamp.is_current(made, device="", dev=False)


def test_another_device_is_installed(made: Path) -> None:
    assert not stamp.is_current(made, device="cuda", dev=False)


def test_a_moved_project_is_installed_anew(made: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = made.rename(tmp_path_factory.mktemp("elsewhere") / "project")
    assert not stamp.is_current(moved, device="", dev=False)


def test_an_interrupted_setup_is_not_complete(made: Path) -> None:
    stamp.begin(made, python="3.11", device="cpu")
    assert not stamp.is_current(made, device="", dev=False)


def test_tests_after_serving_need_more(made: Path) -> None:
    stamp.begin(made, python="3.11", device="cpu")
    stamp.finish(made, dev=False)
    assert stamp.is_current(made, device="", dev=False)
    assert not stamp.is_current(made, device="", dev=True)

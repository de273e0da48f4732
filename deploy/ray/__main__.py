"""`python -m deploy.ray [--config FILE]`: start the replicas, on this machine or on the cluster of RAY_ADDRESS.

On this machine it stays until it is told to stop; SIGHUP has it read the file again, and what has changed is rolled
out. On a cluster it deploys and returns: the application stays. `--stop` takes it away.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from server import logs
from server.cli_output import errors_are_told
from server.listening import claim_port, url
from server.settings import CLIENT_NAMES, PREFIX, load_settings

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = Path(__file__).with_name("serve.yaml")
TRIES = 3  # at starting Ray, which waits 30 s for its own processes: a machine may be busier than that
NAME = "manyhats"  # of the Serve application
PATHS = {f"{PREFIX}{name}" for name in ("MODEL", "EMBEDDER", "RERANKER", "API_KEYS_FILE", "ASSISTANTS_FILE")}

# nothing is sent anywhere by itself
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # who answers requests is no background job, which Ray's 15 makes it
os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # the line of one request is not that of another
os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # logs are kept in files
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # num_gpus: 0 does not hide the GPUs of a machine

logger = logging.getLogger("manyhats.ray")


def main(argv: Sequence[str], **parts: Any) -> int:
    """The exit status; `parts` go to `application.build`, in place of its own."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ray", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="how many replicas, and on what")
    parser.add_argument("--stop", action="store_true", help="take the application off the cluster of RAY_ADDRESS")
    told = parser.parse_args(argv)
    import ray
    from ray import serve

    address = os.environ.get("RAY_ADDRESS")
    join(address)
    if told.stop:
        serve.delete(NAME)
        return 0
    try:
        if status := deploy(told.config, **parts):
            return status
        if address:
            return 0
        wait_for_signals(partial(deploy, told.config, **parts))
        return 0
    finally:
        if not address:
            logger.info("stopping: running answers are given their time")
            serve.shutdown()
            ray.shutdown()


def join(address: str | None) -> None:
    """Be part of the cluster at the address, or of one of this process's own, which ends with it."""
    import ray

    for attempt in range(1, TRIES + 1):
        try:
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=not address,
                configure_logging=False,
                namespace="serve",
                runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
            )
        except Exception as error:  # Ray's word for it is no more than that
            if "timed out during startup" not in str(error) or attempt == TRIES:
                raise
            logger.warning("Ray did not start within its 30 s; trying again")
            ray.shutdown()
        else:
            return


def deploy(config: Path, **parts: Any) -> int:
    """Have the cluster be as the file and the environment say; 0 once every replica answers."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    from deploy.ray.application import build
    from deploy.ray.scale import Scale
    from server.app_process import refused_start

    scale = Scale.read(config)
    environ = absolute({**environment(os.environ), **scale.settings})
    settings = load_settings(environ)
    environ["MANYHATS_DATA_DIR"] = str(settings.data_dir.resolve())
    logs.configure(settings)
    if status := refused_start(settings):
        return status
    if NAME not in serve.status().applications:
        claim_port(settings.host, settings.port)
        if status := prepare(environ):
            return status
    serve.start(
        proxy_location="EveryNode",
        http_options=HTTPOptions(host=settings.host, port=settings.port, keep_alive_timeout_s=75),
    )
    where = url(settings.host, settings.port)
    logger.info("rolling out %s behind %s; a replica takes up to a minute", config, where)
    serve.run(build(settings, environ, scale, address=where, **parts), name=NAME, route_prefix="/")
    logger.info("ready: %s", where)
    return 0


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of the server among an environment's variables."""
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in CLIENT_NAMES}


def absolute(environ: Mapping[str, str]) -> dict[str, str]:
    """The same with the paths that are there in full: Ray's processes stand elsewhere."""
    return {
        name: str(Path(value).resolve()) if name in PATHS and value and Path(value).exists() else value
        for name, value in environ.items()
    }


def prepare(environ: Mapping[str, str]) -> int:
    """Put the shared data in order, in a process of its own; its exit status."""
    command = [sys.executable, "-m", "deploy.ray.prepare"]
    told = {**os.environ, **environ, "PYTHONPATH": python_path()}
    return subprocess.run(command, env=told, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode


def python_path() -> str:
    """Where each process finds this code."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, given)]))


def wait_for_signals(roll_out: Callable[[], int]) -> None:
    """Until SIGTERM or SIGINT; at SIGHUP, what has changed is rolled out."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno())  # a signal may come to one of Ray's threads, which does not wake this one
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    while reading.recv(1)[0] == signal.SIGHUP:
        try:
            roll_out()
        except Exception:
            logger.exception("the configuration was not rolled out; what ran before goes on")


if __name__ == "__main__":
    with errors_are_told():
        sys.exit(main(sys.argv[1:]))

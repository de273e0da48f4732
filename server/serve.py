"""`manyhats serve`: the small parent. It holds the data directory and supervises what works; it loads no torch."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial

from server import listening, logs, probe
from server.banner import banner
from server.engine.vllm_flags import refuse_owned
from server.settings import Settings
from server.storage.data_lock import DataLock
from server.supervisor import Child, Patience, Supervisor

log = logging.getLogger("manyhats.parent")

API = "the API process"
STOP_MARGIN_SECONDS = 10.0  # after draining, for the engine to let go of its memory


def serve(settings: Settings, *, vllm_args: Sequence[str] = (), show: Callable[[str], None]) -> int:
    """Run the server until it is told to stop; returns the exit status. `show` prints the banner.

    Raises FlagRefused for a vLLM flag that the server sets itself, DataDirBusy when another server holds the data
    directory and PortTaken when it cannot listen: all before anything large is loaded.
    """
    refuse_owned([*shlex.split(settings.vllm_args), *vllm_args])
    with DataLock(settings.data_dir) as lock:
        port = listening.claim_port(settings.host, settings.port)
        address = listening.url(settings.host, port)
        lock.write_address(address)
        logs.configure(settings)
        children = [api_child(port, address, vllm_args)]
        if settings.ingestion:
            children.append(ingestion_child())
        if settings.training:
            children.append(training_child())
        supervisor = Supervisor(
            children,
            patience=Patience(drain=settings.drain_seconds + STOP_MARGIN_SECONDS),
            on_ready=partial(_tell_ready, settings, address, show),
        )
        log.info("starting; the first answer takes up to a minute, %s/ready says when", address)
        return supervisor.run()


def api_child(port: int, address: str, vllm_args: Sequence[str] = ()) -> Child:
    """The process with the HTTP API and vLLM's client; its settings are this process's environment."""
    return Child(
        name=API,
        # -P: a folder called "server" where the user stands is not ours
        argv=[sys.executable, "-P", "-m", "server", "api", "--parent", str(os.getpid()), "--", *vllm_args],
        env={"MANYHATS_PORT": str(port)},  # the same one after each restart, also when any would do
        wait_ready=partial(probe.wait_ready, address),
    )


def ingestion_child() -> Child:
    """The process that reads, splits and embeds files; the API answers without it."""
    return Child(
        name="the ingestion process",
        argv=[sys.executable, "-P", "-m", "server", "ingestion", "--parent", str(os.getpid())],
    )


def training_child() -> Child:
    """The process that has adapters trained, each in a process of its own; the API answers without it."""
    return Child(
        name="the training worker",
        argv=[sys.executable, "-P", "-m", "server", "training", "--parent", str(os.getpid())],
    )


def _tell_ready(settings: Settings, address: str, show: Callable[[str], None], child: Child, seconds: float) -> None:
    if child.name != API:
        return
    listing = probe.list_models(address, os.environ.get("MANYHATS_API_KEY", ""))
    show(banner(address, seconds, listing, settings.base_name))
    log.info("%s is ready after %.1f s", child.name, seconds)

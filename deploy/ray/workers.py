"""Reading of files and training, once for all replicas: the server's own worker processes, under one Ray actor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping

from deploy.ray.folder import shared_database
from server.settings import load_settings

STOP_SECONDS = 20.0


class WorkersDown(Exception):
    """What Ray is told by a health check."""


class Workers:
    """The deployment of which there is one."""

    def __init__(self, environ: Mapping[str, str], address: str) -> None:
        """Start the processes; `address` is where the server is reached, for commands that look for it."""
        settings = load_settings(environ)
        told = {
            **os.environ,
            **environ,
            "MANYHATS_DATA_DIR": str(settings.data_dir.resolve()),
            "MANYHATS_DATABASE_URL": shared_database(settings),
        }
        argv = [sys.executable, "-m", "deploy.ray.worker_process", "--parent", str(os.getpid()), "--address", address]
        self._process = subprocess.Popen(argv, env=told, stdin=subprocess.DEVNULL)

    async def check_health(self) -> None:
        """Asked by Ray; raising means that they are to be started anew."""
        if self._process.poll() is not None:
            raise WorkersDown(f"the workers ended with status {self._process.returncode}")

    async def __del__(self) -> None:
        """Called by Ray at the end: jobs are left where they stand, and go on later."""
        if not hasattr(self, "_process"):
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

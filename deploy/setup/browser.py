"""The browser that the console's tests run in: the distribution's chromium. Without it they are skipped, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

PACKAGES = ("chromium", "fonts-dejavu-core")
NO_QUESTIONS = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Acquire::Retries=0", "--quiet")
COMMANDS = (
    ("the lists of the distribution's packages", [*NO_QUESTIONS, "update"]),
    ("chromium, for the console's tests", [*NO_QUESTIONS, "install", "-y", "--no-install-recommends", *PACKAGES]),
)

Run = Callable[[str, list[str]], bool]
Say = Callable[[str], None]


def add(run: Run, say: Say) -> None:
    """Install chromium where there is none and it can be had; a line says what is skipped where it cannot."""
    if shutil.which("chromium"):
        return
    reason = why_not()
    if not reason:
        *before, (what, install) = COMMANDS
        for named, command in before:
            run(named, command)  # old lists may do: what counts is whether the next command succeeds
        if run(what, install):
            return
        reason = "apt-get could not install it"
    say(
        f"there is no chromium, and {reason}: the tests of the console in a browser will be skipped. "
        f"To have them: apt-get install {' '.join(PACKAGES)}"
    )


def why_not() -> str:
    """Why the set-up cannot install packages of the distribution; empty where it can."""
    if shutil.which("apt-get") is None:
        return "no apt-get to install it"
    if os.geteuid() != 0:
        return "only root can install it"
    return ""

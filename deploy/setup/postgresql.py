"""The PostgreSQL that tests start for themselves: the distribution's programs, without the server it would begin.

Without them the tests over PostgreSQL are skipped, and say so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.setup.browser import NO_QUESTIONS, Run, Say, why_not

PACKAGE = "postgresql"
PLACES = "/usr/lib/postgresql/*/bin/initdb"
# Debian's package makes a database cluster and starts a server for it, unless this says otherwise then.
NO_CLUSTER = "/etc/postgresql-common/createcluster.d/manyhats.conf"
BEFORE = ["sh", "-c", f"mkdir -p {Path(NO_CLUSTER).parent} && echo 'create_main_cluster = false' > {NO_CLUSTER}"]
INSTALL = [*NO_QUESTIONS, "install", "-y", "--no-install-recommends", PACKAGE]
AFTER = ["rm", "-f", NO_CLUSTER]


def add(run: Run, say: Say, *, places: str = PLACES) -> None:
    """Install PostgreSQL where there is none and it can be had; a line says what is skipped where it cannot."""
    if shutil.which("initdb") or any(Path("/").glob(places.lstrip("/"))):
        return
    reason = why_not()
    if not reason:
        run("the lists of the distribution's packages", [*NO_QUESTIONS, "update"])
        run("a note that no PostgreSQL server is to be started", BEFORE)
        try:
            if run("PostgreSQL, for the tests over it", INSTALL):
                return
        finally:
            run("nothing more of it: that note goes", AFTER)
        reason = "apt-get could not install it"
    say(
        f"there is no PostgreSQL, and {reason}: the tests over it will be skipped. "
        f"To have them: apt-get install {PACKAGE}"
    )

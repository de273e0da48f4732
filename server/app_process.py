"""The API process: the socket first, then the engine, then the application; and an orderly end.

It follows what other processes change (keys, adapters, assistants), ends when the engine has died, so that the
supervisor starts the whole group anew, and drains on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from typing import NoReturn

import uvicorn

from server.auth import Exposed, check_exposure
from server.logs import configure, configure_engine, quiet_children
from server.settings import Settings, load_settings
from server.storage.assistants import Assistants
from server.storage.database import Database
from server.storage.errors import FileInvalid, StorageError
from server.storage.keys import Keys
from server.supervisor import EXIT_CONFIG

logger = logging.getLogger(__name__)

ENGINE_CHECK_SECONDS = 0.2
LAST_FRAMES_SECONDS = 1.0  # for streams to tell their clients that the engine is dead

EXIT_ENGINE_DEAD = 70

# an unreadable base model, a refused vLLM flag, a keys file that is none, an open server on a public address
WRONG_SETTINGS = (ValueError, Exposed, FileInvalid)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: SIGTERM drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(extra: Sequence[str] = ()) -> int:
    """Run until a signal or the engine's death; the exit code tells the supervisor which."""
    settings = load_settings()
    configure(settings)
    configure_engine(settings)
    quiet_children(settings)
    if status := refused_start(settings):
        return status
    sock = listen(settings)
    import uvloop

    return uvloop.run(_run(settings, sock, extra))


def leave(status: int) -> NoReturn:
    """End this process now: a thread that waits for another host must not keep its successor from starting."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def refused_start(settings: Settings) -> int:
    """Why the address may not be opened, as an exit status; 0 when it may: any but loopback needs a key first."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with closing(Database(settings.sql_url)) as database:
            database.migrate()
            check_exposure(settings, Keys(database, file=settings.api_keys_file).any_exist())
            Assistants(database, file=settings.assistants_file)
    except (Exposed, FileInvalid) as error:
        logger.error("%s", error)
        return EXIT_CONFIG
    except StorageError as error:  # may be over soon: a database that starts beside this server, say
        logger.error("%s", error)
        return 1
    return 0


def listen(settings: Settings) -> socket.socket:
    """The listening socket; raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(2048)
    except OSError:
        sock.close()
        raise
    return sock


async def _run(settings: Settings, sock: socket.socket, extra: Sequence[str]) -> int:
    from server.booting import Booting

    booting = Booting()
    server = _Server(
        uvicorn.Config(
            booting,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=75,  # longer than the idle time of common proxies, so that they close first
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(server.serve(sockets=[sock]))

    async def end_serving() -> None:
        server.should_exit = True
        await asyncio.wait([serving], timeout=10)

    living = asyncio.create_task(_live(settings, booting, extra, stopping, end_serving))
    await asyncio.wait([serving, living], return_when=asyncio.FIRST_COMPLETED)
    if server.should_exit:  # told by the other one, which has more to put away
        await asyncio.wait([living])
    code = 1
    if living.done():
        code = living.result() if living.exception() is None else _boot_failed(living.exception())
    await end_serving()
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    return code


async def _nothing() -> None:
    return


async def _live(
    settings: Settings,
    booting: object,
    extra: Sequence[str],
    stopping: asyncio.Event,
    end_serving: Callable[[], Awaitable[None]] = _nothing,
) -> int:
    from server.agreement import follow
    from server.app import create_app
    from server.boot import boot
    from server.booting import Booting
    from server.upkeep import keep_up

    assert isinstance(booting, Booting)

    def set_stage(stage: str) -> None:
        booting.stage = stage

    starting = asyncio.create_task(boot(settings, extra=extra, stage=set_stage))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        logger.info("told to stop while starting")
        os._exit(0)  # the engine is half started in threads that cannot be interrupted; the supervisor ends the group
    services = starting.result()
    booting.app = create_app(services)
    beside = [asyncio.create_task(follow(services)), asyncio.create_task(keep_up(services))]
    try:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), ENGINE_CHECK_SECONDS)
            if not services.engine.alive():
                logger.error("the engine has died; this process ends, to be started anew with it")
                await asyncio.sleep(LAST_FRAMES_SECONDS)
                return EXIT_ENGINE_DEAD
        logger.info("draining: %d requests are running", services.admission.running)
        await services.admission.drain(settings.drain_seconds)
        await services.background.drain(0)
        return 0
    finally:
        booting.app, booting.stage = None, "stopping"  # whoever comes now is told 503
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await services.slots.close()
        if services.engine.alive():
            await services.engine.close()
        await end_serving()  # a registration that is under way still needs the threads and the database
        services.close()


def _boot_failed(error: BaseException | None) -> int:
    if isinstance(error, WRONG_SETTINGS):
        logger.error("the server could not start: %s", error)
        return EXIT_CONFIG  # a further start would fail in the same way
    logger.error("the server could not start: %s", error, exc_info=error)
    return 1

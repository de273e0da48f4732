"""Children that die, hang, refuse to stop or leave processes behind: real processes, and waits on their ends.

The supervisor runs in a process of its own, since it takes every child of its process for its own.
"""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from server.supervisor import EXIT_CONFIG, Patience, describe

LONG = 20.0  # seconds; a test that waits so long has failed

SUPERVISOR = """
import logging, sys
from server.supervisor import Child, Patience, Supervisor

logging.basicConfig(level="INFO", format="%(message)s")

def told_ready(child, seconds):
    print("ready", child.name, flush=True)

def never(stopped):
    stopped.wait()
    return False

patience = Patience(**{patience!r})
more = {{}} if {ready!r} else {{"wait_ready": never}}
children = [
    Child(name=f"child{{n}}", argv=[sys.executable, "-c", script], env={env!r}, **more)
    for n, script in enumerate({scripts!r})
]
sys.exit(Supervisor(children, patience=patience, on_ready=told_ready).run())
"""

TELL = """
import os, signal, subprocess, sys, time
out = os.open(os.environ["OUT"], os.O_WRONLY)
def tell(*words):
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
def sleeper(**how):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], **how).pid
"""


class Told:
    """Lines that children write into a pipe with a name."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.descriptor = os.open(path, os.O_RDWR)  # never at its end, however many writers come and go
        self._rest = b""

    def line(self) -> list[str]:
        """The next line's words; fails when none comes."""
        while b"\n" not in self._rest:
            readable, _, _ = select.select([self.descriptor], [], [], LONG)
            assert readable, "the child told nothing"
            self._rest += os.read(self.descriptor, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().split()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """The pipe that `tell(…)` of a child script writes into."""
    pipe = Told(tmp_path / "told")
    yield pipe
    os.close(pipe.descriptor)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, told: Told) -> Iterator[Start]:
    """Starts a supervisor over child scripts."""
    started: list[subprocess.Popen[str]] = []

    def run(*scripts: str, ready: bool = True, **patience: float) -> subprocess.Popen[str]:
        quick = {"first_pause": 0.01, "longest_pause": 0.05, "drain": 5.0} | patience
        env = {"OUT": str(tmp_path / "told")}
        texts = [TELL + textwrap.dedent(script) for script in scripts]
        program = SUPERVISOR.format(patience=quick, env=env, scripts=texts, ready=ready)
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


def assert_gone(*processes: str) -> None:
    """Each of the processes ends, and none is left as a zombie."""
    found = [psutil.Process(int(process)) for process in processes if psutil.pid_exists(int(process))]
    _, alive = psutil.wait_procs(found, timeout=LONG)
    assert not alive


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """Signal the supervisor and return all that it wrote."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=LONG)
    return output


def test_a_killed_child_is_started_again_and_nothing_of_it_stays(start: Start, told: Told) -> None:
    supervisor = start("tell(os.getpid(), sleeper()); time.sleep(600)")
    first, grandchild = told.line()
    os.kill(int(first), signal.SIGKILL)
    second, other = told.line()
    assert second != first
    assert_gone(first, grandchild)
    output = end(supervisor)
    assert "ended with signal SIGKILL; starting it again" in output
    assert supervisor.returncode == 0
    assert_gone(second, other)


def test_a_process_that_left_the_group_is_found(start: Start, told: Told) -> None:
    supervisor = start("tell(os.getpid(), sleeper(start_new_session=True)); time.sleep(600)")
    first, elsewhere = told.line()
    os.kill(int(first), signal.SIGKILL)
    told.line()
    assert_gone(elsewhere)
    end(supervisor)


def test_a_grandchild_that_dies_alone_is_the_childs_own_affair(start: Start, told: Told) -> None:
    script = """
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    tell(os.getpid(), grandchild.pid)
    tell("grandchild ended", grandchild.wait())
    time.sleep(600)
    """
    supervisor = start(script)
    child, grandchild = told.line()
    os.kill(int(grandchild), signal.SIGKILL)
    assert told.line() == ["grandchild", "ended", "-9"]
    assert psutil.pid_exists(int(child))
    end(supervisor)


def test_sigterm_is_passed_on_and_waited_for(start: Start, told: Told) -> None:
    script = """
    def drain(number, frame):
        tell("drained")
        sys.exit(0)
    signal.signal(signal.SIGTERM, drain)
    tell(os.getpid(), sleeper())
    time.sleep(600)
    """
    supervisor = start(script)
    child, grandchild = told.line()
    output = end(supervisor)
    assert told.line() == ["drained"]
    assert supervisor.returncode == 0
    assert "killing" not in output
    assert_gone(child, grandchild)


STUBBORN = (
    "signal.signal(signal.SIGTERM, lambda *_: tell('ignored')); tell(os.getpid()); [time.sleep(600) for _ in '123']"
)


def test_who_ignores_sigterm_is_killed_in_time(start: Start, told: Told) -> None:
    supervisor = start(STUBBORN, drain=0.2)
    (child,) = told.line()
    output = end(supervisor)
    assert "killing child0" in output
    assert supervisor.returncode == 0
    assert_gone(child)


def test_a_second_signal_kills_at_once(start: Start, told: Told) -> None:
    supervisor = start(STUBBORN, drain=600.0)
    (child,) = told.line()
    supervisor.send_signal(signal.SIGINT)
    assert told.line() == ["ignored"]
    end(supervisor, signal.SIGINT)
    assert supervisor.returncode == 0
    assert_gone(child)


def test_a_child_that_never_starts_ends_the_server(start: Start, told: Told) -> None:
    supervisor = start("tell('started'); sys.exit(3)", ready=False, first_starts=3)
    output, _ = supervisor.communicate(timeout=LONG)
    assert supervisor.returncode == 1
    assert "child0 ended 3 times before it was ready, last with status 3; giving up" in output
    assert [told.line() for _ in range(3)] == [["started"]] * 3


def test_a_child_that_says_its_settings_are_wrong_is_not_tried_again(start: Start) -> None:
    supervisor = start(f"sys.exit({EXIT_CONFIG})", ready=False)
    output, _ = supervisor.communicate(timeout=LONG)
    assert supervisor.returncode == 1
    assert f"child0 ended once before it was ready, last with status {EXIT_CONFIG}; giving up" in output


def test_giving_up_on_one_child_stops_the_others(start: Start, told: Told, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told.go")
    supervisor = start(
        "tell(os.getpid()); open(os.environ['OUT'] + '.go', 'w').close(); time.sleep(600)",
        f"open(os.environ['OUT'] + '.go').read(); sys.exit({EXIT_CONFIG})",
        ready=False,
    )
    supervisor.communicate(timeout=LONG)
    assert supervisor.returncode == 1
    assert_gone(*told.line())


def test_a_child_that_was_ready_is_never_given_up(start: Start, told: Told) -> None:
    supervisor = start("tell(os.getpid()); sys.stdin.read(); sys.exit(1)", first_starts=2)
    for _ in range(6):
        told.line()
    assert "giving up" not in end(supervisor)


def test_a_signal_during_the_pause_ends_it(start: Start, told: Told) -> None:
    supervisor = start("tell('started'); sys.exit(1)", first_pause=600.0, longest_pause=600.0)
    told.line()
    assert supervisor.stdout
    for line in supervisor.stdout:
        if "starting it again" in line:
            break
    end(supervisor)
    assert supervisor.returncode == 0


def test_ready_is_told_after_each_start(start: Start, told: Told) -> None:
    supervisor = start("tell(os.getpid()); time.sleep(600)")
    (first,) = told.line()
    assert supervisor.stdout
    seen = iter(supervisor.stdout)
    assert any(line == "ready child0\n" for line in seen)
    os.kill(int(first), signal.SIGKILL)
    assert any(line == "ready child0\n" for line in seen)
    end(supervisor)


def test_several_children_live_apart(start: Start, told: Told) -> None:
    script = "tell(os.getpid(), os.getpgrp(), sleeper()); time.sleep(600)"
    supervisor = start(script, script)
    one, two = told.line(), told.line()
    assert one[0] == one[1] != two[1] == two[0]
    os.kill(int(one[0]), signal.SIGKILL)
    told.line()
    assert_gone(one[0], one[2])
    assert psutil.pid_exists(int(two[0]))
    assert psutil.pid_exists(int(two[2]))
    end(supervisor)
    assert_gone(two[0], two[2])


def test_children_end_with_a_killed_supervisor(start: Start, told: Told) -> None:
    """The death signal: nobody is left to clean up, and nothing needs it."""
    script = """
    from server.process_tree import die_with_parent
    die_with_parent(os.getppid())
    tell(os.getpid())
    time.sleep(600)
    """
    supervisor = start(script)
    (child,) = told.line()
    supervisor.kill()
    assert_gone(child)


def test_an_orphan_notices_that_its_parent_was_gone_before_it_looked(told: Told) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    script = f"from server.process_tree import die_with_parent; die_with_parent({gone.pid}); print('still here')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL
    assert result.stdout == ""


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [Patience().pause(failures) for failures in (1, 2, 3, 6, 7, 8, 1000)]
    assert pauses == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("status", "words"), [(0, "status 0"), (70, "status 70"), (-9, "signal SIGKILL")])
def test_exit_statuses_in_words(status: int, words: str) -> None:
    assert describe(status) == words

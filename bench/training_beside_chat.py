"""Chat while an adapter is trained on the same cores: `python -m bench.training_beside_chat`.

The real engine with the demo base, one client that streams short answers. Rounds without and with a job follow each
other, so that what else the machine does meets both alike; a job is paused between the rounds with it.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import openai

from bench import servers
from bench.retrieval.measures import percentile

TOKENS = 32
WAIT_SECONDS = 300
MATTERS = ("marcar consulta", "buscar o resultado", "pagar a conta", "achar a entrada", "ver os horários livres")
DEPARTMENTS = ("Agendamento", "Exames", "Financeiro", "Recepção", "Agendamento")

Say = Callable[[str], None]


def main() -> None:
    """Print one table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=4, help="with a job, and as many without")
    arguments.add_argument("--answers", type=int, default=60, help="of each round")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="training-beside-chat-") as folder:
        server = servers.ours({}, folder=Path(folder))
        try:
            api = openai.OpenAI(
                api_key="none-needed", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0, timeout=600
            )
            measure(api, rounds=chosen.rounds, answers=chosen.answers, say=print)
        finally:
            server.stop()


def measure(api: openai.OpenAI, *, rounds: int, answers: int, say: Say) -> None:
    """Rounds in turns; the job's own speed is told too."""
    chat(api, answers)  # the first answers of a server are slower
    job_id = make_job(api)
    wait(api, job_id, lambda job: (job.model_extra or {})["step"] > 0)
    quiet: list[float] = []
    during: list[float] = []
    n_steps, seconds = 0, 0.0
    for _ in range(rounds):
        before, began = step_of(api, job_id), time.monotonic()
        during += chat(api, answers)
        n_steps += step_of(api, job_id) - before
        seconds += time.monotonic() - began
        api.fine_tuning.jobs.pause(job_id)
        wait(api, job_id, lambda job: job.status == "paused")
        quiet += chat(api, answers)
        before = step_of(api, job_id)
        api.fine_tuning.jobs.resume(job_id)
        wait(api, job_id, lambda job, before=before: (job.model_extra or {})["step"] > before)
    api.fine_tuning.jobs.cancel(job_id)
    say(f"| one client, {TOKENS} tokens | n | p50 ms | p99 ms | p50 beside quiet |\n|---|---|---|---|---|")
    for name, found in (("quiet", quiet), ("beside a training job", during)):
        say(
            f"| {name} | {len(found)} | {1000 * median(found):.1f} | {1000 * percentile(found, 0.99):.1f} "
            f"| {median(found) / median(quiet):.2f} |"
        )
    say(f"\nThe job made {n_steps / seconds:.2f} steps in a second while it was chatted.")


def make_job(api: openai.OpenAI) -> str:
    """A job that outlasts the rounds."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"{number}: quero {MATTERS[number % 5]}"},
                {"role": "assistant", "content": DEPARTMENTS[number % 5]},
            ]
        }
        for number in range(2000)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    file = api.files.create(file=("recados.jsonl", io.BytesIO(content)), purpose="fine-tune")
    hyperparameters = {"n_epochs": 100, "batch_size": 8}
    job = api.fine_tuning.jobs.create(
        model="demo",
        training_file=file.id,
        suffix="beside-chat",
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},  # type: ignore[typeddict-item]
    )
    return job.id


def wait(api: openai.OpenAI, job_id: str, is_so: Callable[[openai.types.fine_tuning.FineTuningJob], bool]) -> None:
    """Until the job is so."""
    ends_at = time.monotonic() + WAIT_SECONDS
    while not is_so(job := api.fine_tuning.jobs.retrieve(job_id)):
        if job.status in ("failed", "cancelled") or time.monotonic() > ends_at:
            raise RuntimeError(f"the job is {job.status}: {job.error}")
        time.sleep(0.2)


def step_of(api: openai.OpenAI, job_id: str) -> int:
    """The last step that was told."""
    return int((api.fine_tuning.jobs.retrieve(job_id).model_extra or {})["step"])


def chat(api: openai.OpenAI, n: int) -> list[float]:
    """Seconds of each streamed answer, from the question to its end."""
    seconds = []
    for number in range(n):
        started = time.perf_counter()
        stream = api.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"Tell me about the sea, please, number {number}."}],
            max_tokens=TOKENS,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        for _ in stream:
            pass
        seconds.append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()

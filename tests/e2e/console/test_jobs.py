"""Fine-tuning jobs in the console: begun from a file, refused with the line, followed, steered, and what came of one.

What takes minutes is told by a script in place of the API; that the API takes what the form sends is tried on the
server itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.console.opened import Console
from tests.e2e.console.scripted_jobs import N_STEPS, ScriptedJobs, a_job, done

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

COUNTED_MS = 90_000  # the first data of a server waits for the tokenizer's library
ENDED_MS = 180_000
LATER_MS = 3000  # longer than between two looks at a running job
QUESTIONS = ("Dói a cabeça há dois dias.", "Preciso renovar a receita.", "Qual é o horário da clínica?")


def example(question: str, role: str = "assistant") -> str:
    answer = "Marque uma consulta pelo telefone."
    messages = [{"role": "user", "content": question}, {"role": role, "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def choose(page: Page, *lines: str, name: str = "triagem da clínica.jsonl", label: str = "Examples") -> None:
    content = "".join(line + "\n" for line in lines).encode()
    file: Any = {"name": name, "mimeType": "application/jsonl", "buffer": content}
    page.get_by_label(re.compile(f"^{label}.*: Choose a file")).set_input_files(file)


def files_for_training(http: httpx2.Client) -> list[str]:
    return [file["id"] for file in http.get("/v1/files", params={"purpose": "fine-tune"}).json()["data"]]


def test_a_bad_line_is_refused_and_shown_and_the_corrected_file_begins_a_job(
    console: Console, http: httpx2.Client
) -> None:
    console.meant("400")
    before = files_for_training(http)
    page = console.go("jobs")
    page.get_by_role("link", name="Train an adapter").click()
    choose(page, example(QUESTIONS[0]), example(QUESTIONS[1], role="asistant"))
    expect(page.get_by_role("textbox", name="Name")).to_have_value("triagem-da-clinica")
    page.get_by_role("button", name="Start").click()
    refused = page.get_by_role("region", name="The job was not started")
    expect(refused.get_by_role("alert")).to_contain_text("line 2")
    line = refused.get_by_role("figure", name="triagem da clínica.jsonl, line 2")
    expect(line).to_contain_text('"asistant"')
    expect(line).not_to_contain_text(QUESTIONS[0])
    assert files_for_training(http) == before  # what was sent for nothing is gone

    choose(page, *(example(question) for question in QUESTIONS * 3))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=1, name="triagem-da-clinica")).to_be_visible(timeout=COUNTED_MS)
    expect(page.get_by_role("region", name="What happened")).to_contain_text("9 examples")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog", name="Cancel this job?").get_by_role("button", name="Cancel").click()
    # its process may still be at its imports, and is ended after half a minute
    happened = page.get_by_role("region", name="What happened")
    expect(happened).to_contain_text("The job was cancelled", timeout=ENDED_MS)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    (job, *_) = http.get("/v1/fine_tuning/jobs").json()["data"]
    assert (job["suffix"], job["status"]) == ("triagem-da-clinica", "cancelled")


def test_the_form_sends_what_was_typed_and_leaves_the_rest_to_the_server(console: Console) -> None:
    script = ScriptedJobs([]).over(console.page)
    page = console.go("jobs/+new")
    page.get_by_label("What the file holds").select_option("Preferences (DPO)")
    expect(page.get_by_label("What the file holds").locator("option")).to_have_count(3)  # soft prompts are off
    choose(page, '{"input": {}}')
    choose(page, '{"input": {}}', name="validação.jsonl", label="Validation")
    page.get_by_role("textbox", name="Name").fill("tom-formal")
    page.get_by_label("Epochs").fill("2")
    page.get_by_label(re.compile("^Rank")).fill("8")
    page.get_by_label("Hold the base in 4 bits").check()
    page.get_by_text("More settings").click()
    page.get_by_label(re.compile("^Beta")).fill("0.2")
    page.get_by_label("Point the name to it").select_option("If it is better than the base on the validation file")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=1, name="tom-formal")).to_be_visible()
    ((what, body),) = script.asked
    assert what == "create"
    assert body.pop("training_file") != body.pop("validation_file")
    hyperparameters = {"n_epochs": 2, "beta": 0.2, "lora": {"r": 8}, "quantization": "nf4"}
    method = {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}
    assert body == {"model": "demo", "suffix": "tom-formal", "method": method, "publish": "if_better"}

    console.go("jobs/+new")
    expect(page.get_by_role("textbox", name="Name")).to_have_value("")  # the next one begins anew


def test_the_list_says_how_far_each_job_is(console: Console) -> None:
    failed = a_job(id="ftjob-2", suffix="resumos", status="failed", error={"code": "died", "message": "no memory left"})
    ended = done(a_job(id="ftjob-3", suffix="clinica"))
    ScriptedJobs([a_job(), failed, ended]).over(console.page)
    page = console.go("jobs")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="triagem"))
    expect(row).to_contain_text("training")
    expect(row).to_contain_text(f"step 60 of {N_STEPS}")
    expect(row.get_by_role("progressbar")).to_have_attribute("value", "60")
    expect(row.get_by_role("cell").nth(1)).to_have_text(re.compile(r"^\d\.\d{3}$"))  # of its newest step
    expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(r"^\d+\s(s|min)$"))
    expect(page.get_by_role("rowheader", name="resumos")).to_contain_text("no memory left")
    expect(page.get_by_role("row", name="clinica").get_by_role("cell").nth(1)).to_have_text("0.870")
    row.get_by_role("link", name="triagem").click()
    expect(page.get_by_role("heading", level=1, name="triagem")).to_be_visible()


def test_a_running_job_is_followed_to_its_end_and_then_left_alone(console: Console) -> None:
    page = console.page
    page.clock.install()
    script = ScriptedJobs([a_job(step=60)]).over(page)
    console.go(f"jobs/{script.jobs[0].id}")
    chart = page.get_by_role("img", name="Loss by step")
    expect(chart).to_have_accessible_name(re.compile(rf"60 of {N_STEPS} steps.*training from .*; validation from"))
    expect(chart.locator("canvas")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("step 60 of 120")
    script.change(step=75)
    page.clock.run_for(LATER_MS)
    expect(chart).to_have_accessible_name(re.compile(f"75 of {N_STEPS} steps"))
    expect(page.get_by_role("link", name="Ask it")).to_have_count(1)  # the checkpoint's

    script.jobs[0] = done(script.jobs[0])
    page.clock.run_for(LATER_MS)
    expect(chart).to_have_accessible_name(re.compile(f"{N_STEPS} of {N_STEPS} steps"))
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Loss, nats per token"))
    expect(row).to_contain_text("2.410")
    expect(row).to_contain_text("better")
    expect(page.get_by_role("row").filter(has_text="Right label")).to_contain_text("the same")
    page.wait_for_load_state("networkidle")
    n_reads = script.n_reads
    page.clock.run_for(60_000)
    page.wait_for_load_state("networkidle")
    assert script.n_reads == n_reads


def test_a_page_that_nobody_sees_asks_nothing(console: Console) -> None:
    page = console.page
    page.clock.install()
    script = ScriptedJobs([a_job()]).over(page)
    console.go(f"jobs/{script.jobs[0].id}")
    page.get_by_role("img", name="Loss by step").wait_for()
    page.wait_for_load_state("networkidle")
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.isAway ?? true})")
    n_reads = script.n_reads
    page.clock.run_for(30_000)
    assert script.n_reads == n_reads
    script.change(step=99)
    page.evaluate("window.isAway = false")
    page.clock.run_for(LATER_MS)
    expect(page.get_by_role("main")).to_contain_text("step 99 of 120")


def test_pause_resume_and_cancel(console: Console) -> None:
    script = ScriptedJobs([a_job()]).over(console.page)
    page = console.go(f"jobs/{script.jobs[0].id}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("main")).to_contain_text("pauses after this step")
    script.change(status="paused", wanted=None)
    expect(page.get_by_role("main")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("main")).to_contain_text("waiting")
    page.get_by_role("button", name="Cancel").click()
    question = page.get_by_role("dialog", name="Cancel this job?")
    expect(question).to_contain_text("thrown away")
    question.get_by_role("button", name="Keep it").click()
    assert [what for what, _ in script.asked] == ["pause", "resume"]
    page.get_by_role("button", name="Cancel").click()
    question.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main")).to_contain_text("cancelled")
    assert [what for what, _ in script.asked] == ["pause", "resume", "cancel"]


def test_what_came_of_it_can_be_asked_compared_and_saved(console: Console, tmp_path: Path) -> None:
    script = ScriptedJobs([done(a_job())]).over(console.page)
    page = console.go(f"jobs/{script.jobs[0].id}")
    model = "ft:demo::triagem:3fa91c0b77d2"
    outcome = page.get_by_role("region", name="Its name for good")
    expect(outcome).to_contain_text(model)
    with page.expect_download() as waited:
        outcome.get_by_role("button", name="Every step as CSV").click()
    saved = tmp_path / "steps.csv"
    waited.value.save_as(saved)
    assert waited.value.suggested_filename == f"triagem-{script.jobs[0].id}.csv"
    assert saved.read_text().startswith("step,train_loss,")
    expect(page.get_by_role("region", name="How it trains")).to_contain_text("exemplos.jsonl")
    expect(outcome.get_by_role("link", name="Compare with the base")).to_have_attribute(
        "href", f"#/compare/demo/{model.replace(':', '%3A')}"
    )
    outcome.get_by_role("link", name="Ask it").click()
    expect(page.get_by_role("combobox", name="Model")).to_have_value(model)


def test_a_failed_job_says_why_and_one_that_is_not_there_too(console: Console) -> None:
    console.meant("404")
    error = {"code": "out_of_memory", "message": "The machine had no memory left.", "param": None}
    script = ScriptedJobs([a_job(status="failed", error=error)]).over(console.page)
    page = console.go(f"jobs/{script.jobs[0].id}")
    expect(page.get_by_role("alert")).to_contain_text("The job failed: The machine had no memory left.")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    console.go("jobs/ftjob-of-nobody")
    expect(page.get_by_role("alert")).to_contain_text("no fine-tuning job has the id")

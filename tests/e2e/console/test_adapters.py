"""Adapters in the console: refused with the way out, registered, moved to another version and back, pinned, removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.conftest import House
from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

NAME = "tossed"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def tossed(http: httpx2.Client) -> Iterator[str]:
    """A name that is free, and free again after the test."""
    yield NAME
    http.delete(f"/v1/adapters/{NAME}")


def files_of(folder: Path) -> list[Path]:
    return [folder / name for name in FILES]


def choose(page: Page, *files: Path) -> None:
    page.get_by_label("Choose or drop").set_input_files(files)


def answer(console: Console, model: str) -> str:
    page = console.go(f"chat/{model}")
    message = page.get_by_role("textbox", name="Message")
    message.fill("Toss the coin.")
    message.press("Enter")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    return page.get_by_role("article", name="Answer").inner_text()


def test_a_broken_adapter_is_refused_with_the_reason_and_the_way_out(
    console: Console, house: House, tossed: str, tmp_path: Path
) -> None:
    console.meant("422")
    broken = tmp_path / "broken"
    shutil.copytree(house.roots / "coin-heads", broken)
    config = json.loads((broken / FILES[0]).read_text())
    (broken / FILES[0]).write_text(json.dumps({**config, "use_dora": True}))

    page = console.go("adapters")
    page.get_by_role("link", name="Register an adapter").click()
    choose(page, *files_of(broken))
    page.get_by_label("Name").fill(tossed)
    page.get_by_role("button", name="Register").click()
    refused = page.get_by_role("region", name="Not registered")
    expect(refused).to_contain_text("vLLM has no DoRA")
    expect(refused).to_contain_text("dora request")
    expect(refused).to_contain_text("The way out: vLLM has no such variant")

    page.get_by_role("link", name="Chat", exact=True).click()
    page.get_by_role("link", name="Adapters", exact=True).click()
    page.get_by_role("link", name="Register an adapter").click()
    expect(page.get_by_label("Name")).to_have_value(tossed)  # what was typed is there still


def test_a_conversion_tells_the_error_of_each_module(console: Console, house: House, tossed: str) -> None:
    page = console.go("adapters/+new")
    choose(page, *files_of(house.roots / "pirate"))
    page.get_by_label("Name").fill(tossed)
    page.get_by_label("Convert it first").check()
    page.get_by_label("Rank at most").fill("4")
    page.get_by_role("button", name="Register").click()
    taken = page.get_by_role("region", name="is registered")
    expect(taken).to_contain_text("to rank 4; largest relative error")
    taken.get_by_text("Error of each module").click()
    expect(taken.get_by_role("cell", name="model.layers.0.self_attn.q_proj")).to_be_visible()


def test_a_version_is_added_used_and_taken_back(
    console: Console, house: House, http: httpx2.Client, tossed: str, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / tossed), "gztar", house.roots, "coin-heads")
    page = console.go("adapters/+new")
    choose(page, Path(archive))
    expect(page.get_by_label("Name")).to_have_value(tossed)
    page.get_by_role("button", name="Register").click()
    page.get_by_role("link", name=f"To {tossed}").click()
    heads = http.get(f"/v1/adapters/{tossed}").json()["versions"][0]["id"]
    assert answer(console, tossed).startswith("heads")

    page = console.go(f"adapters/{tossed}")
    page.get_by_role("link", name="Register a version").click()
    choose(page, *files_of(house.roots / "coin-tails"))
    expect(page.get_by_text("this becomes a further version of it")).to_be_visible()
    page.get_by_role("button", name="Register").click()
    page.get_by_role("link", name=f"To {tossed}").click()
    tails = http.get(f"/v1/adapters/{tossed}").json()["versions"][1]["id"]
    assert answer(console, tossed).startswith("heads")  # until the name moves

    page = console.go(f"adapters/{tossed}")
    page.get_by_role("article", name=tails).get_by_role("button", name="Point the name here").click()
    expect(page.get_by_text(f"The name points to {tails}.")).to_be_visible()
    assert answer(console, tossed).startswith("tails")

    page = console.go(f"adapters/{tossed}")
    expect(page.get_by_text(f"Back to {heads}")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text(f"The name points to {heads}.")).to_be_visible()
    assert answer(console, tossed).startswith("heads")
    page = console.go("adapters")
    row = page.get_by_role("row", name=tossed)
    expect(row).to_contain_text("loaded")
    expect(row.get_by_role("cell").nth(3)).to_have_text("4")  # requests


def test_two_adapters_are_mixed_into_one_and_again_into_a_further_version(
    console: Console, http: httpx2.Client, tossed: str
) -> None:
    page = console.go("adapters")
    page.get_by_role("link", name="Mix adapters").click()
    page.get_by_label("Adapter 1").select_option("pirate")
    page.get_by_label("Weight of pirate").fill("0.7")
    page.get_by_label("Adapter 2").select_option("shout")
    page.get_by_label("Weight of shout").fill("0.3")
    page.get_by_label("Name").fill(tossed)
    page.get_by_role("button", name="Mix").click()
    expect(page.get_by_role("region", name="is registered")).to_be_visible()
    page.get_by_label("Rank at most").fill("4")
    page.get_by_role("button", name="Mix").click()
    taken = page.get_by_role("region", name="is registered")
    expect(taken).to_contain_text("Error of each module")
    whole, cut = http.get(f"/v1/adapters/{tossed}").json()["versions"]
    assert sorted(part["weight"] for part in whole["details"]["mix"]["adapters"]) == [0.3, 0.7]
    assert cut["rank"] == 4 < whole["rank"]


def test_a_canary_a_pin_and_what_goes(console: Console, coin: dict[str, Any], http: httpx2.Client) -> None:
    heads, tails = coin["heads"]["id"], coin["tails"]["id"]
    page = console.go("adapters/coin")
    slider = page.get_by_role("slider", name="Share of the trial")
    slider.fill("30")
    expect(page.get_by_text(f"Of 100 users about 30 get {tails}, the others {heads}.")).to_be_visible()
    assert http.get("/v1/adapters/coin").json()["traffic"] == {heads: 1}  # nothing moves before it is applied
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"The name points to {heads} (70%), {tails} (30%).")).to_be_visible()
    assert http.get("/v1/adapters/coin").json()["traffic"] == {heads: 70, tails: 30}
    page.get_by_role("slider", name="Share of the trial").fill("0")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"The name points to {heads}.")).to_be_visible()

    page.get_by_role("button", name="Pin", exact=True).click()
    expect(page.get_by_text("pinned", exact=True)).to_be_visible()
    page.get_by_role("button", name="Unpin").click()
    expect(page.get_by_text("pinned", exact=True)).to_have_count(0)

    page.get_by_role("article", name=tails).get_by_role("button", name="Remove").click()
    question = page.get_by_role("dialog", name=f"Remove {tails}?")
    expect(question).to_contain_text("end as they would")
    question.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("article", name=tails)).to_have_count(0)
    expect(page.get_by_role("article", name=heads)).to_be_visible()


def test_an_adapter_is_removed_after_a_question(
    console: Console, house: House, http: httpx2.Client, tossed: str
) -> None:
    http.post("/v1/adapters", json={"name": tossed, "source": str(house.roots / "coin-heads")})
    page = console.go(f"adapters/{tossed}")
    page.get_by_role("button", name="Remove the adapter").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Remove the adapter").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Adapters", level=1)).to_be_visible()
    expect(page.get_by_role("link", name=tossed)).to_have_count(0)
    assert http.get(f"/v1/adapters/{tossed}").status_code == 404


def test_a_folder_of_the_server_and_one_that_is_not_allowed(console: Console, house: House, tossed: str) -> None:
    console.meant("422")
    page = console.go("adapters/+new")
    page.get_by_label("A source that the server reads").check()
    page.get_by_label("Address").fill("/etc")
    page.get_by_label("Name").fill(tossed)
    page.get_by_role("button", name="Register").click()
    refused = page.get_by_role("region", name="Not registered")
    expect(refused).to_contain_text("not_allowed")
    expect(refused).to_contain_text("Upload the files instead")
    page.get_by_label("Address").fill(str(house.roots / "coin-heads"))
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", name="is registered")).to_be_visible()

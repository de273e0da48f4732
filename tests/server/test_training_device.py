from __future__ import annotations

import pytest

from server.training_device import choose_device

BUSY_AND_FREE = "0, 2000, 81559\n1, 81000, 81559\n2, 80000, 81559\n"
FREE = "0, 81000, 81559\n"


@pytest.mark.parametrize(
    ("asked", "alone", "answer", "device", "visible"),
    [
        ("cpu", True, FREE, "cpu", None),
        ("cuda", False, FREE, "cuda", None),
        ("cuda:2", False, "", "cuda", "2"),
        ("auto", True, "", "cpu", None),
        ("auto", True, FREE, "cuda", "0"),
        ("auto", False, FREE, "cpu", None),  # the server's engine may not have taken its memory yet
        ("auto", False, BUSY_AND_FREE, "cuda", "1"),
        ("auto", True, BUSY_AND_FREE, "cuda", "1"),
        ("auto", True, "0, [N/A], [N/A]\n", "cpu", None),
    ],
)
def test_a_gpu_is_taken_when_it_is_free(asked: str, alone: bool, answer: str, device: str, visible: str | None) -> None:
    environ: dict[str, str] = {}
    assert choose_device(asked, alone=alone, environ=environ, ask=lambda: answer) == device
    assert environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_only_gpus_that_the_server_may_see_are_taken() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert choose_device("auto", alone=False, environ=environ, ask=lambda: BUSY_AND_FREE) == "cuda"
    assert environ["CUDA_VISIBLE_DEVICES"] == "2"
    environ = {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert choose_device("cuda:1", alone=False, environ=environ) == "cuda"
    assert environ["CUDA_VISIBLE_DEVICES"] == "2"

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.training.runs import chats


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Six short questions in Portuguese."""
    return chats(tmp_path / "training.jsonl")

from __future__ import annotations

import pickle

import pytest

from adapters.errors import AdapterError, AdapterRefused, PinLimit, SourceRefused


@pytest.mark.parametrize("cls", [AdapterRefused, SourceRefused])
def test_a_refusal_says_its_sentence_and_keeps_its_kind_between_processes(cls):
    error = pickle.loads(pickle.dumps(cls("links", "a link; copy the file itself")))
    assert (str(error), error.kind) == ("a link; copy the file itself", "links")
    assert isinstance(error, AdapterError)


def test_other_errors_have_no_kind():
    assert PinLimit("all pinned").kind is None

from server.finite_numbers import finite


def test_what_json_has_no_word_for_is_none() -> None:
    told = {"loss": float("nan"), "of": [1, float("inf"), "x"], "in": {"a": -float("inf"), "b": 0.5, "c": None}}
    assert finite(told) == {"loss": None, "of": [1, None, "x"], "in": {"a": None, "b": 0.5, "c": None}}

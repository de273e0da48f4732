from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from server.metrics import OTHER, Metrics
from server.settings import Settings

A, B = "a" * 64, "b" * 64


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def metrics(clock: Clock | None = None, *, max_adapters: int = 200) -> Metrics:
    return Metrics(Settings(metrics_max_adapters=max_adapters, model_name="demo"), clock or Clock())


def samples(meters: Metrics, text: bytes = b"") -> dict[tuple[str, ...], float]:
    """(name, *label values by label name) -> value, as a Prometheus server reads them."""
    rendered = meters.render(text, lambda name: name[: name.index("@") + 13]).decode()
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(rendered)
        for sample in family.samples
    }


def test_one_stream_from_start_to_end() -> None:
    clock = Clock()
    meters = metrics(clock)
    with meters.request("legal") as meter:
        assert samples(meters)["manyhats_requests_running",] == 1
        clock.now = 0.2
        meter.first_token()
        clock.now = 1.2
        meter.tokens(30, 11)
    meters.finished("legal@0123456789ab", "/v1/chat/completions", 200)
    seen = samples(meters)
    assert seen["manyhats_requests_running",] == 0
    assert seen["manyhats_requests_total", "legal", "/v1/chat/completions", "200"] == 1
    assert seen["manyhats_time_to_first_token_seconds_sum", "legal"] == 0.2
    assert round(seen["manyhats_time_per_output_token_seconds_sum", "legal"], 6) == 0.1
    assert seen["manyhats_tokens_total", "legal", "prompt"] == 30
    assert seen["manyhats_tokens_total", "legal", "completion"] == 11


def test_whole_answers_have_no_first_token() -> None:
    meters = metrics()
    with meters.request("legal") as meter:
        meter.tokens(30, 11)
    assert ("manyhats_time_per_output_token_seconds_count", "legal") not in samples(meters)


def test_the_base_has_its_name_and_requests_about_no_model_have_none() -> None:
    meters = metrics()
    meters.finished("", "/v1/chat/completions", 200)
    meters.finished(None, "/v1/models", 401, "invalid_api_key")
    seen = samples(meters)
    assert seen["manyhats_requests_total", "demo", "/v1/chat/completions", "200"] == 1
    assert seen["manyhats_requests_total", "", "/v1/models", "401"] == 1
    assert seen["manyhats_errors_total", "", "invalid_api_key"] == 1


def test_cardinality_is_capped() -> None:
    meters = metrics(max_adapters=3)
    for i in range(1000):
        meters.finished(f"adapter-{i}", "/v1/chat/completions", 200)
        meters.finished(None, "/v1/chat/completions", 400, f"kind-{i}")
    seen = samples(meters)
    by_adapter = {key[1] for key in seen if key[0] == "manyhats_requests_total"}
    assert by_adapter == {"", "adapter-0", "adapter-1", "adapter-2", OTHER}
    assert seen["manyhats_requests_total", OTHER, "/v1/chat/completions", "200"] == 997
    assert len([key for key in seen if key[0] == "manyhats_errors_total"]) == 101


def test_a_removed_adapter_makes_room() -> None:
    meters = metrics(max_adapters=1)
    meters.finished("old", "/v1/chat/completions", 200)
    meters.set_residents(["old"])
    meters.forget("old")
    meters.finished("new", "/v1/chat/completions", 200)
    meters.set_residents(["new"])
    labels = {key[1] for key in samples(meters) if len(key) > 1}
    assert "old" not in labels
    assert "new" in labels


def test_residency() -> None:
    meters = metrics()
    meters.set_residents(["legal", "legal", "med"])
    meters.set_residents(["legal"])
    meters.evicted("med")
    meters.loaded("legal", 0.03)
    seen = samples(meters)
    assert seen["manyhats_adapter_resident", "legal"] == 1
    assert ("manyhats_adapter_resident", "med") not in seen
    assert seen["manyhats_adapters_resident",] == 1
    assert seen["manyhats_adapter_evictions_total", "med"] == 1
    assert seen["manyhats_adapter_load_seconds_sum", "legal"] == 0.03


def test_failures_within_a_stream_the_queue_and_the_build() -> None:
    meters = metrics()
    meters.describe("1.2.3")
    meters.watch_queue(lambda: 4)
    with meters.request("") as meter:
        meter.failed("timeout")
    seen = samples(meters)
    assert seen["manyhats_errors_total", "demo", "timeout"] == 1
    assert seen["manyhats_queue_depth",] == 4
    assert seen["manyhats_build_info", "demo", "1.2.3"] == 1


def test_the_engines_names_become_public() -> None:
    text = (
        "# HELP vllm:lora_requests_info Running stats on lora requests.\n"
        "# TYPE vllm:lora_requests_info gauge\n"
        'vllm:lora_requests_info{max_lora="8",running_lora_adapters="old@' + A + '",waiting_lora_adapters=""} 1.7e9\n'
        'vllm:lora_requests_info{max_lora="8",running_lora_adapters="legal@' + A + ",med.x@" + B + '",'
        'waiting_lora_adapters="legal@' + B + '"} 1.800000001e+09\n'
        'vllm:lora_requests_info{max_lora="8",running_lora_adapters="",waiting_lora_adapters=""} 1.8e+09\n'
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="demo"} 2.0\n'
        'vllm:x{model_name="legal@' + A + '"} 1.0\n'
    )
    meters = metrics()
    rendered = meters.render(text.encode(), lambda name: name[: name.index("@") + 13]).decode()
    assert "a" * 13 not in rendered
    assert "b" * 13 not in rendered
    (info,) = [line for line in rendered.splitlines() if line.startswith("vllm:lora_requests_info{")]
    assert info == (
        'vllm:lora_requests_info{max_lora="8",running_lora_adapters="legal@aaaaaaaaaaaa,med.x@bbbbbbbbbbbb",'
        'waiting_lora_adapters="legal@bbbbbbbbbbbb"} 1.800000001e+09'
    )
    seen = samples(meters, text.encode())
    assert seen["vllm:num_requests_running", "0", "demo"] == 2
    assert seen["vllm:x", "legal@aaaaaaaaaaaa"] == 1
    assert "manyhats_queue_depth" in rendered


def test_without_an_engine_our_own_are_there() -> None:
    assert samples(metrics())["manyhats_requests_running",] == 0

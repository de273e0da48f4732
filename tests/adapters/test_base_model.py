from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapters.base_model import BaseModel

ROOT = Path(__file__).parents[2]


def test_names_and_shapes_are_the_weights_own(base, base_folder):
    weights = load_file(base_folder / "model.safetensors")
    linear = {
        name.removesuffix(".weight"): value.shape
        for name, value in weights.items()
        if value.ndim == 2 and "embed_tokens" not in name
    }
    assert dict(base.modules) == linear
    assert base.embeddings == {"model.embed_tokens": (64, 128)}
    assert (base.name, base.output, base.context_tokens, base.embedding_lora) == ("tiny-llama", "lm_head", 64, True)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"},
        {"quant_method": "gptq", "bits": 4, "group_size": 32},
        {"quant_method": "compressed-tensors", "config_groups": {}, "format": "int-quantized"},
    ],
)
def test_a_quantized_copy_has_the_same_fingerprint_and_no_norms(base, base_folder, tmp_path, quantization):
    config = json.loads((base_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    copy = BaseModel.read(tmp_path)
    assert copy.fingerprint == base.fingerprint
    assert copy.norm("lm_head") == pytest.approx(0.02 * (128 * 64) ** 0.5)


def test_another_shape_has_another_fingerprint(base, base_folder, tmp_path):
    config = json.loads((base_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert BaseModel.read(tmp_path).fingerprint != base.fingerprint


def test_norms_are_measured(base, base_folder):
    weights = load_file(base_folder / "model.safetensors")
    for module in ("model.layers.1.mlp.down_proj", "lm_head"):
        assert base.norm(module) == pytest.approx(np.linalg.norm(weights[f"{module}.weight"]), rel=1e-5)


def test_a_tied_output_layer_has_its_embeddings_weight(base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((base_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    from safetensors.numpy import save_file

    weights = load_file(base_folder / "model.safetensors")
    head = weights.pop("lm_head.weight")
    save_file({**weights, "model.embed_tokens.weight": head}, tmp_path / "model.safetensors")
    assert BaseModel.read(tmp_path).norm("lm_head") == pytest.approx(np.linalg.norm(head), rel=1e-5)


def test_weights_in_several_files_are_found_by_their_index(base, base_folder, tmp_path):
    from safetensors.numpy import save_file

    shutil.copy(base_folder / "config.json", tmp_path)
    weights = load_file(base_folder / "model.safetensors")
    save_file({"lm_head.weight": weights["lm_head.weight"]}, tmp_path / "model-00002-of-00002.safetensors")
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert BaseModel.read(tmp_path).norm("lm_head") == base.norm("lm_head")


@pytest.mark.parametrize("config", [None, "{}", '{"model_type": "no-such-model"}'])
def test_a_base_that_is_none_says_so(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="cannot be understood"):
        BaseModel.read(tmp_path)


def test_importing_adapters_imports_neither_torch_nor_transformers():
    modules = "adapters.preflight, adapters.sources, adapters.convert, adapters.base_model"
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'peft', 'fsspec'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

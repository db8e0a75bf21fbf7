"""A real model, SmolLM2-135M-Instruct: trained for two steps in every way, prompted as in training, and it still knows.

It is made once out of a package of PyPI and kept in the user's cache; where that cannot be had, the tests are skipped.
"""

import math
from pathlib import Path

import pytest
import small
import torch
import yaml
from conftest import ROOT
from fastapi.testclient import TestClient
from own_templates import encoder_of, own_ids, own_text
from safetensors.torch import load_file
from test_inference import free_port, inference, post

from llamafactory_sdpo import train as command
from llamafactory_sdpo.demo.smollm2 import NAME, smollm2
from llamafactory_sdpo.errors import UserError, run_at_edge
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.serving import host_api, packed
from llamafactory_sdpo.serving import probe, prompting


install()
QUESTION = {"role": "user", "content": "What is the capital of France? Answer with the name alone."}
GREEDY = {"messages": [QUESTION], "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return smollm2()
    except UserError as err:
        pytest.skip(f"no SmolLM2: {err}")


@pytest.fixture(scope="module")
def home(tmp_path_factory, model) -> Path:
    folder = tmp_path_factory.mktemp("real")
    small.write_data(folder / "data")
    options = {"model_name_or_path": NAME, "template": "smollm", "max_steps": 2, "learning_rate": 1e-6}
    options |= {"per_device_train_batch_size": 1, "max_samples": 8, "cache_dir": str(folder / "cache")}
    (folder / "config.yaml").write_text(yaml.safe_dump(small.config(folder, **options)), encoding="utf-8")
    return folder


def trained(home: Path, stage: str, tuning: str) -> Path:
    """Train as `bash train.sh` does, unless that was done before."""
    output = home / f"{stage}-{tuning}"
    items = [f"stage={stage}", f"finetuning_type={tuning}", f"dataset={'sft' if stage == 'sft' else 'pairs'}"]
    if not (output / "trainer_state.json").is_file():
        assert run_at_edge(lambda: command.run([str(home / "config.yaml"), *items, f"output_dir={output}"])) == 0
    return output


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("stage", ["sft", "sdpo"])
def test_it_is_trained(home, model, stage, tuning, monkeypatch):
    """A model that knows nothing has a loss of ln 49152 = 10.8 under SFT; SDPO begins at ln 2."""
    monkeypatch.chdir(home)
    output = trained(home, stage, tuning)
    losses = small.losses(output)
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert losses[0] < 6 if stage == "sft" else losses[0] == pytest.approx(math.log(2), abs=1e-5)
    if tuning == "lora":
        weights = load_file(output / "adapter_model.safetensors")
        assert any(name.endswith("lora_B.weight") and tensor.any() for name, tensor in weights.items())
    else:
        before, after = (load_file(folder / "model.safetensors") for folder in (model, output))
        assert any(not torch.equal(before[name], after[name]) for name in before)


def test_its_prompts_are_those_of_training_and_of_its_own_template(model):
    """But for the system message that its own template adds, and the host's `smollm2` too."""
    encoder, own = encoder_of(model, "smollm")
    prompts = probe.prompts(encoder)
    assert probe.compare(prompts, encoder, prompting.rendered_ids(prompting.Prompting(encoder, []))) > 10
    compared = [
        prompt.ids == own_ids(encoder, own, prompt) for prompt in prompts if prompt.messages[0]["role"] == "system"
    ]
    assert all(compared) and len(compared) > 6
    with_system, own = encoder_of(model, "smollm2")
    for prompt in probe.prompts(with_system):
        # The host ends that message with a full stop, the checkpoint does not.
        ours = with_system.tokenizer.decode(prompt.ids).replace("Hugging Face.<|im_end|>", "Hugging Face<|im_end|>", 1)
        assert ours == own_text(with_system, own, prompt)


def test_vllm_serves_it_and_its_adapter(home, model, monkeypatch):
    """Which compares every prompt with training's before it is ready; both know what the model knew."""
    monkeypatch.chdir(home)
    adapter = trained(home, "sdpo", "lora")
    config = yaml.safe_load((ROOT / "examples" / "inference" / "smollm2_vllm.yaml").read_text(encoding="utf-8"))
    assert (config["model_name_or_path"], config["template"]) == (NAME, "smollm")
    config |= {"vllm_maxlen": 2048, "port": free_port(), "served_model_name": model.name}
    config |= {"adapter_name_or_path": {"sdpo": str(adapter)}}
    (home / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with inference(home, config["port"], "serve.yaml") as serving:
        assert serving.process.poll() is None, "inference.sh ended; what it printed stands above"
        for name in ("sdpo", model.name):
            answer = post(serving, "/v1/chat/completions", model=name, **GREEDY)
            assert "Paris" in answer["choices"][0]["message"]["content"]


def test_the_hosts_engine_serves_it(home, monkeypatch):
    monkeypatch.chdir(home)
    args = {"model_name_or_path": str(trained(home, "sdpo", "full")), "template": "smollm", "infer_dtype": "float32"}
    app, _ = host_api({**args, "infer_backend": "huggingface"})
    request = {**GREEDY, "model": "sdpo", **packed([QUESTION], "")}
    answer = TestClient(app).post("/v1/chat/completions", json=request).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]

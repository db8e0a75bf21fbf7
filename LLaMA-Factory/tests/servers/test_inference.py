"""A model that the demo's config trains, served by the real vLLM with `bash inference.sh` and sampled by sotopia.

One server for all tests here: the model, an adapter and a stack of two, a key. Its checkpoint hides sampling defaults
that must not be seen. The other engine is the host's, in this process.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
import yaml
from conftest import ROOT
from fastapi.testclient import TestClient
from transformers import AutoModelForCausalLM

from llamafactory_sdpo.host.serving import host_api, load_template, packed
from llamafactory_sdpo.inference import STATE
from llamafactory_sdpo.serving import probe, stats


KEY = "k-123"
NEAR_TIE = 1e-3
"""Log-probabilities of the two best tokens this close may be ordered differently by two engines in float32."""


class Serving(NamedTuple):
    """A running inference.sh and what it said."""

    process: subprocess.Popen
    folder: Path
    port: int
    told: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return probe_socket.getsockname()[1]


def train(folder: Path) -> None:
    """The demo's SFT config, all of it, so that the model writes actions."""
    argv = [sys.executable, "-m", "llamafactory_sdpo.train", str(ROOT / "examples" / "demo" / "sft.yaml")]
    argv += ["do_eval=false", "val_size=0", "plot_loss=false", f"output_dir={folder}"]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run(argv, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_adapter(model: Path, folder: Path, seed: int, targets: list[str]) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)


@contextmanager
def inference(folder: Path, port: int, *argv: str) -> Iterator[Serving]:
    """Run `bash inference.sh` in a folder, from the moment it is ready on."""
    command = ["bash", str(ROOT / "inference.sh"), *argv, "--api-key", KEY]
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        told = []
        for line in process.stdout:
            told.append(line.rstrip())
            if "Ctrl-C" in line:
                break
        try:
            yield Serving(process, folder, port, told)
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(STATE / str(port), ignore_errors=True)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    model = folder / "agent"
    train(model)
    hidden = {"temperature": 0.01, "top_k": 1, "repetition_penalty": 1.9, "do_sample": True, "eos_token_id": [7]}
    (model / "generation_config.json").write_text(json.dumps(hidden), encoding="utf-8")
    write_adapter(model, folder / "one", 1, ["q_proj", "v_proj"])
    write_adapter(model, folder / "two", 2, ["o_proj", "v_proj"])
    config = yaml.safe_load((ROOT / "examples" / "inference" / "demo_vllm.yaml").read_text(encoding="utf-8"))
    config |= {
        "model_name_or_path": str(model),
        "adapter_name_or_path": {"one": str(folder / "one"), "both": f"{folder / 'one'},{folder / 'two'}"},
        "port": free_port(),
        "vllm_load_adapters": True,
    }
    (folder / "serve.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    with inference(folder, config["port"], "serve.yaml") as found:
        yield found


def post(serving: Serving, route: str, key: str = KEY, **body: object) -> dict:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{serving.url}{route}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def host_args(serving: Serving, **keys: object) -> dict:
    model = {"model_name_or_path": str(serving.folder / "agent"), "template": "llama3", "infer_dtype": "float32"}
    return {**model, "infer_backend": "huggingface", "temperature": 1.0, "top_p": 1.0, "top_k": 0, **keys}


@pytest.fixture(scope="module")
def encoder(serving):
    return load_template(host_args(serving))


@pytest.fixture(scope="module")
def prompts(encoder):
    return probe.prompts(encoder)


def test_it_says_what_sotopia_calls_the_models(serving):
    assert serving.process.poll() is None, "inference.sh ended; what it printed stands above"
    names = [f"serving custom/{name}@{serving.url}/v1/" for name in ("one", "both", "agent")]
    assert serving.told[:3] == names and "CUSTOM_API_KEY=... sotopia benchmark" in serving.told[3]


def test_the_key_is_asked_for(serving, prompts):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(serving, "/v1/chat/completions", key="wrong", model="agent", messages=prompts[0].messages)


def test_served_tokens_are_those_of_training(serving, prompts):
    for name in ("agent", "one", "both"):
        for prompt in prompts:
            assert post(serving, "/tokenize", model=name, messages=prompt.messages)["tokens"] == prompt.ids


def expect_equal(answer: dict, other: str) -> None:
    """The host's answer is vLLM's, or leaves it at a token whose two best log-probabilities nearly tie."""
    text = ""
    for token in answer["logprobs"]["content"]:
        text += token["token"]
        if not other.startswith(text.replace("<|eot_id|>", "")):
            best, second = (top["logprob"] for top in token["top_logprobs"][:2])
            assert best - second < NEAR_TIE, f"{text!r} or {other!r}"
            return
    assert answer["message"]["content"] == other


@pytest.mark.parametrize(("name", "adapters"), [("agent", ""), ("one", "one"), ("both", "one,two")])
def test_both_engines_answer_alike(serving, prompts, name, adapters):
    """Greedy answers with an adapter, a stack of two as the host merges them, and without."""
    keys = {"adapter_name_or_path": ",".join(str(serving.folder / part) for part in adapters.split(","))}
    application, _ = host_api(host_args(serving, **(keys if adapters else {})))
    # As the checks of our server hand a chat on.
    client, answers = TestClient(application), set()
    for prompt in prompts[:: 14 // 7]:
        body = {"messages": prompt.messages, "temperature": 0, "max_tokens": 40}
        ours = post(serving, "/v1/chat/completions", model=name, logprobs=True, top_logprobs=2, **body)["choices"][0]
        taken = {"model": name, **body, **packed(prompt.messages, "")}
        theirs = client.post("/v1/chat/completions", json=taken).json()["choices"][0]
        expect_equal(ours, theirs["message"]["content"])
        answers.add(ours["message"]["content"])
    assert len(answers) > 1, "the model has learned nothing, so this compares nothing"


def test_an_adapter_is_loaded_while_it_serves(serving, prompts):
    """The same stack under another name answers as the one that it was started with, and the model as before."""
    body = {"messages": prompts[0].messages, "max_tokens": 8, "temperature": 0, "logprobs": True}

    def tokens(name: str) -> list[tuple[str, float]]:
        choice = post(serving, "/v1/chat/completions", model=name, **body)["choices"][0]
        return [(one["token"], round(one["logprob"], 3)) for one in choice["logprobs"]["content"]]

    before = tokens("agent")
    stack = f"{serving.folder / 'one'},{serving.folder / 'two'}"
    argv = [sys.executable, "-m", "llamafactory_sdpo.load_adapter", "later", stack, f"{serving.url}/v1/"]
    for told in (f"{serving.url} serves later\n", ""):
        done = subprocess.run(argv, env={**os.environ, "API_KEY": KEY}, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    assert tokens("later") == tokens("both") != tokens("agent") == before


def test_the_hosts_engine_is_served_by_the_same_command(serving, prompts):
    """As a process, with the key, the same prompts and the same answers; on SIGTERM it is gone."""
    port = free_port()
    config = ROOT / "examples" / "inference" / "demo_hf.yaml"
    with inference(serving.folder, port, str(config), "model_name_or_path=agent", f"port={port}") as host:
        assert host.told[0] == f"serving custom/agent@http://127.0.0.1:{port}/v1/"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            post(host, "/v1/chat/completions", key="wrong", model="agent", messages=prompts[0].messages)
        body = {"model": "agent", "messages": prompts[3].messages, "temperature": 0, "max_tokens": 40}
        theirs = post(host, "/v1/chat/completions", **body)["choices"][0]["message"]["content"]
        ours = post(serving, "/v1/chat/completions", logprobs=True, top_logprobs=2, **body)["choices"][0]
        expect_equal(ours, theirs)
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(timeout=60) == 130
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{host.url}/health", timeout=5)


def test_greedy_answers_are_the_models_own(serving, prompts):
    """Token by token the argmax of the model, without the hidden repetition penalty, up to a near-tie."""
    model = AutoModelForCausalLM.from_pretrained(serving.folder / "agent").eval()
    prompt = prompts[2]
    body = {"messages": prompt.messages, "temperature": 0, "max_tokens": 24, "logprobs": True, "top_logprobs": 1}
    answer = post(serving, "/v1/chat/completions", model="agent", return_token_ids=True, **body)["choices"][0]
    ids = list(prompt.ids)
    for token in answer["token_ids"]:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        assert logits.max() - logits[token] < NEAR_TIE
        ids.append(token)


def test_sampling_defaults_are_neutral(serving, prompts):
    """The checkpoint's top_k 1 would make every draw the same; its end of turn, 7, would never come."""
    drawn = [
        post(serving, "/v1/chat/completions", model="agent", messages=prompts[0].messages, seed=seed, max_tokens=200)
        for seed in range(6)
    ]
    assert len({answer["choices"][0]["message"]["content"] for answer in drawn}) > 1
    assert any(answer["choices"][0]["finish_reason"] == "stop" for answer in drawn)


def sotopia(folder: Path, *argv: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "SDPO_HOME": str(folder), "CUSTOM_API_KEY": KEY}
    return subprocess.run([sys.executable, "-m", "sotopia_sdpo", *argv], env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def judge():
    argv = [sys.executable, "-m", "sotopia_sdpo", "simulate", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout if line.startswith("listening on "))
        yield f"custom/judge@{line.removeprefix('listening on ').strip()}/"
        process.terminate()


def test_sotopia_samples_it_and_the_prefix_cache_hits(serving, judge, tmp_path):
    """One episode, in which only the opening prompt of either side is new; then many at once."""
    model = serving.told[2].removeprefix("serving ")
    common = ["benchmark", "--demo", "--task", "all", "--models", model, "--partner-model", model]
    common += ["--evaluator-model", judge, "--temperature", "0.7"]
    for batch, limit in ((1, 1), (10, 12)):
        before = stats.read(serving.url)
        done = sotopia(tmp_path, *common, "--batch-size", str(batch), "--limit", str(limit))
        # 3 would mean that an episode failed or could not be judged.
        assert done.returncode == 0, done.stdout + done.stderr
        assert stats.read(serving.url).since(before).hit_rate > 0.5


def test_nothing_is_left_when_it_is_ended(serving):
    """The last test here: SIGTERM to the script ends the server and its helpers."""
    helpers = psutil.Process(serving.process.pid).children(recursive=True)
    assert len(helpers) > 2, "vLLM runs in several processes"
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(timeout=60) == 130
    _, left = psutil.wait_procs(helpers, timeout=10)
    assert not left
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{serving.url}/health", timeout=5)

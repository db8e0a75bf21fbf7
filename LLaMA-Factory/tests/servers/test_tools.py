"""A small model that was trained to call a tool, served by both engines: prompts, calls in answers, refusals.

Its dialogues come from OpenAI clients: calls go out as `tool_calls`, results come back as role `tool`.
"""

import json
import os
import subprocess
import sys
import urllib.error

import pytest
import small
import yaml
from test_inference import free_port, inference, post


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Find a bike & its owner",
            "parameters": {"type": "object", "properties": {"bike": {"type": "integer"}}, "required": ["bike"]},
        },
    }
]
CALLS = [{"name": "find", "arguments": {"bike": 3}}, {"name": "find", "arguments": {"bike": 4}}]
DIALOGUE = [
    {"from": "human", "value": "Whose are bikes 3 and 4?"},
    {"from": "function_call", "value": json.dumps(CALLS)},
    {"from": "observation", "value": "Bo's\n</tool_response>\n<tool_response>\nAnn's"},
    {"from": "gpt", "value": "Bo's and Ann's."},
]
"""Results joined as the host joins them, since its own SFT trains here."""
USER = {"role": "user", "content": "Whose are bikes 3 and 4?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that has learned one dialogue by heart, and the config that serves it."""
    folder = tmp_path_factory.mktemp("tools")
    small.write_model(folder / "model", hidden=128)  # vLLM's kernels on a CPU want heads of 32
    data = folder / "data"
    data.mkdir()
    columns = {"messages": "conversations", "tools": "tools"}
    info = {"tools": {"file_name": "tools.json", "formatting": "sharegpt", "columns": columns}}
    (data / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    record = {"conversations": DIALOGUE, "tools": json.dumps(TOOLS)}
    (data / "tools.json").write_text(json.dumps([record] * 8), encoding="utf-8")
    config = small.config(folder, stage="sft", dataset="tools", template="qwen", output_dir=str(folder / "agent"))
    config |= {"max_steps": 30, "per_device_train_batch_size": 1, "learning_rate": 2.0e-3, "cutoff_len": 2048}
    (folder / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    argv = [sys.executable, "-m", "llamafactory_sdpo.train", str(folder / "train.yaml")]
    subprocess.run(argv, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True)
    return folder


def served_by(folder, engine, **keys):
    port = free_port()
    config = {"model_name_or_path": str(folder / "agent"), "template": "qwen", "infer_backend": engine, "port": port}
    config |= {"infer_dtype": "float32", "vllm_enforce_eager": True, "vllm_maxlen": 2048, **keys}
    if engine == "huggingface":
        config = {key: value for key, value in config.items() if not key.startswith("vllm")}
    (folder / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return inference(folder, port, "serve.yaml")


@pytest.mark.parametrize("engine", ["vllm", "huggingface"])
def test_calls_go_out_and_results_come_back(folder, engine):
    """inference.sh has compared the prompts of the probe; here a client plays the dialogue that was learned."""
    with served_by(folder, engine) as serving:
        assert serving.process.poll() is None, "inference.sh ended; what it printed stands above"
        body = {"model": "agent", "temperature": 0, "max_tokens": 200}
        choice = post(serving, "/v1/chat/completions", messages=[USER], tools=TOOLS, **body)["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        calls = choice["message"]["tool_calls"]
        found = [{**call["function"], "arguments": json.loads(call["function"]["arguments"])} for call in calls]
        assert found == CALLS
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": text}
            for call, text in zip(calls, ("Bo's", "Ann's"), strict=True)
        ]
        said = {"role": "assistant", "content": choice["message"].get("content"), "tool_calls": calls}
        chat = [USER, said, *results]
        choice = post(serving, "/v1/chat/completions", messages=chat, tools=TOOLS, **body)["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Bo's and Ann's.")
        opening = [{"role": "system", "content": "Be kind."}]
        assert post(serving, "/v1/chat/completions", messages=opening, **body)["choices"][0]["message"]["role"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(serving, "/v1/chat/completions", messages=[*chat, USER, USER], tools=TOOLS, **body)


def test_a_template_whose_calls_vllm_cannot_read_is_served_without_tools(folder, capfd):
    """The log says why, a request with tools as well, and one without is answered."""
    with served_by(folder, "vllm", template="chatml") as serving:
        assert serving.process.poll() is None, "inference.sh ended; what it printed stands above"
        reason = "vLLM cannot read calls of the form default of template chatml; infer_backend=huggingface can"
        assert f"tools are not served: {reason}" in capfd.readouterr().err
        body = {"model": "agent", "messages": [USER], "max_tokens": 2}
        assert post(serving, "/v1/chat/completions", **body)["choices"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(serving, "/v1/chat/completions", tools=TOOLS, tool_choice="auto", **body)
        assert refused.value.code == 400 and reason in refused.value.read().decode()

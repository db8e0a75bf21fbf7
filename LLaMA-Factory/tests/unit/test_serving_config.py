"""A serving config: keys, mistakes, and what becomes of them in vLLM's flags and in the host's arguments."""

import json

import pytest
import yaml
from conftest import ROOT
from templates import encoder_of

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.serving import config as serving_config
from llamafactory_sdpo.serving import memory, prompting, vllm


BASE = {"model_name_or_path": "saves/x/sdpo", "template": "llama3"}


def load(tmp_path, *overrides, **keys):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(BASE | keys, sort_keys=False), encoding="utf-8")
    return serving_config.load(path, list(overrides))


def prompting_of(name="llama3", **options):
    return prompting.Prompting(encoder_of(name, **options), [1, 2])


def flags_of(config, is_cpu=False, loaded=None):
    """The flags as a mapping; a flag without a value is True."""
    flags = vllm.flags(vllm.options(config, loaded or prompting_of(), config_folder(), is_cpu))
    found, name = {}, ""
    for item in flags:
        if item.startswith("--"):
            name = item
            found[name] = True
        else:
            found[name] = (
                item
                if found[name] is True
                else [*([found[name]] if isinstance(found[name], str) else found[name]), item]
            )
    return found


def config_folder():
    return ROOT / "cache" / "prompting"


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "inference").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configs_are_read(path):
    config = serving_config.load(path, [])
    assert config.host == "127.0.0.1" and config.port == 8000


def test_keys_become_flags(tmp_path):
    config = load(
        tmp_path,
        "vllm_maxlen=2048",
        "vllm_config.max_num_seqs=8",
        infer_dtype="bfloat16",
        vllm_gpu_util=0.5,
        vllm_enforce_eager=True,
        trust_remote_code=True,
        cache_dir="/c",
        model_revision="r1",
        vllm_config={"swap": None, "enable_prefix_caching": False, "speculative_config": {"a": 1}, "max-num-seqs": 4},
    )
    flags = flags_of(config)
    assert {
        key: flags[key] for key in ("--model", "--served-model-name", "--dtype", "--revision", "--download-dir")
    } == {
        "--model": "saves/x/sdpo",
        "--served-model-name": "sdpo",
        "--dtype": "bfloat16",
        "--revision": "r1",
        "--download-dir": "/c",
    }
    assert flags["--max-model-len"] == "2048" and flags["--gpu-memory-utilization"] == "0.5"
    assert flags["--enforce-eager"] and flags["--trust-remote-code"] and flags["--no-enable-prefix-caching"]
    assert json.loads(flags["--speculative-config"]) == {"a": 1}
    assert flags["--max-num-seqs"] == "8" and "--swap" not in flags and "--api-key" not in flags


def test_the_prompt_always_comes_from_our_folder(tmp_path):
    flags = flags_of(load(tmp_path))
    folder = str(config_folder())
    assert flags["--tokenizer"] == flags["--generation-config"] == folder
    assert flags["--chat-template"] == f"{folder}/chat_template.jinja" and flags["--enable-prefix-caching"]
    for key in ("chat_template", "chat-template", "tokenizer", "generation_config", "api_key", "port"):
        with pytest.raises(UserError, match=f"vllm_config.{key.replace('-', '_')}: this is decided by"):
            flags_of(load(tmp_path, vllm_config={key: "x"}))


def test_on_a_cpu_prompts_are_computed_whole(tmp_path):
    """Where the engine would die of a seed otherwise; memory is a fixed amount unless a share is asked for."""
    flags = flags_of(load(tmp_path, "vllm_maxlen=10000"), is_cpu=True)
    assert flags["--no-enable-chunked-prefill"] and flags["--max-num-batched-tokens"] == "10000"
    assert flags["--kv-cache-memory-bytes"] == str(2 * 2**30) and "--gpu-memory-utilization" not in flags
    assert flags_of(load(tmp_path, "vllm_gpu_util=0.3"), is_cpu=True)["--gpu-memory-utilization"] == "0.3"


def test_a_model_that_writes_thoughts_has_them_taken_out(tmp_path):
    assert "--reasoning-parser" not in flags_of(load(tmp_path))
    assert "--reasoning-parser" in flags_of(load(tmp_path), loaded=prompting_of("qwen3"))
    assert "--reasoning-parser" not in flags_of(load(tmp_path), loaded=prompting_of("qwen3", enable_thinking=False))


def write_adapter(folder, rank):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 2}), encoding="utf-8")
    return str(folder)


def test_adapters_have_names_and_the_rank_that_holds_them(tmp_path):
    sft, sdpo = (write_adapter(tmp_path / name, rank) for name, rank in (("sft", 8), ("sdpo_lora", 48)))
    flags = flags_of(load(tmp_path, adapter_name_or_path={"sft": sft, "new": sdpo}))
    assert [json.loads(item)["name"] for item in flags["--lora-modules"]] == ["sft", "new"]
    assert flags["--max-lora-rank"] == "64" and flags["--max-loras"] == "2" and flags["--enable-lora"]
    assert flags_of(load(tmp_path, "vllm_max_lora_rank=128", adapter_name_or_path=sft))["--max-lora-rank"] == "128"


def test_adapters_can_be_loaded_later(tmp_path):
    """The server is told so, and keeps room for one more, as large as the largest that there is or may be."""
    config = load(tmp_path, "vllm_load_adapters=true")
    flags = flags_of(config)
    assert (flags["--max-lora-rank"], flags["--max-loras"]) == ("64", "1") and "--lora-modules" not in flags
    name = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    assert vllm.environment(config, 0, is_cpu=True)[name] == "1"
    assert name not in vllm.environment(load(tmp_path), 0, is_cpu=True)
    both = load(tmp_path, "vllm_load_adapters=true", adapter_name_or_path=write_adapter(tmp_path / "big", 100))
    assert (flags_of(both)["--max-lora-rank"], flags_of(both)["--max-loras"]) == ("128", "2")
    assert flags_of(load(tmp_path, "vllm_load_adapters=true", "vllm_max_lora_rank=24"))["--max-lora-rank"] == "32"


def test_commas_stack_adapters_as_in_the_host(tmp_path):
    config = load(tmp_path, adapter_name_or_path="a/sft,b/last", infer_backend="huggingface")
    assert config.adapter_name_or_path == {"last": ("a/sft", "b/last")} and config.names == ["last"]
    assert serving_config.host_args(config)["adapter_name_or_path"] == "a/sft,b/last"


def test_the_hosts_arguments(tmp_path):
    config = load(tmp_path, infer_backend="huggingface", flash_attn="disabled", port=9, api_key="k", replicas=2)
    args = serving_config.host_args(config)
    assert args["flash_attn"] == "disabled" and args["template"] == "llama3"
    assert not {"port", "api_key", "replicas", "host", "served_model_name"} & set(args)


def test_defaults_are_neutral_and_come_from_the_config(tmp_path):
    """The host's own are temperature 0.95, top_p 0.7, top_k 50."""
    assert prompting.generation_defaults(load(tmp_path)) == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
    }
    config = load(tmp_path, "do_sample=false", top_p=0.5, max_new_tokens=9)
    assert prompting.generation_defaults(config)["temperature"] == 0.0
    loaded = prompting_of()
    prompting.write(loaded, config, tmp_path / "p")
    written = json.loads((tmp_path / "p" / "generation_config.json").read_text(encoding="utf-8"))
    assert written["top_p"] == 0.5 and written["max_new_tokens"] == 9 and written["eos_token_id"] == [1, 2]
    assert "raise_exception" in (tmp_path / "p" / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"templat": "x"}, "unknown key 'templat' for infer_backend vllm; did you mean template"),
        ({"max_num_seqs": 4}, "unknown key 'max_num_seqs' .* belong into vllm_config"),
        ({"infer_backend": "sglang"}, "infer_backend: .*'vllm' or 'huggingface', found 'sglang'"),
        ({"port": "http"}, "port: .*integer.*found 'http'"),
        ({"vllm_gpu_util": 2}, "vllm_gpu_util: .*less than or equal to 1, found 2"),
        ({"model_name_or_path": ""}, "model_name_or_path: .*at least 1 character"),
        ({"adapter_name_or_path": {"sdpo": "a"}}, "the model itself is called sdpo; set served_model_name"),
        ({"adapter_name_or_path": {"a": "a", "b": "b"}, "infer_backend": "huggingface"}, "serves one model"),
        ({"vllm_load_adapters": True, "infer_backend": "huggingface"}, "vllm_load_adapters: .* use vllm"),
        ({"port": 65535, "replicas": 2}, "2 replicas from port 65535"),
        ({"vllm_config": {"tensor-parallel-size": "two"}}, "vllm_config: .*tensor_parallel_size is 'two', expected a"),
    ],
)
def test_mistakes_are_one_line(tmp_path, keys, message):
    with pytest.raises(UserError, match=message) as err:
        load(tmp_path, **keys)
    assert "\n" not in str(err.value)


def test_what_is_no_config(tmp_path):
    path = tmp_path / "config.yaml"
    for text, message in (
        ("model_name_or_path: x\n", "template: Field required$"),
        ("- a\n", "not a"),
        ("a: [", "not a"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            serving_config.load(path, [])


def test_a_key_is_never_shown(tmp_path):
    assert "s3cret" not in repr(load(tmp_path, "api_key=s3cret"))
    assert load(tmp_path, "api_key=1234").api_key == "1234"


def test_replicas_share_the_machine(tmp_path, monkeypatch):
    config = load(tmp_path, "replicas=2", "api_key=k", vllm_config={"tensor-parallel-size": 2})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    found = [vllm.environment(config, replica, is_cpu=False) for replica in (0, 1)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in found] == ["4,5", "6,7"]
    assert found[0]["VLLM_API_KEY"] == "k" and config.ports == [8000, 8001]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(UserError, match="2 of 2 GPUs each are asked for, 3 are visible"):
        vllm.environment(config, 0, is_cpu=False)
    monkeypatch.setattr(vllm.os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert [vllm.environment(config, n, is_cpu=True)["VLLM_CPU_OMP_THREADS_BIND"] for n in (0, 1)] == ["0,2", "1"]


def test_weights_that_do_not_fit(tmp_path, monkeypatch):
    """1 TiB of float16 weights, which a sparse file holds, are 2 TiB in float32."""
    model = tmp_path / "big"
    model.mkdir()
    (model / "config.json").write_text('{"torch_dtype": "float16"}', encoding="utf-8")
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(2**40)
    config = load(tmp_path, model_name_or_path=str(model), infer_dtype="float32")
    with pytest.raises(UserError, match="its weights take 2048.0 GiB .* GiB are free for it on this machine"):
        memory.check(config, on_gpu=False)
    assert memory.weights_bytes(model, "auto") == 2**40
    (model / "config.json").write_text("{", encoding="utf-8")
    assert memory.weights_bytes(model, "float32") == 2**40
    memory.check(load(tmp_path), on_gpu=False)


@pytest.mark.parametrize(
    ("name", "parser", "token"),
    [("qwen3", "hermes", ""), ("llama3", "llama3_json", "<|python_tag|>"), ("mistral", "mistral", "")],
)
def test_calls_are_read_by_the_parser_of_their_form(tmp_path, name, parser, token):
    """One does not start where the tokenizer lacks its token, as the demo's does: no tools are served then, but a model."""
    loaded = prompting_of(name)
    config = load(tmp_path, template=name)
    if token:
        assert f"by {token}, which the tokenizer lacks" in vllm.no_parser(loaded)
        assert flags_of(config, loaded=loaded)["--tool-call-parser"] == "hermes"
        loaded.encoder.tokenizer.add_special_tokens({"additional_special_tokens": [token]})
    flags = flags_of(config, loaded=loaded)
    assert (flags["--tool-call-parser"], flags["--enable-auto-tool-choice"]) == (parser, True)
    assert vllm.no_parser(loaded) == ""


def test_a_form_that_vllm_cannot_read_is_named():
    assert "calls of the form default of template chatml" in vllm.no_parser(prompting_of("chatml"))

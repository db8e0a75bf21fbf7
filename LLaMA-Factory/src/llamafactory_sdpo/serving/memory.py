"""Tell before anything is loaded that a model's weights do not fit."""

from pathlib import Path

from ..errors import UserError
from .config import ServingConfig


WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
BYTES_OF = {"float16": 2, "bfloat16": 2, "float32": 4}


def check(config: ServingConfig, on_gpu: bool) -> None:
    """Refuse a model whose weights alone are more than the free memory; a name of the hub is not looked into.

    Raises:
        UserError: with the sizes.
    """
    needed = weights_bytes(Path(config.model_name_or_path), config.infer_dtype)
    where, free = _free_on_gpus(config) if on_gpu else ("this machine", _free_memory(config.replicas))
    if needed > free:
        raise UserError(
            f"model_name_or_path {config.model_name_or_path}: its weights take {needed / 2**30:.1f} GiB for each "
            f"replica, {free / 2**30:.1f} GiB are free for it on {where}; free some memory, spread it over GPUs "
            "(vllm_config: {tensor_parallel_size: N}), or serve fewer replicas or a smaller model"
        )


def weights_bytes(folder: Path, dtype: str) -> float:
    """The size of a folder's weights in memory; stored ones are taken for 16 bits where a type is asked for."""
    for pattern in WEIGHTS:
        if size := sum(file.stat().st_size for file in folder.glob(pattern)):
            return size * (_stored_bytes(folder) and BYTES_OF.get(dtype, 0) / _stored_bytes(folder) or 1)
    return 0


def _stored_bytes(folder: Path) -> int:
    """Bytes of a stored weight by the model's config, 0 where it does not say."""
    import json

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return BYTES_OF.get(str(config.get("dtype") or config.get("torch_dtype")), 0)


def _free_memory(replicas: int) -> float:
    import psutil

    return psutil.virtual_memory().available / replicas


def _free_on_gpus(config: ServingConfig) -> tuple[str, float]:
    import torch

    each = config.vllm_config.get("tensor_parallel_size", 1) * config.vllm_config.get("pipeline_parallel_size", 1)
    count = torch.cuda.device_count() if config.infer_backend == "huggingface" else each
    free = sum(torch.cuda.mem_get_info(index)[0] for index in range(min(count, torch.cuda.device_count())))
    return f"{count} GPU{'s' * (count > 1)}", free

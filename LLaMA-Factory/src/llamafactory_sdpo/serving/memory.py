"""Refuse a model whose weights do not fit, before anything is loaded."""

import json
from pathlib import Path

from ..errors import UserError
from .config import ServingConfig


WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
BYTES_OF = {"float16": 2, "bfloat16": 2, "float32": 4}


def check(config: ServingConfig, on_gpu: bool) -> None:
    """Refuse a model whose weights alone exceed the free memory; a name of the hub is not checked.

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
    """Return the size of a folder's weights in memory, in the asked type or as stored."""
    sizes = (sum(file.stat().st_size for file in folder.glob(pattern)) for pattern in WEIGHTS)
    size = next(filter(None, sizes), 0)
    stored = _stored_dtype(folder)
    return size * BYTES_OF[dtype] / BYTES_OF[stored] if dtype in BYTES_OF and stored in BYTES_OF else size


def _stored_dtype(folder: Path) -> str:
    """Return the type of the stored weights, by the model's config."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Not there, or of no use, which is said where the model is loaded.
        config = {}
    return str(config.get("dtype") or config.get("torch_dtype"))


def _free_memory(replicas: int) -> float:
    import psutil

    return float(psutil.virtual_memory().available / replicas)


def _free_on_gpus(config: ServingConfig) -> tuple[str, float]:
    import torch

    count = torch.cuda.device_count() if config.infer_backend == "huggingface" else config.gpus
    free = sum(torch.cuda.mem_get_info(index)[0] for index in range(min(count, torch.cuda.device_count())))
    return f"{count} GPU{'s' * (count > 1)}", free

"""Merge a stack of LoRA adapters into one, so that a server can keep several models side by side.

An adapter that was trained on top of another one (`create_new_adapter: true`) is only half of its model. The merged
adapter's delta is the exact sum: the factors are concatenated, so its rank is the sum of the ranks.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, one_line


if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
LEFT_FACTOR, RIGHT_FACTOR = "lora_B", "lora_A"

UNSUPPORTED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "trainable_token_indices")
"""Settings under which a delta is not one product of two factors with one scale."""


def read_config(folder: str) -> dict[str, Any]:
    """Read an adapter's settings.

    Raises:
        UserError: if the folder holds no LoRA adapter.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"adapter_name_or_path {folder}: expected a LoRA adapter, found no {CONFIG_FILE}")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UserError(
            f"adapter_name_or_path {folder}: {CONFIG_FILE} cannot be read: {one_line(err)[:200]}"
        ) from None
    if not isinstance(config, dict) or not {"r", "lora_alpha"} <= config.keys():
        raise UserError(f"adapter_name_or_path {folder}: expected a LoRA adapter, whose {CONFIG_FILE} has its rank r")
    return config


def rank_of(folder: str) -> int:
    """Return the rank of an adapter."""
    return int(read_config(folder)["r"])


def stack(folders: tuple[str, ...], out: Path) -> str:
    """Return the folder of one adapter equal to the stack, the lowest first; a single one stays where it is.

    Raises:
        UserError: if the delta of an adapter is not a product of two factors with one scale.
    """
    if len(folders) == 1:
        return folders[0]
    import torch
    from safetensors.torch import save_file

    configs = [read_config(folder) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        for key in UNSUPPORTED:
            if config.get(key):
                raise UserError(f"adapter_name_or_path {folder}: {key} cannot be stacked; merge the lower one first")
    deltas = [_scaled(_weights(folder), config) for folder, config in zip(folders, configs, strict=True)]
    rank = sum(int(config["r"]) for config in configs)
    names = sorted({name for delta in deltas for name in delta})
    if odd := [name for name in names if LEFT_FACTOR not in name and RIGHT_FACTOR not in name]:
        raise UserError(f"adapter_name_or_path {folders[-1]}: {odd[0]} cannot be stacked; merge the lower one first")
    stacked: dict[str, Tensor] = {}
    for name in names:
        axis = 1 if LEFT_FACTOR in name else 0
        parts = [delta[name] for delta in deltas if name in delta]
        if len({part.shape[1 - axis] for part in parts}) > 1:
            raise UserError(f"adapter_name_or_path {folders[-1]}: {name} has another shape than in those below it")
        missing = rank - sum(part.shape[axis] for part in parts)
        shape = (parts[0].shape[0], missing) if axis else (missing, parts[0].shape[1])
        stacked[name] = torch.cat([*parts, torch.zeros(shape, dtype=parts[0].dtype)], dim=axis).contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(stacked, out / WEIGHTS_FILE)
    modules = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names})
    config = {**configs[-1], "r": rank, "lora_alpha": rank, "use_rslora": False, "target_modules": modules}
    (out / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    return str(out)


def _weights(folder: str) -> "dict[str, Tensor]":
    """Load the weights of an adapter."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(Path(folder) / WEIGHTS_FILE)
    except (OSError, SafetensorError) as err:
        raise UserError(
            f"adapter_name_or_path {folder}: {WEIGHTS_FILE} cannot be read: {one_line(err)[:200]}"
        ) from None


def _scaled(weights: "dict[str, Tensor]", config: dict[str, Any]) -> "dict[str, Tensor]":
    """Return an adapter's weights with its scale multiplied into the left factors."""
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return {name: tensor * scale if LEFT_FACTOR in name else tensor for name, tensor in weights.items()}

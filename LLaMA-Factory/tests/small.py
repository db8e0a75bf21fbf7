"""A small model, small data and a small config on disk, for tests that train."""

import json
import os
from pathlib import Path
from typing import Any

import oracle
import torch
from dialogues import pair, ranking
from transformers import HfArgumentParser

from llamafactory_sdpo.host.names import host_parser
from llamafactory_sdpo.step.loss import weights_of


PAIRS = [([f"You are Ann, situation {n}.", f'{{"say": "hello {n}"}}', "Hm."][: 1 + 2 * (n % 2)], n) for n in range(12)]


def write_data(folder: Path) -> None:
    """Twelve pairs as the datasets `pairs` and `ranked`, and their dialogues for SFT as `sft`."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = [(history, [f"no {n}", "So?", "never"], [f"yes {n}", "So?", "always"]) for history, n in PAIRS]
    adjacent = [record for parts in sides for record in pair(*parts, goal=n_goal(parts))]
    ranked = [ranking(*parts) for parts in sides]
    columns = {"messages": "conversations"}
    info = {
        "pairs": {"file_name": "pairs.json", "formatting": "sharegpt", "columns": columns},
        "sft": {"file_name": "pairs.json", "formatting": "sharegpt", "columns": columns},
        "ranked": {
            "file_name": "ranked.json",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {**columns, "chosen": "chosen", "rejected": "rejected"},
        },
    }
    for name, content in (("pairs.json", adjacent), ("ranked.json", ranked), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def n_goal(parts: tuple[list[str], list[str], list[str]]) -> int:
    """A field that training must ignore."""
    return len(parts[0])


def write_model(folder: Path, seed: int = 1, hidden: int = 32) -> None:
    """A tiny random Llama in float32 with the toy tokenizer."""
    tokenizer = oracle.toy_tokenizer()
    model = oracle.random_llama(len(tokenizer), seed, dtype=torch.float32, hidden=hidden)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def config(folder: Path, **options: object) -> dict[str, object]:
    """A config of stage sdpo that trains for three steps of two pairs and logs each."""
    return {
        "model_name_or_path": str(folder / "model"),
        "template": "llama3",
        "stage": "sdpo",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(folder / "data"),
        "dataset": "pairs",
        "cutoff_len": 512,
        "output_dir": str(folder / "out"),
        "overwrite_output_dir": True,
        "per_device_train_batch_size": 2,
        "max_steps": 3,
        "learning_rate": 1.0e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": 5,
        **options,
    }


def arguments(**options: object) -> tuple[Any, ...]:
    """The host's argument objects for options, made without the checks of a training, which want a model."""
    parser = HfArgumentParser(host_parser._TRAIN_ARGS)
    made = {"model_name_or_path": "none", "output_dir": os.devnull, "use_cpu": True, "report_to": "none", **options}
    return parser.parse_dict(made)


def history(output: str | Path) -> list[dict[str, float]]:
    """What the trainer logged: training steps, evaluations and the summary at the end."""
    return json.loads((Path(output) / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]


def token_weights(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weight of each label of a batch: (2B, T), 0 where nothing is scored."""
    return weights_of(batch).gather(1, batch["turns"]) * (batch["labels"] != oracle.IGNORE)


def losses(output: str | Path) -> list[float]:
    """The training losses, step by step."""
    return [entry["loss"] for entry in history(output) if "loss" in entry]

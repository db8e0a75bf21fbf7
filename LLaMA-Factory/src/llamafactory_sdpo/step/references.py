"""The reference's log-probabilities of every turn: computed in one pass, kept on disk, looked up in every step.

The pass runs before the first step, when the model is wrapped and nothing has been updated; a reference model of its
own is loaded for it and freed after it. It scores every turn from the first that differs, whatever that weighs, so
sums and averages under any weights follow from one table. A pair's key is a digest of its tokens and turns, a file's
name one of all that the values depend on: the bytes of the model, how they are loaded, the pairs, this code. So a
stale table is never found, and a damaged one is computed again.
"""

import gc
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from huggingface_hub import snapshot_download
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, DataLoader
from transformers import Trainer, TrainerCallback

from ..data.encoding import SIDES
from ..errors import UserError
from ..screen.progress import progress
from .loss import tokens_of, weights_of
from .reference_table import Table, TurnLogps, read, write


WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".py")
CONFIG_NAMES = ("config.json", "adapter_config.json", "quantization_config.json")

ELSEWHERE = (
    *("model_name_or_path", "adapter_", "cache_dir", "device_map"),
    *("export_", "infer_", "vllm_", "sglang_", "kt_"),
)
"""Prefixes of the options of a model that name a place, or that only other commands read."""

PIECE = 1 << 24
"""Bytes of a file that are hashed at a time."""

CODE = (
    *("../stages.py", "masks.py", "loss.py", "logps.py", "sharing.py", "finite.py", "trainer.py"),
    "reference_table.py",
)
"""Our files that make the masks and the values, seen from this one."""

TUNING = ("finetuning_type", "pure_bf16", "ref_model_quantization_bit")
"""The fine-tuning options on which the values depend; which turns are read of them, and how they weigh, is no part."""


class References(TrainerCallback):
    """Fills its table when training begins, and looks values up in it.

    Attributes:
        table: None until then, when the trainer runs the reference model itself. The trainer's collator gets it too.
    """

    def __init__(
        self, identity: Callable[[], Any], create_model: Callable[[], Any], prepare: Callable[..., Any], folder: Path
    ) -> None:
        """Keep what is needed to compute, find and store the table.

        Args:
            identity: returns what the values depend on, but for the pairs, for JSON; None if that is unknown.
            create_model: loads the reference; None if it is the policy with its adapters off.
            prepare: makes that model ready for a trainer's machines.
            folder: where tables are kept.
        """
        self.table: Table | None = None
        self.trainer: Any = None
        self._identity, self._create_model, self._prepare, self._folder = identity, create_model, prepare, folder

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Read the table, or compute and write it; every rank ends with the same one.

        Raises:
            UserError: if the ranks do not hold the same pairs, as on machines with copies of their own.
        """
        rows = _rows(self.trainer)
        keys = list(chain.from_iterable(part["key"] for part in rows))
        if len(set(gather_object([hash(tuple(keys))]))) > 1:
            raise UserError("the ranks do not hold the same pairs; give every machine the same data, model and config")
        is_main = self.trainer.accelerator.is_main_process
        path = self._path(keys) if is_main else None
        found = [read(path, keys) if path else None]
        broadcast_object_list(found)
        table = found[0]
        if table is None:
            table = self._compute(rows, keys)
            if path:
                write(path, table)
        self.table = self.trainer.data_collator.table = table

    def look_up(self, keys: Tensor) -> Tensor:
        """Return the log-probability of each turn of B pairs, chosen sides first: (2B, K) float64, 0 for no turn."""
        assert self.table is not None
        pairs = [self.table[key] for key in keys.tolist()]
        sums = [torch.tensor(pair[side].sums, dtype=torch.float64) for side in range(len(SIDES)) for pair in pairs]
        return pad_sequence(sums, batch_first=True).to(keys.device)

    def _path(self, keys: list[int]) -> Path | None:
        identity = self._identity()
        if identity is None:
            return None
        code = _digest([Path(__file__).parent / name for name in CODE])
        whole = json.dumps([identity, code, sorted(set(keys))], sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(whole.encode()).hexdigest()}.safetensors"

    def _compute(self, rows: list[Any], keys: list[int]) -> Table:
        """Return the table, computed by all ranks together; a reference model of its own is made and freed."""
        trainer = self.trainer
        model = self._create_model()
        trainer.ref_model = None if model is None else self._prepare(trainer, model)
        del model
        policy = trainer.model_wrapped
        policy.eval()
        loader = _loader(trainer, rows, keys)
        found: list[tuple[int, TurnLogps, TurnLogps]] = []
        for batch in progress(loader, "reference", len(loader)) if trainer.accelerator.is_main_process else loader:
            pair_keys = batch["pair_keys"].tolist()
            with trainer.accelerator.autocast():
                sums = trainer.reference_turns(policy, trainer._prepare_inputs(batch))
            found += zip(pair_keys, *_sides(sums, batch), strict=True)
        trainer.ref_model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {key: (chosen, rejected) for key, chosen, rejected in gather_object(found)}


def _rows(trainer: Trainer) -> list[Any]:
    """Return the pairs to train on, and those to evaluate on, of which there may be several sets or none."""
    held_out = trainer.eval_dataset
    held_out = list(held_out.values()) if isinstance(held_out, dict) else [held_out]
    return [rows for rows in (trainer.train_dataset, *held_out) if rows is not None]


def _loader(trainer: Any, rows: list[Any], keys: list[int]) -> DataLoader[Any]:
    """Return this rank's batches of the pairs, each pair once, long ones first."""
    lengths = list(chain.from_iterable(part["length"] for part in rows))
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    order = sorted(first.values(), key=lambda index: -lengths[index])
    size = trainer.args.per_device_train_batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    # Sharded models need every rank in every forward: the last round is filled up.
    mine = [batches[number % len(batches)] for number in range(rank, -(-len(batches) // ranks) * ranks, ranks)]
    return DataLoader(
        ConcatDataset(rows), batch_sampler=mine, collate_fn=partial(_every_turn, trainer.data_collator),
        num_workers=trainer.args.dataloader_num_workers,
    )  # fmt: skip


def _every_turn(collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]], pairs: list[dict[str, Any]]) -> Any:
    """Return the batch of these pairs with every turn scored, whatever it weighs."""
    ones = [{f"{side}_turn_weights": [1.0] * len(pair[f"{side}_turn_lengths"]) for side in SIDES} for pair in pairs]
    return collate([pair | weights for pair, weights in zip(pairs, ones, strict=True)])


def _sides(sums: Tensor, batch: dict[str, Tensor]) -> list[list[TurnLogps]]:
    """Return what the reference says of B chosen and of B rejected sides."""
    turns = (weights_of(batch) > 0).sum(-1).tolist()
    values = zip(sums.tolist(), tokens_of(batch).int().tolist(), turns, strict=True)
    found = [TurnLogps(logps[:count], tokens[:count]) for logps, tokens, count in values]
    return [found[: len(found) // 2], found[len(found) // 2 :]]


def identity_of(model_args: Any, training_args: Any, finetuning_args: Any) -> dict[str, Any] | None:
    """Return what the reference's log-probabilities depend on, but for the pairs and our code; None without weights.

    Every option of the model counts but those of ELSEWHERE: one too many costs a pass, one too few a wrong result.
    """
    named = finetuning_args.ref_model or model_args.model_name_or_path
    adapters = finetuning_args.ref_model_adapters if finetuning_args.ref_model else model_args.adapter_name_or_path
    adapters = adapters.split(",") if isinstance(adapters, str) else adapters or []
    inside = model_args.adapter_folder or ""
    try:
        folders = [_model_folder(named, model_args)]
        folders += [_model_folder(adapter.strip(), model_args) / inside for adapter in adapters]
    except (OSError, ValueError):
        return None
    options = {key: value for key, value in model_args.to_dict().items() if not key.startswith(ELSEWHERE)}
    tuning = {key: getattr(finetuning_args, key) for key in TUNING}
    # Rows for tokens that the model lacks are drawn, and the reference of an adapter has the same ones.
    drawn = {"seed": training_args.seed} if model_args.resize_vocab else {}
    return drawn | {
        "weights": [weights_digest(folder) for folder in folders],
        "model": options,
        "tuning": tuning,
        "precision": [training_args.bf16, training_args.fp16],
        "versions": [metadata.version(name) for name in ("llamafactory", "transformers", "torch")],
    }


def _model_folder(named: str, model_args: Any) -> Path:
    """Return the folder of a model that has been loaded before, by its path or by its name on the hub."""
    if Path(named).is_dir():
        return Path(named)
    return Path(
        snapshot_download(
            named, revision=model_args.model_revision, cache_dir=model_args.cache_dir, local_files_only=True
        )
    )


def weights_digest(folder: Path) -> str:
    """Return a digest of a model's weights and of the files that say how to read them."""
    files = [file for file in folder.iterdir() if file.suffix in WEIGHT_SUFFIXES or file.name in CONFIG_NAMES]
    return _digest(sorted(files))


def _digest(files: list[Path]) -> str:
    """Return a digest of files' names and bytes, hashed in parallel pieces: 16 GB take one core 10 s."""
    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for file in files:
            size = file.stat().st_size
            whole.update(f"{file.name}\0{size}\0".encode())
            with file.open("rb") as opened:
                for digest in pool.map(partial(_digest_piece, opened.fileno()), range(0, size, PIECE)):
                    whole.update(digest)
    return whole.hexdigest()


def _digest_piece(descriptor: int, start: int) -> bytes:
    return hashlib.sha256(os.pread(descriptor, PIECE, start)).digest()

"""The reference's log-probabilities of every pair: computed in one pass, kept on disk, looked up in every step.

The pass runs before the first step, when the model is wrapped and nothing has been updated; a reference model of its
own is loaded for it and freed after it. A pair's key is a digest of its tokens and turns, a file's name one of all
that the values depend on: the weights' bytes, how they are loaded, the pairs, the masks, this code. So a stale table
is never found, and a damaged one is computed again.
"""

import gc
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader
from tqdm import tqdm
from transformers import Trainer, TrainerCallback


logger = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".py")
CONFIG_NAMES = ("config.json", "adapter_config.json", "quantization_config.json")

ELSEWHERE = (
    *("model_name_or_path", "adapter_", "cache_dir", "device_map"),
    *("export_", "infer_", "vllm_", "sglang_", "kt_"),
)
"""Prefixes of the options of a model that name a place, or that only other commands read."""

PIECE = 1 << 24
"""Bytes of a file that are hashed at a time."""

CODE = ("../stages.py", "masks.py", "loss.py", "logps.py", "sharing.py", "finite.py", "trainer.py")
"""Our files that make the masks and the values, seen from this one."""

TUNING = ("pair_stage", "dmpo_gamma", "pref_loss", "finetuning_type", "pure_bf16", "ref_model_quantization_bit")
"""The fine-tuning options on which the values depend; `segment_scope` is in the pairs."""

Table = dict[int, tuple[float, float]]
"""The key of a pair -> the reference's log-probabilities of its chosen and of its rejected side."""


class References(TrainerCallback):
    """Fills its table when training begins, and looks values up in it.

    Attributes:
        table: None until then, when the trainer runs the reference model itself.
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
        """Read the table, or compute and write it; every rank ends with the same one."""
        rows = _rows(self.trainer)
        keys = list(chain.from_iterable(part["key"] for part in rows))
        is_main = self.trainer.accelerator.is_main_process
        path = self._path(keys) if is_main else None
        found = [read(path, keys) if path else None]
        broadcast_object_list(found)
        table = found[0]
        if table is None:
            table = self._compute(rows, keys)
            if path:
                write(path, table)
        self.table = table

    def look_up(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the chosen and of the rejected sides of B pairs: two (B,) tensors."""
        assert self.table is not None
        values = torch.tensor([self.table[key] for key in keys.tolist()], device=keys.device)
        return values[:, 0], values[:, 1]

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
        is_quiet = trainer.accelerator.process_index > 0 or trainer.args.disable_tqdm
        found: list[tuple[int, float, float]] = []
        for batch in tqdm(_loader(trainer, rows, keys), desc="reference", disable=is_quiet):
            pair_keys = batch["pair_keys"].tolist()
            with trainer.accelerator.autocast():
                sides = trainer.compute_reference_log_probs(policy, trainer._prepare_inputs(batch))
            found += zip(pair_keys, *(side.tolist() for side in sides), strict=True)
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
        ConcatDataset(rows), batch_sampler=mine, collate_fn=trainer.data_collator,
        num_workers=trainer.args.dataloader_num_workers,
    )  # fmt: skip


def read(path: Path, keys: Iterable[int]) -> Table | None:
    """Read a table; None if there is none, or it is damaged or lacks a key."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in ("keys", "logps")}
            checksum = file.metadata()["sha256"]
        table = {key: tuple(values) for key, values in zip(*(part.tolist() for part in stored.values()), strict=True)}
        is_whole = checksum == _checksum(stored) and set(keys) <= set(table)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        logger.warning("%s is damaged; the reference's log-probabilities are computed again", path)
        return None
    return table


def write(path: Path, table: Table) -> None:
    """Write a table atomically; if the disk refuses, warn and go on, and the next run repeats the pass."""
    stored = {
        "keys": torch.tensor(list(table), dtype=torch.int64),
        "logps": torch.tensor(list(table.values()), dtype=torch.float64),
    }
    mine = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine.write_bytes(save(stored, metadata={"sha256": _checksum(stored)}))
        os.replace(mine, path)
    except OSError as err:
        logger.warning("the reference's log-probabilities are not kept: %s", err)


def _checksum(stored: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in ("keys", "logps"):
        digest.update(stored[name].numpy().tobytes())
    return digest.hexdigest()


def identity_of(model_args: Any, training_args: Any, finetuning_args: Any) -> dict[str, Any] | None:
    """Return what the reference's log-probabilities depend on, but for the pairs and our code; None without weights.

    Every option of the model counts but those of ELSEWHERE: one too many costs a pass, one too few a wrong result.
    """
    named = finetuning_args.ref_model or model_args.model_name_or_path
    adapters = finetuning_args.ref_model_adapters if finetuning_args.ref_model else model_args.adapter_name_or_path
    adapters = [adapters] if isinstance(adapters, str) else adapters or []
    try:
        folders = [_model_folder(model, model_args) for model in (named, *adapters)]
    except (OSError, ValueError):
        return None
    options = {key: value for key, value in model_args.to_dict().items() if not key.startswith(ELSEWHERE)}
    tuning = {key: getattr(finetuning_args, key) for key in TUNING}
    return {
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

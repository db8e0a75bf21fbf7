"""What `--check` reads of a config with the host: its arguments, its model without weights, and its data.

All that is written lies in a folder of the caller's.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM

from ..data.encoding import SIDES
from ..errors import OptionError, UserError, one_line
from ..memory import Model, Setting
from .arguments import checked_keys, parse_anywhere
from .data import load_pair_dataset, step_files_moved
from .models import config_of, tokenizer_of
from .names import IGNORE_INDEX, get_template_and_fix_tokenizer, host_loader
from .running import in_one_line
from .seams import seam
from .zero import zero_of


ROWS_OF = {"dpo": "rm"}
"""A stage of the host -> its word for the rows that it reads, where that is another."""


class Arguments(NamedTuple):
    """The parsed arguments of a config; `training` are those of one process on a CPU, `given` its keys as checked."""

    model: Any
    data: Any
    training: Any
    tuning: Any
    given: dict[str, Any]

    @property
    def stage(self) -> str:
        """The stage as users type it."""
        return str(self.tuning.pair_stage or self.tuning.stage)


class Split(NamedTuple):
    """Encoded rows of a config's data.

    Attributes:
        rows: pairs or dialogues.
        tokens: of all of them, a history that two sides share counted once.
        scored: those that carry loss.
        longest: tokens of the longest row.
        most_scored: scored tokens of a row at most.
    """

    rows: int
    tokens: int
    scored: int
    longest: int
    most_scored: int


def parse(args: dict[str, Any]) -> Arguments:
    """Parse and check the arguments of a training as the training does, on any machine.

    Raises:
        UserError: if they are refused.
    """
    model, data, training, tuning, _ = parse_anywhere(args)
    return Arguments(model, data, training, tuning, checked_keys(args))


def data_of(arguments: Arguments, folder: Path) -> dict[str, Split]:
    """Read and encode the data as the training would; return its splits by name, `train` and those held out.

    Args:
        arguments: of the config.
        folder: for what `datasets` writes.

    Raises:
        UserError: if the data are wrong.
    """
    model, data, training, tuning, _ = arguments
    module = tokenizer_of(model)
    cache, model.cache_dir = model.cache_dir, str(folder)
    kept, data.tokenized_path = data.tokenized_path, None
    try:
        template = get_template_and_fix_tokenizer(module["tokenizer"], data)
        with redirect_stdout(io.StringIO()), step_files_moved():
            if tuning.pair_stage:
                found = load_pair_dataset(tuning, template, model, data, training, "rm", **module)
            else:
                stage = ROWS_OF.get(tuning.stage, tuning.stage)
                found = seam(host_loader, "get_dataset")(template, model, data, training, stage, **module)
    except Exception as err:
        error = err if isinstance(err, UserError) else in_one_line(err)
        raise (error or err) from None
    finally:
        model.cache_dir, data.tokenized_path = cache, kept
    splits = {}
    for name, rows in found.items():
        named = rows if isinstance(rows, dict) else {"": rows}
        for part, each in named.items():
            splits[" ".join(filter(None, [name.removesuffix("_dataset"), part]))] = _counted(each)
    return splits


def _counted(rows: Any) -> Split:
    lengths, scored = [], []
    for row in rows:
        lengths.append(
            row["length"]
            if "length" in row
            else sum(len(ids) for name, ids in row.items() if name.endswith("input_ids"))
        )
        scored.append(
            _scored_pair(row)
            if "first_turn" in row
            else sum(
                label != IGNORE_INDEX for name, labels in row.items() if name.endswith("labels") for label in labels
            )
        )
    return Split(len(lengths), sum(lengths), sum(scored), max(lengths), max(scored))


def _scored_pair(row: dict[str, Any]) -> int:
    """Return the tokens of a pair that carry loss."""
    turns = ((row[f"{side}_turn_lengths"], row[f"{side}_turn_weights"]) for side in SIDES)
    return sum(
        length for lengths, weights in turns
        for length, weight in list(zip(lengths, weights, strict=True))[row["first_turn"] :] if weight != 0
    )  # fmt: skip


def model_of(arguments: Arguments) -> Model:
    """Return the numbers of parameters of a config's model, which is made without weights.

    Raises:
        UserError: if its architecture cannot be made.
    """
    config = config_of(arguments.model)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, ImportError) as err:
        raise OptionError("model_name_or_path", one_line(err)[:300]) from None
    text = config.get_text_config()
    every = {name: weight.numel() for name, weight in model.named_parameters()}
    extra = arguments.tuning.additional_target or (_embeddings(model) if arguments.model.resize_vocab else [])
    trained, added = _trained(model, every, arguments.tuning, text.num_hidden_layers, extra)
    return Model(sum(every.values()), trained, added, text.num_hidden_layers, text.hidden_size, text.vocab_size)


def _embeddings(model: Any) -> list[str]:
    """Return the modules that the host trains beside an adapter where it has added rows to them."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, part in model.named_modules() if any(part is end for end in ends)]


def _trained(model: Any, every: dict[str, int], tuning: Any, layers: int, extra: Sequence[str]) -> tuple[int, int]:
    """Return how many parameters are trained of a model, and how many of adapters and of copies of `extra` modules."""
    if tuning.finetuning_type == "full":
        return sum(every.values()), 0
    if tuning.finetuning_type == "freeze":
        count = tuning.freeze_trainable_layers
        chosen = range(max(0, layers - count), layers) if count > 0 else range(min(layers, -count))
        parts = ["" if part == "all" else part for part in tuning.freeze_trainable_modules]
        marks = [f".{number}.{part}" for number in chosen for part in parts] + list(tuning.freeze_extra_modules or [])
        return sum(size for name, size in every.items() if any(mark in name for mark in marks)), 0
    wanted = tuning.lora_target
    linear = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    if wanted == ["all"]:
        targets = [part for name, part in linear.items() if "lm_head" not in name]
    else:
        # As PEFT finds them, by the end of a name.
        targets = [part for name, part in linear.items() if any(f".{name}".endswith(f".{one}") for one in wanted)]
    copied = sum(size for name, size in every.items() if any(f"{part}." in name for part in extra))
    return 0, copied + sum(tuning.lora_rank * (part.in_features + part.out_features) for part in targets)


def setting_of(arguments: Arguments, ranks: int, splits: dict[str, Split]) -> Setting:
    """Return how a config trains its model.

    Args:
        arguments: of the config.
        ranks: over which it is spread.
        splits: its data.

    Raises:
        UserError: if its file of DeepSpeed cannot be read.
    """
    model, _, training, tuning, given = arguments
    zero = zero_of(given.get("deepspeed"))
    width = 2 if training.bf16 or training.fp16 or tuning.pure_bf16 else 4
    # The host loads a model as it is stored; DeepSpeed makes all of it what it computes with.
    kept = width if zero and width == 2 else (config_of(model).dtype or torch.float32).itemsize
    quantised = model.quantization_bit / 8 if model.quantization_bit else kept
    longest = max(split.longest for split in splits.values())
    scored = max(split.most_scored for split in splits.values())
    size = training.per_device_train_batch_size
    is_ours = tuning.pair_stage is not None
    reference = "none"
    if tuning.stage == "dpo" and tuning.use_ref_model and training.do_train:
        is_own = tuning.finetuning_type != "lora" or tuning.ref_model
        reference = ("once" if is_ours and tuning.reference_once else "always") if is_own else "policy"
    keys = {"weights": "offload_param", "optimizer": "offload_optimizer"}
    offloaded = tuple(part for part, key in keys.items() if (zero.get(key) or {}).get("device", "none") != "none")
    return Setting(
        ranks, zero.get("stage", 0), offloaded, width, quantised, kept,
        bool(tuning.pure_bf16), str(given.get("optim", "adamw_torch")).lower(), reference, longest * size,
        (scored if is_ours and tuning.scored_logits_only else longest) * size,
        not model.disable_gradient_checkpointing,
    )  # fmt: skip

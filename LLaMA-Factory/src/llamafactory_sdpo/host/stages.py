"""Run one of our stages: the host's DPO workflow with our data, collator and trainer in the place of its own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from datasets import config as datasets_config

from ..step.card import sections_of
from ..step.masks import SegmentDataCollator
from ..step.references import References, identity_of
from ..step.trainer import SegmentTrainer
from .data import load_pair_dataset
from .names import host_dpo_trainer, host_dpo_workflow, host_trainer_utils
from .running import StopAtNan
from .seams import seam, substituted


def run_dpo(
    model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, callbacks: list[Any] | None = None
) -> None:
    """Stand in for the host's `run_dpo`: run one of our stages, or the host's own DPO."""
    run = run_pair_stage if finetuning_args.pair_stage else host_dpo_workflow.run_dpo
    run(model_args, data_args, training_args, finetuning_args, callbacks)


def run_pair_stage(
    model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, callbacks: list[Any] | None = None
) -> None:
    """Run the host's DPO workflow on pairs of dialogues."""
    collator = partial(
        SegmentDataCollator,
        stage=finetuning_args.pair_stage,
        gamma=finetuning_args.dmpo_gamma,
        rule=finetuning_args.turn_weights,
    )
    dataset = partial(load_pair_dataset, finetuning_args)
    # Streamed pairs are not known before they are trained on.
    once = finetuning_args.reference_once and finetuning_args.use_ref_model and not data_args.streaming
    card = partial(write_card, seam(host_dpo_workflow, "create_modelcard_and_push", "trainer"))
    ours: dict[str, Any] = {"get_dataset": dataset, "PairwiseDataCollatorWithPadding": collator}
    ours["create_modelcard_and_push"] = card
    callbacks = [callback for callback in callbacks or [] if not isinstance(callback, StopAtNan)]
    trainer: Any = SegmentTrainer
    if once and training_args.do_train:
        trainer = partial(SegmentTrainer, references=make_references(model_args, training_args, finetuning_args))
        ours["create_ref_model"] = lambda *_: None
    with (
        substituted(host_dpo_workflow, **ours),
        substituted(host_dpo_trainer, CustomDPOTrainer=trainer),
    ):
        host_dpo_workflow.run_dpo(model_args, data_args, training_args, finetuning_args, callbacks)


def write_card(
    host: Callable[..., None],
    trainer: Any,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    finetuning_args: Any,
) -> None:
    """Stand in for `host`, its `create_modelcard_and_push`: the card says what our stages did, also when pushed."""
    if not training_args.do_train:
        return
    counts = {"trained on": _length(trainer.train_dataset), "held out": _length(trainer.eval_dataset)}
    models = model_args.model_name_or_path, model_args.adapter_name_or_path or []
    trainer.sections = lambda: sections_of(
        finetuning_args, *models, data_args.dataset or [], counts, trainer.state.log_history
    )
    # Where nothing is pushed, the host calls the card's writer of transformers past the trainer.
    with substituted(host_trainer_utils, Trainer=type(trainer)):
        host(trainer, model_args, data_args, training_args, finetuning_args)


def _length(rows: Any) -> int | None:
    """Return the number of pairs, of all sets where there are several; None where they are streamed or not there."""
    if isinstance(rows, dict):
        lengths = [_length(part) for part in rows.values()]
        return None if None in lengths else sum(filter(None, lengths))
    return len(rows) if hasattr(rows, "__len__") else None


def make_references(model_args: Any, training_args: Any, finetuning_args: Any) -> References:
    """Return the table of the reference that the host would create, to be filled when training begins."""
    create = seam(host_dpo_workflow, "create_ref_model", "model_args", "finetuning_args")
    cache = Path(model_args.cache_dir or datasets_config.HF_DATASETS_CACHE)
    return References(
        identity=lambda: identity_of(model_args, training_args, finetuning_args),
        create_model=lambda: create(model_args, finetuning_args),
        prepare=prepare_reference,
        folder=cache / "sdpo-reference",
    )


def prepare_reference(trainer: Any, model: Any) -> Any:
    """Return a reference model made ready for a trainer's machines, as the host's trainer does with one."""
    if trainer.is_deepspeed_enabled and not getattr(model, "is_quantized", False):
        return seam(host_dpo_trainer, "prepare_deepspeed")(model, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        if trainer.accelerator.is_fsdp2:
            return fsdp2_prepare_model(trainer.accelerator, model)
        return seam(host_dpo_trainer, "prepare_fsdp")(model, trainer.accelerator)
    # Not the accelerator's prepare_model, which would keep the model for as long as it lives itself.
    return (model if getattr(model, "is_quantized", False) else model.to(trainer.accelerator.device)).eval()

"""Refuse settings that are not there, that end a training late, or that make it silently something else."""

import difflib
from typing import Any

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..arguments import check_folder, check_model, check_order
from ..entries import check_names
from ..errors import OptionError, UserError, one_line
from ..stages import RULES, STAGES
from .names import TEMPLATES


def check_settings(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Refuse what is not there or would silently be something else; needs neither GPUs nor process groups.

    Raises:
        UserError: naming the option.
    """
    check_models(model_args, finetuning_args)
    check_template(data_args.template)
    others = () if getattr(finetuning_args, "pair_stage", None) else tuple(STAGES)
    for option in ("dataset", "eval_dataset"):
        check_names(option, getattr(data_args, option), data_args.dataset_dir, others)
    if getattr(finetuning_args, "drop_pairs", None) and not data_args.dataset:
        raise OptionError("drop_pairs", "drop_pairs leaves pairs of `dataset` out, and none is given; leave it out")
    check_folder("tokenized_path", data_args.tokenized_path)
    check_folder("cache_dir", model_args.cache_dir)
    check_pair_stage(model_args, training_args, finetuning_args)


def check_template(name: str | None) -> None:
    """Refuse a template that the host does not have; None is the tokenizer's own.

    Raises:
        OptionError: with the one that was probably meant.
    """
    if name is not None and name not in TEMPLATES:
        close = difflib.get_close_matches(str(name), TEMPLATES, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise OptionError("template", f"template {name!r} is not one of the host's{meant}")


def check_models(model_args: Any, finetuning_args: Any) -> None:
    """Refuse models that are not there.

    Raises:
        UserError: naming the option.
    """
    named = {
        "model_name_or_path": [model_args.model_name_or_path],
        "adapter_name_or_path": model_args.adapter_name_or_path or [],
        "ref_model": [finetuning_args.ref_model],
    }
    for option, models in named.items():
        for model in filter(None, models):
            check_model(option, model)


def check_pair_stage(model_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Refuse settings under which one of our stages would silently be something else.

    Raises:
        UserError: with the setting that helps.
    """
    stage = getattr(finetuning_args, "pair_stage", None)
    if stage is None:
        return
    if finetuning_args.use_mca or model_args.use_kt:
        raise UserError(f"stage {stage} does not run on Megatron or KTransformers; unset USE_MCA and use_kt")
    adapted = finetuning_args.finetuning_type == "lora" and model_args.adapter_name_or_path is not None
    if adapted and training_args.do_train and finetuning_args.use_ref_model:
        if not finetuning_args.create_new_adapter and finetuning_args.ref_model is None:
            raise UserError(
                f"stage {stage} would train on from the adapter with the bare base model as the reference; set "
                "create_new_adapter: true, so that the reference is the model with the adapter, or name a ref_model"
            )


def check_merging(model_args: Any, training_args: Any, finetuning_args: Any, is_zero3: bool) -> None:
    """Refuse a new adapter where the host cannot merge the one before it: it passes over `create_new_adapter` there.

    Raises:
        UserError: with what helps.
    """
    stage = getattr(finetuning_args, "pair_stage", None)
    has_adapter = stage is not None and model_args.adapter_name_or_path is not None
    if not has_adapter or finetuning_args.ref_model or not finetuning_args.use_ref_model or not training_args.do_train:
        return
    if is_zero3 or model_args.use_unsloth:
        where = "Unsloth" if model_args.use_unsloth else "DeepSpeed's ZeRO-3"
        raise UserError(
            f"stage {stage} would train on from the adapter with the bare base model as the reference, since under "
            f"{where} the host merges no adapter, whatever create_new_adapter says; merge it before (llamafactory-cli "
            "export), or train without that, with ZeRO-2 for instance"
        )


def check_training(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Refuse settings that end a training late, or that it would not read.

    Raises:
        OptionError: with the remedy.
    """
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        raise OptionError("do_train", "do_train and do_eval are false, so there is nothing to do; set one of them")
    check_folder("output_dir", training_args.output_dir)
    stage = finetuning_args.pair_stage
    if finetuning_args.pair_order == "curriculum":
        check_order(training_args.train_sampling_strategy, finetuning_args.disable_shuffling, data_args.streaming)
    for option, is_on in (("packing", data_args.packing), ("do_predict", training_args.do_predict)):
        if stage is not None and is_on:
            raise OptionError(option, f"{option} is not part of stage {stage}, which would ignore it; leave it out")
    if finetuning_args.turn_weights in RULES and (data_args.streaming or not training_args.do_train):
        why = "streamed pairs are not known; set streaming: false" if data_args.streaming else "there is no training"
        rule = f"turn_weights: {finetuning_args.turn_weights}"
        raise OptionError("turn_weights", f"{rule} needs the reference's table before the first step, but {why}")
    own_reference = finetuning_args.finetuning_type != "lora" or finetuning_args.ref_model
    if model_args.add_special_tokens and finetuning_args.stage == "dpo" and own_reference and training_args.do_train:
        if finetuning_args.use_ref_model:
            raise OptionError(
                "add_special_tokens",
                "add_special_tokens: the reference, a model of its own under full tuning, would begin with other "
                "embeddings of them; add them in SFT, or use finetuning_type: lora",
            )
    for name in training_args.report_to:
        _check_reporter(name)


def _check_reporter(name: str) -> None:
    """Refuse a service for `report_to` that transformers does not know, or whose package is missing."""
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise OptionError("report_to", f"report_to {name!r} is unknown, expected none or some of {known}")
    try:
        INTEGRATION_TO_CALLBACK[name]()
    except (ImportError, RuntimeError) as err:
        raise OptionError("report_to", f"report_to {name}: {one_line(err)} Or use report_to: none") from None

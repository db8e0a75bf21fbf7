"""The host's arguments, widened by our stages and their options: read, parsed and checked."""

import difflib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from transformers import HfArgumentParser
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..arguments import SegmentArguments, check_model
from ..config_file import READ_ERRORS
from ..entries import check_names
from ..errors import OptionError, UserError, one_line
from ..stages import STAGES
from . import checkpoints
from .names import TEMPLATES, HostFinetuningArguments, host_parser, is_env_enabled
from .seams import seam
from .values import checked


HOST_STAGES: tuple[str, ...] = get_args(get_type_hints(HostFinetuningArguments)["stage"])

PREFERENCE_LOSSES = ("sigmoid", "hinge", "ipo", "orpo", "simpo")
"""The values of `pref_loss` that are computed; the host names `kto_pair` too, which TRL removed."""

REFERENCE_FREE_LOSSES = ("orpo", "simpo")
"""Those that the host computes without a reference, and without the BCO term."""

REFUSALS = (ValueError, AssertionError, ImportError, TypeError)
"""What the host and transformers raise for options that they refuse, ImportError for those of a missing package."""

STAGE_HELP = "; ".join(
    ["Which stage will be performed in training", *(f"{stage.name}: {stage.help}" for stage in STAGES.values())]
)


@dataclass
class FinetuningArguments(SegmentArguments, HostFinetuningArguments):
    """The host's fine-tuning arguments with our stages and their options."""

    stage: str = field(default="sft", metadata={"help": f"{STAGE_HELP}.", "choices": [*HOST_STAGES, *STAGES]})

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, *HOST_STAGES):
            close = difflib.get_close_matches(str(self.stage), STAGES, n=1)
            raise ValueError(f"`stage` is {self.stage!r}{f', did you mean {close[0]}' if close else ''}?")
        self.pair_stage = self.stage if self.stage in STAGES else None
        self.check_segment_options(self.pair_stage)
        if self.pair_stage is not None:
            if self.ld_alpha is not None:
                raise ValueError("`ld_alpha` is defined for one answer, not for turns; remove it.")
            self.stage = "dpo"
        # Megatron computes its losses itself.
        if self.stage == "dpo" and not is_env_enabled("USE_MCA"):
            self._check_preference_loss()
        super().__post_init__()

    def _check_preference_loss(self) -> None:
        """Refuse a loss that the host names and TRL no longer has, and a weight that it would not read."""
        if self.pref_loss not in PREFERENCE_LOSSES:
            expected = ", ".join(PREFERENCE_LOSSES)
            raise ValueError(f"`pref_loss` is {self.pref_loss!r}, expected one of {expected}.")
        if self.pref_loss in REFERENCE_FREE_LOSSES and self.pref_bco_weight:
            raise ValueError(f"`pref_bco_weight` needs a reference, which `pref_loss: {self.pref_loss}` has not.")

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments for logs, with the stage as the user typed it."""
        return {**super().to_dict(), "stage": self.pair_stage or self.stage}


def read_args(argv: list[str]) -> Any:
    """Read a config file and its overrides, or a list of flags, as the host does.

    Raises:
        UserError: if the config cannot be read.
    """
    before, sys.argv = sys.argv, ["llamafactory-cli", *argv]
    try:
        args = seam(host_parser, "read_args", "args")()
    except FileNotFoundError:
        raise UserError("no such config file") from None
    except READ_ERRORS as err:
        raise UserError(f"not a readable config: {one_line(err)}") from None
    finally:
        sys.argv = before
    if isinstance(args, dict):
        # YAML reads a bare `no` as False, in a file and in an override.
        return {key: "no" if value is False and key.endswith("_strategy") else value for key, value in args.items()}
    return args


def parse_args(host: Callable[[Any], tuple[Any, ...]], args: Any = None) -> tuple[Any, ...]:
    """Parse and check the arguments of a training.

    Args:
        host: the host's own parser.
        args: a config, a list of flags, or None for those of the command line.

    Raises:
        UserError: if the host or we refuse them.
    """
    try:
        if isinstance(args, dict):
            args = checked_keys(args)
        parsed = host(args)
    except REFUSALS as err:
        raise _refusal(err, args) from None
    model_args, data_args, training_args, finetuning_args, _ = parsed
    check_settings(*parsed[:4])
    check_training(model_args, data_args, training_args, finetuning_args)
    asked = args.get(checkpoints.OPTION) if isinstance(args, dict) else training_args.resume_from_checkpoint
    if training_args.do_train:
        training_args.resume_from_checkpoint = checkpoints.choose(
            asked, training_args.output_dir, training_args.resume_from_checkpoint
        )
    return parsed


def _refusal(err: Exception, args: Any) -> UserError:
    """Return the host's refusal as ours, with the option that it names in backticks, if that was given."""
    named = [key for key in re.findall(r"`(\w+)`", str(err)) if isinstance(args, dict) and key in args]
    if isinstance(err, UserError):
        return err
    return OptionError(named[0], one_line(err)) if named else UserError(one_line(err))


def parse_args_without_launch(args: Any) -> tuple[Any, Any, Any, Any]:
    """Parse what data preparation needs, in a process that must not touch GPUs or process groups.

    Returns:
        The host's model, data and fine-tuning arguments, and training arguments of a CPU process.
    """
    model, data, training, finetuning, generating = host_parser._TRAIN_ARGS
    parser = HfArgumentParser([model, data, finetuning, generating])
    try:
        if isinstance(args, dict):
            args = checked_keys(args)
            *parsed, _ = parser.parse_dict(args, allow_extra_keys=True)
            wanted = {key: args[key] for key in ("seed", "dataloader_num_workers", "do_train") if key in args}
        else:
            *parsed, _, rest = parser.parse_args_into_dataclasses(args, return_remaining_strings=True)
            wanted = {"seed": int(rest[rest.index("--seed") + 1])} if "--seed" in rest else {}
    except REFUSALS as err:
        raise _refusal(err, args) from None
    cpu = training(output_dir=os.devnull, use_cpu=True, report_to="none", **wanted)
    model_args, data_args, finetuning_args = parsed
    finetuning_args.use_mca = False
    check_settings(model_args, data_args, cpu, finetuning_args)
    model_args.model_max_length = data_args.cutoff_len
    return model_args, data_args, finetuning_args, cpu


def check_keys(args: dict[str, Any], kinds: str = "_TRAIN_ARGS") -> None:
    """Refuse keys of a config that nothing reads.

    Args:
        args: the config.
        kinds: the host's list of argument classes that do read them.

    Raises:
        UserError: naming the first such key and, if there is one, the key that was probably meant.
    """
    known = {item.name for kind in seam(host_parser, kinds) for item in fields(kind) if item.init}
    for key in args:
        if key not in known and not is_env_enabled("ALLOW_EXTRA_ARGS"):
            close = difflib.get_close_matches(key, known, n=1)
            raise OptionError(key, f"unknown key '{key}'{f'; did you mean {close[0]}?' if close else ''}")


def checked_keys(args: dict[str, Any], kinds: str = "_TRAIN_ARGS") -> dict[str, Any]:
    """Return a config after a check of its keys and of the types of its values.

    Raises:
        UserError: naming the first key that is wrong.
    """
    check_keys(args, kinds)
    return checked(args, seam(host_parser, kinds))


def check_settings(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Refuse what is not there or would silently be something else; needs neither GPUs nor process groups.

    Raises:
        UserError: naming the option.
    """
    check_models(model_args, finetuning_args)
    check_template(data_args.template)
    for option in ("dataset", "eval_dataset"):
        check_names(option, getattr(data_args, option), data_args.dataset_dir)
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


def check_training(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Refuse settings that end a training late, or that it would not read.

    Raises:
        OptionError: with the remedy.
    """
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        raise OptionError("do_train", "do_train and do_eval are false, so there is nothing to do; set one of them")
    stage = finetuning_args.pair_stage
    for option, is_on in (("packing", data_args.packing), ("do_predict", training_args.do_predict)):
        if stage is not None and is_on:
            raise OptionError(option, f"{option} is not part of stage {stage}, which would ignore it; leave it out")
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

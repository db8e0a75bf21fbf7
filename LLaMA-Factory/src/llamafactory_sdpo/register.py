"""The only module that touches the host, LLaMA-Factory: what we take from it, and the seams where we enter it.

    what we take         names imported below
    `install`            widens the fine-tuning arguments, routes our stages, turns bad options into UserErrors
    `run_pair_stage`     the host's DPO workflow with our data, collator and trainer in the places of its own
    `load_pair_dataset`  the host's `get_dataset` with pairs in the place of records
    `load_template`      tokenizer and template as training had them, and `template_parts`, the template as texts
    `host_api`           the host's own server, with training's prompts

To the host our stages are DPO on other labels, which is what they are: `stage: sdpo` becomes `stage: dpo` with
`pair_stage: sdpo` as soon as the arguments are parsed, so every rule of the host for DPO holds for them too. Each seam
is looked up by name when it is used and fails with the name if the host has moved.
"""

import difflib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from .arguments import STAGES, SegmentArguments
from .errors import UserError
from .model_paths import check_model
from .pairs import Rules


HOST_VERSION = "0.9.5"


def check_host_version() -> None:
    """Refuse a host that the seams were not tried on.

    Raises:
        UserError: with the version found and the one that works.
    """
    found = metadata.version("llamafactory")
    if found != HOST_VERSION:
        raise UserError(
            f"llamafactory {found} is installed, but these stages were tested on {HOST_VERSION} and enter its "
            f"internals; install it again: pip install llamafactory=={HOST_VERSION}"
        )


check_host_version()

from llamafactory.data import loader as host_loader  # noqa: E402
from llamafactory.data.collator import PairwiseDataCollatorWithPadding  # noqa: E402, F401
from llamafactory.data.data_utils import merge_dataset  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402
from llamafactory.data.template import (  # noqa: E402
    TEMPLATES,
    Llama2Template,
    ReasoningTemplate,
    get_template_and_fix_tokenizer,
)
from llamafactory.extras.misc import find_available_port, get_device_count, is_env_enabled, use_kt, use_ray  # noqa: E402, F401
from llamafactory.hparams import FinetuningArguments as HostFinetuningArguments  # noqa: E402
from llamafactory.hparams import parser as host_parser  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402
from llamafactory.train import tuner as host_tuner  # noqa: E402
from llamafactory.train.dpo import trainer as host_dpo_trainer  # noqa: E402
from llamafactory.train.dpo import workflow as host_dpo_workflow  # noqa: E402
from llamafactory.train.dpo.trainer import CustomDPOTrainer  # noqa: E402, F401
from transformers import HfArgumentParser  # noqa: E402

from . import dataset as pair_dataset  # noqa: E402
from .encoding import DialogueEncoder, PairProcessor  # noqa: E402
from .references import References  # noqa: E402
from .serving.chat_template import TemplateParts  # noqa: E402


def seam(module: ModuleType, name: str, *parameters: str) -> Any:
    """Look up a name of the host that we replace or call with arguments of our own.

    Raises:
        UserError: if it is gone or no longer takes these parameters.
    """
    found = getattr(module, name, None)
    where = f"{module.__name__}.{name}"
    if found is None:
        raise UserError(f"the host has no {where} any more; install llamafactory=={HOST_VERSION}")
    if parameters:
        missing = [p for p in parameters if p not in inspect.signature(found).parameters]
        if missing:
            raise UserError(
                f"{where} of the host no longer takes {', '.join(missing)}; install llamafactory=={HOST_VERSION}"
            )
    return found


@contextmanager
def substituted(module: ModuleType, **names: Any) -> Iterator[None]:
    """Put ours in the place of names of a host module for as long as the block runs."""
    before = {name: seam(module, name) for name in names}
    for name, ours in names.items():
        setattr(module, name, ours)
    try:
        yield
    finally:
        for name, theirs in before.items():
            setattr(module, name, theirs)


# ---- arguments ------------------------------------------------------------------------------------------------------


@dataclass
class FinetuningArguments(SegmentArguments, HostFinetuningArguments):
    """The host's fine-tuning arguments with our stages and their options."""

    stage: Literal["pt", "sft", "rm", "ppo", "dpo", "kto", "sdpo", "eto", "dmpo"] = field(
        default="sft",
        metadata={"help": "Which stage will be performed in training; sdpo, eto and dmpo read pairs of dialogues."},
    )

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, "pt", "sft", "rm", "ppo", "dpo", "kto"):
            close = difflib.get_close_matches(str(self.stage), STAGES, n=1)
            raise ValueError(f"`stage` is {self.stage!r}{f', did you mean {close[0]}' if close else ''}?")
        self.pair_stage = self.stage if self.stage in STAGES else None
        self.check_segment_options(self.pair_stage)
        if self.pair_stage is not None:
            if self.ld_alpha is not None:
                raise ValueError("`ld_alpha` is defined for one answer, not for turns; remove it.")
            self.stage = "dpo"
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """The arguments for logs, with the stage as the user typed it."""
        return {**super().to_dict(), "stage": self.pair_stage or self.stage}


def install() -> None:
    """Make the host know our stages, in this process; a second call changes nothing."""
    for name in ("_TRAIN_ARGS", "_TRAIN_MCA_ARGS", "_INFER_ARGS", "_EVAL_ARGS"):
        classes: list[type] = seam(host_parser, name)
        classes[:] = [FinetuningArguments if kind is HostFinetuningArguments else kind for kind in classes]
    if seam(host_tuner, "run_dpo") is not run_dpo:
        seam(host_tuner, "run_dpo", "model_args", "data_args", "training_args", "finetuning_args", "callbacks")
        host_tuner.run_dpo = run_dpo
        host_tuner.get_train_args = partial(_get_train_args, seam(host_tuner, "get_train_args", "args"))
        host_tuner.Worker = RayWorker


class RayWorker(seam(host_tuner, "Worker")):  # type: ignore[misc]
    """A worker of the host's Ray launcher; unpickling it imports this module and so installs our stages there."""

    def _training_function(self, config: dict[str, Any]) -> None:
        install()
        super()._training_function(config)


def _get_train_args(host: Callable[[Any], tuple], args: Any = None) -> tuple:
    """Parse the arguments; what the host refuses is the user's to mend."""
    try:
        if isinstance(args, dict):
            check_keys(args)
        parsed = host(args)
    except (ValueError, AssertionError) as err:
        raise UserError(" ".join(str(err).split())) from None
    model_args, _, training_args, finetuning_args, _ = parsed
    check_models(model_args, finetuning_args)
    check_pair_stage(model_args, training_args, finetuning_args)
    return parsed


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
            raise UserError(f"unknown key '{key}'{f'; did you mean {close[0]}?' if close else ''}")


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


def read_args(argv: list[str]) -> Any:
    """Read a config file and its overrides, or a list of flags, as the host does.

    Raises:
        UserError: if the config cannot be read.
    """
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    before, sys.argv = sys.argv, ["llamafactory-cli", *argv]
    try:
        args = seam(host_parser, "read_args", "args")()
    except FileNotFoundError:
        raise UserError("no such config file") from None
    except (YAMLError, OmegaConfBaseException, ValueError, UnicodeDecodeError) as err:
        raise UserError(f"not a readable config: {' '.join(str(err).split())}") from None
    finally:
        sys.argv = before
    if isinstance(args, dict):
        # What YAML reads a bare `no` as, in a file and in an override.
        return {key: "no" if value is False and key.endswith("_strategy") else value for key, value in args.items()}
    return args


def read_args_without_launch(args: Any) -> tuple[Any, Any, Any, Any]:
    """Parse what data preparation needs, in a process that must not touch GPUs or process groups.

    Returns:
        The host's model, data and fine-tuning arguments, and training arguments of a CPU process.
    """
    model, data, training, finetuning, generating = host_parser._TRAIN_ARGS
    parser = HfArgumentParser([model, data, finetuning, generating])
    try:
        if isinstance(args, dict):
            check_keys(args)
            *parsed, _ = parser.parse_dict(args, allow_extra_keys=True)
            wanted = {key: args[key] for key in ("seed", "dataloader_num_workers", "do_train") if key in args}
        else:
            *parsed, _, rest = parser.parse_args_into_dataclasses(args, return_remaining_strings=True)
            wanted = {"seed": int(rest[rest.index("--seed") + 1])} if "--seed" in rest else {}
    except (ValueError, AssertionError) as err:
        raise UserError(" ".join(str(err).split())) from None
    cpu = training(output_dir=os.devnull, use_cpu=True, report_to="none", **wanted)
    model_args, data_args, finetuning_args = parsed
    finetuning_args.use_mca = False
    check_models(model_args, finetuning_args)
    check_pair_stage(model_args, cpu, finetuning_args)
    model_args.model_max_length = data_args.cutoff_len
    return model_args, data_args, finetuning_args, cpu


# ---- running a stage ------------------------------------------------------------------------------------------------


def run_dpo(
    model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, callbacks: list[Any] | None = None
) -> None:
    """Stand in for the host's `run_dpo`: our stages, or the host's own."""
    run = run_pair_stage if finetuning_args.pair_stage else host_dpo_workflow.run_dpo
    run(model_args, data_args, training_args, finetuning_args, callbacks)


def run_pair_stage(
    model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, callbacks: list[Any] | None = None
) -> None:
    """Run the host's DPO workflow on pairs of dialogues."""
    from .collator import SegmentDataCollator
    from .trainer import SegmentTrainer

    stage = finetuning_args.pair_stage
    collator = partial(SegmentDataCollator, stage=stage, gamma=finetuning_args.dmpo_gamma)
    dataset = partial(load_pair_dataset, finetuning_args)
    # Streamed pairs are not known before they are trained on.
    once = finetuning_args.reference_once and finetuning_args.use_ref_model and not data_args.streaming
    ours: dict[str, Any] = {"get_dataset": dataset, "PairwiseDataCollatorWithPadding": collator}
    trainer: Any = SegmentTrainer
    if once and training_args.do_train:
        trainer = partial(SegmentTrainer, references=references(model_args, training_args, finetuning_args))
        ours["create_ref_model"] = lambda *_: None
    with (
        substituted(host_dpo_workflow, **ours),
        substituted(host_dpo_trainer, CustomDPOTrainer=trainer),
    ):
        host_dpo_workflow.run_dpo(model_args, data_args, training_args, finetuning_args, callbacks)


def references(model_args: Any, training_args: Any, finetuning_args: Any) -> Any:
    """The reference's log-probabilities, computed as the host would compute them in every step."""
    from datasets import config as datasets_config

    from .references import identity_of

    create = seam(host_dpo_workflow, "create_ref_model", "model_args", "finetuning_args")
    cache = Path(model_args.cache_dir or datasets_config.HF_DATASETS_CACHE)
    return References(
        identity=lambda: identity_of(model_args, training_args, finetuning_args),
        create_model=lambda: create(model_args, finetuning_args),
        prepare=prepare_reference,
        folder=cache / "sdpo-reference",
    )


def prepare_reference(trainer: Any, model: Any) -> Any:
    """Make a reference model ready to run on a trainer's machines, as the host's trainer does with one."""
    if trainer.is_deepspeed_enabled and not getattr(model, "is_quantized", False):
        return seam(host_dpo_trainer, "prepare_deepspeed")(model, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        if trainer.accelerator.is_fsdp2:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            return fsdp2_prepare_model(trainer.accelerator, model)
        return seam(host_dpo_trainer, "prepare_fsdp")(model, trainer.accelerator)
    # Not the accelerator's prepare_model, which would keep the model for as long as it lives itself.
    return (model if getattr(model, "is_quantized", False) else model.to(trainer.accelerator.device)).eval()


def prepare_pairs(args: Any) -> None:
    """Read, check and encode the pairs of a config once, before any rank or worker starts.

    The ranks find the encoded pairs in the cache. Does nothing for a stage of the host.
    """
    model_args, data_args, finetuning_args, training_args = read_args_without_launch(args)
    if finetuning_args.pair_stage is None:
        return
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    load_pair_dataset(finetuning_args, template, model_args, data_args, training_args, "rm", **module)


# ---- data -----------------------------------------------------------------------------------------------------------


def load_pair_dataset(
    finetuning_args: Any,
    template: Any,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    stage: str,
    tokenizer: Any,
    processor: Any = None,
) -> dict[str, Any]:
    """Stand in for the host's `get_dataset`: splits, maps, caches and saves as it does, but rows are pairs.

    Raises:
        UserError: if a pair is wrong, a template cannot be used, or no pair is left.
    """
    rules = Rules(finetuning_args.pair_stage, finetuning_args.segment_scope, finetuning_args.unequal_segments)
    encoder = DialogueEncoder(template, tokenizer, processor, data_args.cutoff_len)
    encoder.check_template(data_args.template)
    merged = partial(_merged_pairs, rules, finetuning_args.bad_pairs == "skip")
    shorten = rules.stage == "sdpo" and finetuning_args.overlong == "shorten"
    with substituted(
        host_loader,
        _get_merged_dataset=merged,
        _get_dataset_processor=lambda *_, **__: PairProcessor(encoder, shorten, rules.stage),
    ):
        try:
            module = seam(host_loader, "get_dataset")(
                template, model_args, data_args, training_args, stage, tokenizer, processor
            )
        except ValueError as err:
            raise UserError(" ".join(str(err).split())) from None
    keep = partial(pair_dataset.keep_fitting, rules.stage, finetuning_args.overlong == "stop", data_args)
    for split, rows in module.items():
        named = isinstance(rows, dict)
        module[split] = {name: keep(part, name) for name, part in rows.items()} if named else keep(rows, split)
    return module


def _merged_pairs(
    rules: Rules,
    skip: bool,
    dataset_names: list[str] | None,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    stage: str,
    return_dict: bool = False,
) -> Any:
    """Stand in for the host's `_get_merged_dataset`, which would load records."""
    if dataset_names is None:
        return None
    datasets = {}
    for name, attr in zip(dataset_names, get_dataset_list(dataset_names, data_args.dataset_dir), strict=True):
        pair_dataset.check_entry(data_args.dataset_dir, name)
        pairs = pair_dataset.load_pairs(
            attr, rules, data_args.dataset_dir, data_args.max_samples, training_args.seed, model_args.cache_dir
        )
        datasets[name] = pair_dataset.accept_pairs(pairs, skip, name)
        if data_args.streaming:
            datasets[name] = datasets[name].to_iterable_dataset(max(1, training_args.dataloader_num_workers))
    return datasets if return_dict else merge_dataset(list(datasets.values()), data_args, seed=training_args.seed)


# ---- serving --------------------------------------------------------------------------------------------------------


def _infer_args(args: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The host's arguments of inference: model, data, fine-tuning, generating."""
    install()
    check_keys(args, "_INFER_ARGS")
    name = args["template"]
    if name not in TEMPLATES:
        close = difflib.get_close_matches(str(name), TEMPLATES, n=1)
        raise UserError(f"template {name!r} is not one of the host's{f'; did you mean {close[0]}?' if close else ''}")
    try:
        return seam(host_parser, "get_infer_args", "args")(args)
    except (ValueError, AssertionError) as err:
        raise UserError(" ".join(str(err).split())) from None


def load_template(args: dict[str, Any]) -> DialogueEncoder:
    """Load the tokenizer and template of a config, as training with the same keys loads them.

    Raises:
        UserError: if the template is unknown, or the tokenizer is not there or lacks a token of the template.
    """
    model_args, data_args, *_ = _infer_args(args)
    try:
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    except (OSError, ValueError) as err:
        raise UserError(f"{args['model_name_or_path']}: {' '.join(str(err).split())[:300]}") from None
    encoder = DialogueEncoder(template, module["tokenizer"], module["processor"], sys.maxsize)
    encoder.check_template(args["template"])
    return encoder


def template_parts(template: Any, tokenizer: Any) -> TemplateParts:
    """Take a template of the host apart into texts."""

    def text(formatter: Any, slots: slice = slice(None)) -> str:
        return "".join(_slot_text(slot, tokenizer) for slot in formatter.slots[slots])

    fused = isinstance(template, Llama2Template)
    parts = TemplateParts(
        prefix=text(template.format_prefix),
        system=text(template.format_system, slice(1) if fused else slice(None)),
        user=text(template.format_user),
        assistant=text(template.format_assistant),
        default_system=template.default_system,
        system_in_first_turn=fused,
    )
    if not isinstance(template, ReasoningTemplate):
        return parts
    return parts._replace(
        thought=template.add_thought(),
        thought_words=template.thought_words,
        strips_thoughts=template.enable_thinking is False,
        prompts_with_thought=not template.enable_thinking,
    )


def _slot_text(slot: str | set[str] | dict[str, str], tokenizer: Any) -> str:
    """The text whose token ids the host writes for a slot of a template."""
    if isinstance(slot, str):
        return slot
    if isinstance(slot, dict):
        return slot["token"]
    named = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    return next((token or "" for name, token in named.items() if name in slot), "")


def host_api(args: dict[str, Any]) -> tuple[Any, Callable[[list[dict[str, str]]], list[int]]]:
    """Load a model into the host's own engine, prompted as in training.

    Returns:
        The host's FastAPI application, and a function that gives the prompt's ids for a chat by the engine's own way.
    """
    from llamafactory.api import app as host_app
    from llamafactory.chat import chat_model as host_chat
    from transformers import GenerationConfig

    _infer_args(args)  # for its one-line errors
    chat_model = seam(host_chat, "ChatModel", "args")(args)
    engine = chat_model.engine
    # The host's own prompt for a reasoning template drops the thoughts of the history, which training does not.
    engine.template.encode_oneturn = partial(_training_prompt, engine.template)
    # What a request does not set would be taken from the checkpoint.
    engine.model.generation_config = GenerationConfig()
    process = seam(type(engine), "_process_args", "generating_args", "messages", "system")

    def prompt_ids(messages: list[dict[str, str]]) -> list[int]:
        has_system = messages[0]["role"] == "system"
        system = messages[0]["content"] if has_system else None
        parts = (engine.model, engine.tokenizer, engine.processor, engine.template, engine.generating_args)
        inputs, _ = process(*parts, messages[has_system:], system, input_kwargs={})
        return inputs["inputs"][0].tolist()

    return seam(host_app, "create_app", "chat_model")(chat_model), prompt_ids


def _training_prompt(
    template: Any, tokenizer: Any, messages: list[dict[str, str]], system: str | None = None, tools: str | None = None
) -> tuple[list[int], list[int]]:
    """Stand in for a template's `encode_oneturn`: the last turn's prompt and answer as `encode_multiturn` has them."""
    turns = template.encode_multiturn(tokenizer, messages, system, tools)
    history = [token for turn in turns[:-1] for part in turn for token in part]
    return history + turns[-1][0], turns[-1][1]

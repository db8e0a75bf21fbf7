"""The host's `get_dataset` with pairs in the place of records; everything else of it stays."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from datasets import table as datasets_table

from .. import entries
from ..data.dataset import accept_pairs, check_calls, keep_fitting, load_pairs
from ..data.encoding import DialogueEncoder, PairProcessor
from ..data.flags import Flags
from ..data.formats import check_entry
from ..data.pairing import Rules
from ..errors import UserError, one_line
from ..stages import STAGES
from . import kept
from .arguments import parse_anywhere
from .models import tokenizer_of
from .names import (
    DatasetAttr,
    get_dataset_list,
    get_template_and_fix_tokenizer,
    host_loader,
    is_env_enabled,
    merge_dataset,
)
from .seams import seam, substituted
from .templates import dialogue_encoder


OPENS = "_memory_mapped_arrow_table_from_file"
"""The function of `datasets` with which it opens every kept file."""


def dataset_list(names: list[str] | None, dataset_dir: Any) -> list[Any]:
    """Stand in for the host's `get_dataset_list`: a name may be a path, or of the hub, without being an entry.

    Files that dpo/ writes are those of SDPO_HOME, if that is set.
    """
    return [_described(name, dataset_dir) for name in names or []]


def _described(name: str, dataset_dir: Any) -> Any:
    """Return the host's description of a dataset."""
    if path := entries.path_of(name, dataset_dir):
        return DatasetAttr("file", dataset_name=str(path))
    if entries.is_of_the_hub(name, dataset_dir) and dataset_dir != "ONLINE":
        return DatasetAttr("hf_hub", dataset_name=name)
    (attr,) = get_dataset_list([name], dataset_dir)
    if attr.load_from == "file":
        step_file = attr.dataset_name.startswith(entries.STEP_FILES)
        attr.dataset_name = entries.moved(attr.dataset_name, dataset_dir)
        if step_file and entries.has_tools(Path(dataset_dir) / attr.dataset_name):
            # Not in the entry: of a file without this column the host would raise a KeyError.
            attr.tools = attr.tools or entries.TOOLS
    return attr


def step_files_moved() -> AbstractContextManager[None]:
    """Make the host read the files that dpo/ writes from SDPO_HOME, for as long as the block runs."""
    return substituted(host_loader, get_dataset_list=dataset_list)


def prepare_pairs(args: Any) -> None:
    """Read, check and encode the pairs of a config once, before any rank or worker starts.

    The ranks find the encoded pairs in the cache. Does nothing for a stage of the host. Megatron's arguments begin a
    process group, so they are its ranks' to parse.

    Raises:
        UserError: if the arguments or the pairs are refused.
    """
    if is_env_enabled("USE_MCA"):
        return
    with _host_is_silent():
        model_args, data_args, training_args, finetuning_args, _ = parse_anywhere(args)
    if finetuning_args.pair_stage is None:
        return
    module = tokenizer_of(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    load_pair_dataset(finetuning_args, template, model_args, data_args, training_args, "rm", **module)


@contextmanager
def _host_is_silent() -> Iterator[None]:
    """Leave the host's warnings to the ranks, which parse the same arguments."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


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
    """Stand in for the host's `get_dataset`: split, map, cache and save as it does, but rows are pairs.

    The arguments after the first are the host's, so `stage` is its word for the kind of its rows, not a stage of ours.

    Raises:
        UserError: if a pair is wrong, a template cannot be used, or no pair is left.
    """
    rules = Rules(finetuning_args.pair_stage, finetuning_args.segment_scope, finetuning_args.unequal_segments)
    encoder = dialogue_encoder(template, tokenizer, processor, data_args.cutoff_len, data_args.template or "")
    encoder.check_template(data_args.template)
    shorten = STAGES[rules.stage].may_shorten and finetuning_args.overlong == "shorten"
    flags = Flags(finetuning_args.drop_pairs)
    opens = kept.Checked(seam(datasets_table, OPENS))
    load = partial(
        seam(host_loader, "get_dataset"), template, model_args, data_args, training_args, stage, tokenizer, processor
    )
    with (
        substituted(
            host_loader,
            _get_merged_dataset=partial(_merged_pairs, rules, encoder, finetuning_args.bad_pairs == "skip", flags),
            _get_dataset_processor=lambda *_, **__: PairProcessor(encoder, shorten, rules.rows_are_of, flags.name),
        ),
        substituted(datasets_table, **{OPENS: opens}),
    ):
        try:
            module: dict[str, Any] = kept.made_again(load, data_args.tokenized_path)
        except ValueError as err:
            raise UserError(one_line(err)) from None
    keep = partial(keep_fitting, rules.rows_are_of, finetuning_args.overlong == "stop", data_args)
    for split, rows in module.items():
        named = isinstance(rows, dict)
        for part in rows.values() if named else (rows,):
            flags.check_encoded(part, data_args.tokenized_path)
        module[split] = {name: keep(part, name) for name, part in rows.items()} if named else keep(rows, split)
    return module


def _merged_pairs(
    rules: Rules,
    encoder: DialogueEncoder,
    skip: bool,
    flags: Flags,
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
    # Flags are of what is trained on; the other set is the host's eval_dataset.
    wanted = flags if dataset_names is data_args.dataset else None
    for name in dataset_names:
        check_entry(data_args.dataset_dir, name)
    described = dataset_list(dataset_names, data_args.dataset_dir)
    for name, attr in zip(_short(dataset_names), described, strict=True):
        where = data_args.dataset_dir, data_args.max_samples, training_args.seed, model_args.cache_dir
        pairs = load_pairs(attr, rules, *where, flags=wanted)
        datasets[name] = accept_pairs(check_calls(pairs, encoder.check_calls), skip, name)
        if data_args.streaming:
            datasets[name] = datasets[name].to_iterable_dataset(max(1, training_args.dataloader_num_workers))
    if wanted:
        wanted.check_found()
    return datasets if return_dict else merge_dataset(list(datasets.values()), data_args, seed=training_args.seed)


def _short(names: list[str]) -> list[str]:
    """Return the names for messages and metrics, in which a path is its last part, unless two are then the same."""
    short = [Path(name).name if entries.is_path(name) else name for name in names]
    return short if len(set(short)) == len(set(names)) else names

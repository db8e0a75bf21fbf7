"""Refuse a template with tokens for which the model has no embedding; PyTorch would say "index out of range in self".

The host adds a template's stop words to the tokenizer, as new tokens where it lacks them. The model gets rows for them
under `resize_vocab` alone. One that no turn is written with may lack its row.
"""

from types import SimpleNamespace
from typing import Any

from ..errors import OptionError
from .models import config_of, tokenizer_of
from .names import TEMPLATES
from .templates import template_parts


def check_rows(model_args: Any, data_args: Any, finetuning_args: Any) -> None:
    """Refuse a template that writes tokens which the model, or its reference, has no row for.

    Raises:
        OptionError: with the tokens and the remedy, or if the model cannot be read.
    """
    if data_args.template is None:
        return
    # The host makes a reference of its own with a tokenizer that the template has not touched, so without the rows.
    has_reference = finetuning_args.stage == "dpo" and finetuning_args.use_ref_model
    own_reference = has_reference and finetuning_args.finetuning_type != "lora"
    if model_args.resize_vocab and not own_reference:
        return
    tokenizer = tokenizer_of(model_args)["tokenizer"]
    rows = config_of(model_args).get_text_config().vocab_size
    lacking = tokens_without_rows(data_args.template, tokenizer, rows)
    if not lacking:
        return
    remedy = "set resize_vocab: true"
    if own_reference:
        remedy = f"nor has its reference; train with it in SFT first, or use finetuning_type: lora, and {remedy} there"
    raise OptionError(
        "template",
        f"template {data_args.template} adds tokens that the model has no row for ({', '.join(lacking)}); {remedy}, "
        "or choose the model's own template",
    )


def tokens_without_rows(name: str, tokenizer: Any, rows: int) -> list[str]:
    """Return the tokens that a template writes, the tokenizer lacks, and so many rows have no place for.

    Args:
        name: of the template.
        tokenizer: that the template has not touched.
        rows: of the model's embedding.
    """
    template = TEMPLATES[name]
    known = tokenizer.get_vocab()
    new = [word for word in dict.fromkeys(template.stop_words) if word not in known]
    end = template.stop_words[0] if template.replace_eos else tokenizer.eos_token
    parts = template_parts(template, SimpleNamespace(bos_token=tokenizer.bos_token, eos_token=end), name)
    texts = (parts.prefix, parts.system, parts.user, parts.observation, parts.assistant, parts.function, end or "")
    return [word for place, word in enumerate(new, len(tokenizer)) if place >= rows and word in "".join(texts)]

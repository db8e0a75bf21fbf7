"""Real tokenizers with a template of the host, and what the checkpoint's own template makes of a chat."""

import copy
from pathlib import Path
from typing import Any

import checkpoints
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
from transformers import AutoTokenizer

from llamafactory_sdpo.data.encoding import DialogueEncoder
from llamafactory_sdpo.host.templates import dialogue_encoder
from llamafactory_sdpo.serving.chats import read_arguments
from llamafactory_sdpo.serving.probe import Prompt


def load(model: str, name: str, **options: object) -> tuple[DialogueEncoder, str | None]:
    """Return an encoder with the tokenizer of a model and a template of the host, and the model's own template."""
    return encoder_of(checkpoints.folder_of(model), name, **options)


def encoder_of(folder: Path, name: str, **options: object) -> tuple[DialogueEncoder, str | None]:
    """Return the same for the tokenizer of a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = tokenizer.chat_template
    before = TEMPLATES[name]
    TEMPLATES[name] = copy.deepcopy(before)
    try:
        template = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=name, **options))
    finally:
        TEMPLATES[name] = before
    return dialogue_encoder(template, tokenizer, None, 10**9, name), own


def own_text(encoder: DialogueEncoder, own: str | None, prompt: Prompt) -> str:
    """Return what the model's own template makes of a chat."""
    return _rendered(encoder, own, prompt, tokenize=False)


def own_ids(encoder: DialogueEncoder, own: str | None, prompt: Prompt) -> list[int]:
    """Return the token ids of that."""
    return _rendered(encoder, own, prompt, tokenize=True, return_dict=False)


def _rendered(encoder: DialogueEncoder, own: str | None, prompt: Prompt, **how: bool) -> Any:
    chat = [{**message, "content": message.get("content") or ""} for message in read_arguments(prompt.messages)]
    return encoder.tokenizer.apply_chat_template(
        chat, tools=prompt.tools, chat_template=own, add_generation_prompt=True, **how
    )

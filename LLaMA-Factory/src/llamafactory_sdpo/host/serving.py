"""What serving takes of the host: its templates apart into texts, and its own server with training's prompts."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..data.encoding import DialogueEncoder
from ..errors import UserError, one_line
from .arguments import check_template, checked_keys
from .install import install
from .names import (
    Llama2Template,
    ReasoningTemplate,
    get_template_and_fix_tokenizer,
    host_parser,
    load_config,
    load_tokenizer,
)
from .seams import seam


DEFAULT_CONTEXT = 32_768
"""For a model whose config does not say."""


class TemplateParts(NamedTuple):
    """A template as texts, with the host's marks for the content and the number of a turn."""

    prefix: str
    system: str
    user: str
    assistant: str
    default_system: str
    system_in_first_turn: bool
    """Whether the system message is put into the first human turn, not before it."""
    thought: str = ""
    """The empty thought that training puts before an agent turn without one; empty for other templates."""
    thought_words: tuple[str, str] = ("", "")
    strips_thoughts: bool = False
    """Whether thoughts in the dialogue are taken out, as under `enable_thinking: false`."""
    prompts_with_thought: bool = False
    """Whether the empty thought belongs to the prompt; else the agent was trained to write it itself."""


def _infer_args(args: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the host's arguments of inference: model, data, fine-tuning, generating."""
    install()
    args = checked_keys(args, "_INFER_ARGS")
    check_template(args["template"])
    try:
        parsed: tuple[Any, Any, Any, Any] = seam(host_parser, "get_infer_args", "args")(args)
    except (ValueError, AssertionError) as err:
        raise UserError(one_line(err)) from None
    return parsed


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
        raise UserError(f"{args['model_name_or_path']}: {one_line(err)[:300]}") from None
    encoder = DialogueEncoder(template, module["tokenizer"], module["processor"], sys.maxsize)
    encoder.check_template(args["template"])
    return encoder


def template_parts(template: Any, tokenizer: Any) -> TemplateParts:
    """Return the texts of a template of the host."""

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
    """Return the text whose token ids the host writes for a slot of a template."""
    if isinstance(slot, str):
        return slot
    if isinstance(slot, dict):
        return slot["token"]
    named = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    return next((token or "" for name, token in named.items() if name in slot), "")


def host_api(args: dict[str, Any]) -> tuple[Any, Callable[[list[dict[str, str]]], list[int]]]:
    """Load a model into the host's own engine, prompted as in training.

    Returns:
        The host's FastAPI application, and a function from a chat to its prompt's ids, made as the engine makes them.
    """
    # Imported here, since vLLM's servers need none of it.
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
        ids: list[int] = inputs["inputs"][0].tolist()
        return ids

    return seam(host_app, "create_app", "chat_model")(chat_model), prompt_ids


def context_length(args: dict[str, Any]) -> int:
    """Return how many tokens a model was made for, by its config."""
    model_args, *_ = _infer_args(args)
    config = load_config(model_args).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT)


def _training_prompt(
    template: Any, tokenizer: Any, messages: list[dict[str, str]], system: str | None = None, tools: str | None = None
) -> tuple[list[int], list[int]]:
    """Stand in for a template's `encode_oneturn`: return prompt and answer of the last turn as training has them."""
    turns = template.encode_multiturn(tokenizer, messages, system, tools)
    history = [token for turn in turns[:-1] for part in turn for token in part]
    return history + turns[-1][0], turns[-1][1]

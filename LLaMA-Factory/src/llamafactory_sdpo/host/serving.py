"""What serving takes of the host: its templates, and its own server with training's prompts."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ..data.encoding import DialogueEncoder
from ..data.reading import Message
from ..errors import UserError, one_line
from .arguments import REFUSALS, checked_keys, refusal
from .install import install
from .models import config_of, tokenizer_of
from .names import get_template_and_fix_tokenizer, host_parser
from .seams import seam
from .seeding import SeededModel
from .settings import check_template
from .templates import dialogue_encoder


PASSED = ("model", "tokenizer", "processor", "template", "generating_args", "messages")
"""What the engine's ways to answer are given first, by place."""
DEFAULT_CONTEXT = 32_768
"""For a model whose config does not say."""


def _infer_args(args: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the host's arguments of inference: model, data, fine-tuning, generating."""
    install()
    args = checked_keys(args, "_INFER_ARGS")
    check_template(args["template"])
    try:
        parsed: tuple[Any, Any, Any, Any] = seam(host_parser, "get_infer_args", "args")(args)
    except REFUSALS as err:
        raise refusal(err, args) from None
    return parsed


def load_template(args: dict[str, Any]) -> DialogueEncoder:
    """Load the tokenizer and template of a config, as training with the same keys loads them.

    Raises:
        UserError: if the template is unknown, or the tokenizer is not there or lacks a token of the template.
    """
    model_args, data_args, *_ = _infer_args(args)
    module = tokenizer_of(model_args)
    try:
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    except (OSError, ValueError) as err:
        raise UserError(f"{args['model_name_or_path']}: {one_line(err)[:300]}") from None
    encoder = dialogue_encoder(template, module["tokenizer"], module["processor"], sys.maxsize, args["template"])
    encoder.check_template(args["template"])
    return encoder


def host_api(args: dict[str, Any]) -> tuple[Any, Callable[[list[Message], str], list[int]]]:
    """Load a model into the host's own engine, prompted as in training.

    Returns:
        The host's FastAPI application, which takes `packed` dialogues, and a function from a dialogue and its tools to
        the ids of its prompt, made as the engine makes them.
    """
    # Imported here, since vLLM's servers need none of it.
    from llamafactory.api import app as host_app
    from llamafactory.chat import chat_model as host_chat
    from transformers import GenerationConfig

    _infer_args(args)  # for its one-line errors
    chat_model = seam(host_chat, "ChatModel", "args")(args)
    engine = chat_model.engine
    encoder = dialogue_encoder(engine.template, engine.tokenizer, engine.processor, sys.maxsize, args["template"])
    # The host's own prompt has no form for what does not alternate, and for a reasoning template it drops the thoughts
    # of the history, which training does not.
    engine.template.encode_oneturn = partial(_training_prompt, encoder)
    # What a request does not set would be taken from the checkpoint.
    engine.model.generation_config = GenerationConfig()
    process = seam(type(engine), "_process_args", "generating_args", "messages", "system")
    engine._chat = partial(_seeded, seam(type(engine), "_chat", *PASSED))
    engine._stream_chat = partial(_seeded, seam(type(engine), "_stream_chat", *PASSED))

    def prompt_ids(messages: list[Message], tools: str = "") -> list[int]:
        parts = (engine.model, engine.tokenizer, engine.processor, engine.template, engine.generating_args)
        inputs, _ = process(*parts, packed(messages, tools)["messages"], input_kwargs={})
        ids: list[int] = inputs["inputs"][0].tolist()
        return ids

    return seam(host_app, "create_app", "chat_model")(chat_model), prompt_ids


def _seeded(chat: Callable[..., Any], *args: Any) -> Any:
    """Stand in for the engine's ways to answer, which drop a request's seed: answer with a model that has it."""
    model, messages = args[PASSED.index("model")], args[PASSED.index("messages")]
    _, _, *seed = json.loads(messages[0]["content"])
    return chat(SeededModel(model, *seed), *args[1:])


def packed(messages: list[Message], tools: str, seed: int | None = None) -> dict[str, Any]:
    """Return a dialogue, the JSON of its tools and a seed as messages and tools of a request that the host takes.

    The host knows only chats that alternate, and no seed, so it all is the text of one turn; a made-up tool has the
    host look for calls in the answer.
    """
    text = json.dumps([messages, tools, *([] if seed is None else [seed])])
    request: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "tools": None}
    if tools:
        request["tools"] = [{"type": "function", "function": {"name": "", "description": "", "parameters": {}}}]
    return request


def _training_prompt(encoder: DialogueEncoder, tokenizer: Any, messages: Any, *_: Any) -> tuple[list[int], list[int]]:
    """Stand in for a template's `encode_oneturn`: return the prompt of a packed dialogue as training has it."""
    dialogue, tools, *_ = json.loads(messages[0]["content"])
    return encoder.prompt(dialogue, tools), []


def context_length(args: dict[str, Any]) -> int:
    """Return how many tokens a model was made for, by its config."""
    model_args, *_ = _infer_args(args)
    config = config_of(model_args).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT)

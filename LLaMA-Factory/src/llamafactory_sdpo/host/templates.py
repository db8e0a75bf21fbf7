"""The host's templates apart into texts, from which training and serving write what the host has no word for."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from ..data.encoding import DialogueEncoder
from ..data.rendering import CONTENT, TemplateParts
from .names import TEMPLATES, Llama2Template, ReasoningTemplate


def dialogue_encoder(template: Any, tokenizer: Any, processor: Any, cutoff_len: int, name: str) -> DialogueEncoder:
    """Return the encoder of a template that has fixed its tokenizer."""
    parts = template_parts(template, tokenizer, name)
    return DialogueEncoder(template, tokenizer, processor, cutoff_len, parts)


def template_parts(template: Any, tokenizer: Any, name: str) -> TemplateParts:
    """Return the texts of a template of the host."""

    def text(formatter: Any, slots: slice = slice(None)) -> str:
        return _text(formatter.slots[slots], tokenizer)

    fused = isinstance(template, Llama2Template)
    parts = TemplateParts(
        name=name,
        prefix=text(template.format_prefix),
        system=text(template.format_system, slice(1) if fused else slice(None)),
        user=text(template.format_user),
        observation=text(template.format_observation),
        assistant=text(template.format_assistant),
        function=text(template.format_function),
        default_system=template.default_system,
        system_in_first_turn=fused,
        call_words=template.tool_call_words,
        thought_words=template.thought_words,
        tool_format=template.format_function.tool_format,
        write_tools=partial(_tools_text, template.format_tools),
        write_calls=partial(_calls_text, template.format_function, tokenizer),
    )
    if not isinstance(template, ReasoningTemplate):
        return parts
    return parts._replace(
        thought=template.add_thought(),
        strips_thoughts=template.enable_thinking is False,
        prompts_with_thought=not template.enable_thinking,
    )


def _tools_text(formatter: Any, tools: str) -> str:
    text: str = formatter.apply(content=tools)[0] if tools else ""
    return text


def _calls_text(formatter: Any, tokenizer: Any, calls: str) -> str:
    """Return the calls without what stands around them in a turn."""
    before, _, after = _text(formatter.slots, tokenizer).partition(CONTENT)
    turn = _text(formatter.apply(content=calls), tokenizer)
    return turn[len(before) : len(turn) - len(after)]


def _text(slots: list[str | set[str] | dict[str, str]], tokenizer: Any) -> str:
    """Return the text whose token ids the host writes for slots of a template."""
    named = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    pieces = []
    for slot in slots:
        if isinstance(slot, str):
            pieces.append(slot)
        elif isinstance(slot, dict):
            pieces.append(slot["token"])
        else:
            pieces.append(next((token or "" for name, token in named.items() if name in slot), ""))
    return "".join(pieces)


def text_templates() -> Iterator[TemplateParts]:
    """Yield the host's templates for models of text alone, as a tokenizer with a beginning and an end reads them."""
    named = SimpleNamespace(bos_token="<bos>", eos_token="<eos>")
    for name, template in sorted(TEMPLATES.items()):
        if type(template.mm_plugin).__name__ == "BasePlugin":
            yield template_parts(template, named, name)

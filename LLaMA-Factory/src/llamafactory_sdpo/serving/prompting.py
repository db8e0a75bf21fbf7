"""Everything that decides what the served model sees, as files that a server is pointed at.

Comes in: a config. Goes out: a folder with training's tokenizer, the chat template, and a generation_config.json
with the stop tokens of the template and the defaults of the config, so that nothing is taken from the checkpoint.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..encoding import DialogueEncoder
from .chat_template import TemplateParts, render_jinja
from .config import ServingConfig, host_args


TEMPLATE_FILE = "chat_template.jinja"


class Prompting(NamedTuple):
    """How training prompts the model."""

    encoder: DialogueEncoder
    parts: TemplateParts
    stop_ids: list[int]

    @property
    def writes_thought(self) -> bool:
        """Whether the agent begins its answers with a thought, which is not part of what it says."""
        return bool(self.parts.thought) and not self.parts.prompts_with_thought


def load(config: ServingConfig) -> Prompting:
    """Load tokenizer and template as training with the same keys does.

    Raises:
        UserError: if the template is unknown or does not fit the tokenizer.
    """
    from .. import register  # heavy

    encoder = register.load_template(host_args(config))
    parts = register.template_parts(encoder.template, encoder.tokenizer)
    return Prompting(encoder, parts, sorted(encoder.template.get_stop_token_ids(encoder.tokenizer)))


def rendered_ids(prompting: Prompting) -> Callable[[list[dict[str, str]]], list[int]]:
    """Make the function that gives a chat's ids as a server will have them: our template, the whole text encoded."""
    template, tokenizer = render_jinja(prompting.parts), prompting.encoder.tokenizer

    def ids(messages: list[dict[str, str]]) -> list[int]:
        return tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, return_dict=False
        )

    return ids


def generation_defaults(config: ServingConfig) -> dict[str, Any]:
    """What holds for a request that does not say otherwise; max_new_tokens is a limit as well."""
    defaults = {
        "temperature": config.temperature if config.do_sample else 0.0,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "repetition_penalty": config.repetition_penalty,
        "max_new_tokens": config.max_new_tokens,
    }
    return {name: value for name, value in defaults.items() if value is not None}


def write(prompting: Prompting, config: ServingConfig, folder: Path) -> None:
    """Write the files into a folder, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = prompting.encoder.tokenizer
    template = render_jinja(prompting.parts)
    # Put back below: the encoder goes on with the tokenizer that training has.
    before, tokenizer.chat_template = tokenizer.chat_template, template
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = before
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    defaults = generation_defaults(config) | {"eos_token_id": prompting.stop_ids}
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2), encoding="utf-8")

"""Write what decides the served model's input as files for a server.

A config becomes a folder with training's tokenizer, the chat template, and a generation_config.json with the stop
tokens of the template and the defaults of the config, so that nothing is taken from the checkpoint.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from ..data.encoding import DialogueEncoder
from ..data.rendering import TemplateParts
from .chat_template import render_jinja
from .chats import Chat, Served, Tools, read_arguments
from .config import ServingConfig, host_args


TEMPLATE_FILE = "chat_template.jinja"


class Prompting(NamedTuple):
    """How training prompts the model."""

    encoder: DialogueEncoder
    stop_ids: list[int]
    no_tools: str = ""
    """Why a server takes no tools, if it takes none."""

    @property
    def parts(self) -> TemplateParts:
        """The template as texts."""
        return self.encoder.parts

    @property
    def writes_thought(self) -> bool:
        """Whether the agent begins its answers with a thought, which is not part of its message."""
        return bool(self.parts.thought) and not self.parts.prompts_with_thought


def load(config: ServingConfig) -> Prompting:
    """Load tokenizer and template as training with the same keys does.

    Raises:
        UserError: if the template is unknown or does not fit the tokenizer.
    """
    from ..host.serving import load_template  # heavy

    encoder = load_template(host_args(config))
    return Prompting(encoder, sorted(encoder.template.get_stop_token_ids(encoder.tokenizer)))


def rendered_ids(prompting: Prompting) -> Served:
    """Return a function from a chat to its ids as a server makes them: our template, the whole text encoded."""
    template, tokenizer = render_jinja(prompting.parts, prompting.no_tools), prompting.encoder.tokenizer

    def ids(messages: Chat, tools: Tools) -> list[int]:
        rendered: list[int] = tokenizer.apply_chat_template(
            read_arguments(messages),
            tools=tools,
            chat_template=template,
            add_generation_prompt=True,
            return_dict=False,
        )
        return rendered

    return ids


def generation_defaults(config: ServingConfig) -> dict[str, Any]:
    """Return the defaults for what a request does not set; max_new_tokens is a limit as well."""
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
    template = render_jinja(prompting.parts, prompting.no_tools)
    # Put back below: the encoder goes on with the tokenizer that training has.
    before, tokenizer.chat_template = tokenizer.chat_template, template
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = before
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    defaults = generation_defaults(config) | {"eos_token_id": prompting.stop_ids}
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2), encoding="utf-8")

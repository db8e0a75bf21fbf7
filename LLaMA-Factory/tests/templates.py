"""Templates of the host with the toy tokenizer, and dialogues for them."""

import copy

import oracle
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments

from llamafactory_sdpo.data.encoding import DialogueEncoder
from llamafactory_sdpo.host.templates import dialogue_encoder


EXTRA_TOKENS = ["[gMASK]", "sop", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>", "<sep>"]
PLAIN = ["llama3", "mistral", "qwen", "chatml", "llama2", "gemma2", "glm4", "phi4"]
"""llama2 puts the system message into the first human turn, gemma2 and glm4 have `efficient_eos`."""
TEXT_TEMPLATES = sorted(
    name for name, template in TEMPLATES.items() if type(template.mm_plugin).__name__ == "BasePlugin"
)


def encoder_of(name: str, cutoff_len: int = 100_000, **options: object) -> DialogueEncoder:
    """An encoder with a template of its own, since the host changes its templates in place."""
    tokenizer = oracle.toy_tokenizer(EXTRA_TOKENS)
    before = TEMPLATES[name]
    TEMPLATES[name] = copy.deepcopy(before)
    try:
        template = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=name, **options))
    finally:
        TEMPLATES[name] = before
    return dialogue_encoder(template, tokenizer, None, cutoff_len, name)


def messages_of(turns: list[str], system: str = "") -> list[dict[str, str]]:
    leading = [{"role": "system", "content": system}] if system else []
    return leading + [
        {"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)
    ]

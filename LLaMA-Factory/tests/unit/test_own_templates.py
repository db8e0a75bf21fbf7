"""Dialogues with tools under the tokenizers of Qwen3 and Llama-3.1: served as trained, and as the model's own template.

Where the host's template differs from the model's own, which docs/training.md says, the difference is held here.
"""

import pytest
from own_templates import load, own_text

from llamafactory_sdpo.serving import probe, prompting


@pytest.mark.parametrize(
    ("model", "name", "thinking"),
    [
        ("qwen3", "qwen3_nothink", True),
        ("qwen3", "qwen3", True),
        ("qwen3", "qwen3", False),
        ("qwen3", "qwen", True),
        ("llama3.1", "llama3", True),
    ],
)
def test_real_tokenizers_are_served_as_trained(model, name, thinking):
    """Token for token, whatever they merge."""
    encoder, _ = load(model, name, enable_thinking=thinking)
    prompts = probe.prompts(encoder) + probe.tool_prompts(encoder)
    served = prompting.rendered_ids(prompting.Prompting(encoder, []))
    assert probe.compare(prompts, encoder, served) == len(prompts) > 40


def test_qwen3s_own_template_renders_the_same():
    """Calls, rows of results, text and call, an agent that speaks first; but not two line breaks before lone tools."""
    encoder, own = load("qwen3", "qwen3_nothink")
    lone = 0
    for prompt in probe.prompts(encoder) + probe.tool_prompts(encoder):
        ours, theirs = encoder.tokenizer.decode(prompt.ids), own_text(encoder, own, prompt)
        if prompt.tools and prompt.messages[0]["role"] != "system":
            ours = ours.replace("<|im_start|>system\n\n\n# Tools", "<|im_start|>system\n# Tools", 1)
            lone += 1
        assert ours == theirs
    assert lone > 5


def test_llama31s_header_of_every_role_is_the_hosts():
    """The package's template has no tools; it takes blanks off both ends of a content, as the host does not."""
    encoder, own = load("llama3.1", "llama3")
    compared = 0
    for prompt in probe.prompts(encoder):
        if all(message["content"] == message["content"].strip() for message in prompt.messages):
            assert encoder.tokenizer.decode(prompt.ids) == own_text(encoder, own, prompt)
            compared += 1
    assert compared > 8

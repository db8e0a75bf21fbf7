"""Prompts are filled in one pass, or refused by the name of what has no value; fingerprints are those of old episodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo import prompts
from sotopia_sdpo.judge.verdict import template_hash
from sotopia_sdpo.play.dialogue import load_template


TEXT = st.lists(st.sampled_from(["{{a}}", "{{ b }}", "{{c}}", "{{", "}}", "{", "a", "\\1", "\n"]), max_size=6).map(
    "".join
)


@given(TEXT, TEXT)
def test_what_is_filled_in_is_not_looked_at_again(a: str, b: str) -> None:
    assert prompts.fill("{{a}}-{{ b }}-{{a}} {x}", {"a": a, "b": b, "unused": ""}) == f"{a}-{b}-{a} {{x}}"


@pytest.mark.parametrize(("text", "name"), [("{{a}} {{goal}} {{more}}", "goal"), ("{{}}", ""), ("{{ }}", "")])
def test_a_placeholder_without_a_value_is_named(text: str, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        prompts.fill(text, {"a": "", "b": ""})
    assert str(caught.value) == f"unknown placeholder {{{{{name}}}}}; known are {{{{a}}}}, {{{{b}}}}"


def test_fingerprints_are_those_that_episodes_store() -> None:
    """Of the wording without its last line end: sha256sum of it, the first 8 characters."""
    assert prompts.fingerprint("abc") == "ba7816bf"
    assert load_template().fingerprint == prompts.fingerprint(prompts.read("agent.txt")) == "fe6b1eeb"
    assert template_hash() == prompts.fingerprint(prompts.read("evaluator.txt")) == "606f608b"

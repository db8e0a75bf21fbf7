"""Values of a config against the types that the host declares."""

from typing import Literal

import pytest

from llamafactory_sdpo.errors import OptionError
from llamafactory_sdpo.host.arguments import checked_keys
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.values import fits


install()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", "abc", "`learning_rate` is 'abc', expected a number"),
        ("learning_rate", "1e-3", "expected a number"),
        ("learning_rate", float("nan"), "expected a number"),
        ("learning_rate", None, "`learning_rate` is None, expected a number"),
        ("learning_rate", -1, "`learning_rate` is -1, expected at least 0"),
        ("per_device_train_batch_size", 0, "expected at least 1"),
        ("gradient_accumulation_steps", 0, "expected at least 1"),
        ("cutoff_len", "long", "`cutoff_len` is 'long', expected a whole number"),
        ("seed", 1.5, "`seed` is 1.5, expected a whole number"),
        ("pref_beta", "abc", "expected a number"),
        ("val_size", [1], r"`val_size` is \[1\], expected a number"),
        ("bf16", "maybe", "`bf16` is 'maybe', expected true or false"),
        ("bf16", 2, "expected true or false"),
        ("lr_scheduler_type", "wavy", "expected one of linear, cosine"),
        ("flash_attn", "foo", "expected one of auto, disabled"),
        ("lora_rank", 0, "`lora_rank` is 0, expected at least 1"),
        ("lora_dropout", 2, "`lora_dropout` is 2, expected at most 1"),
        ("dpo_label_smoothing", 0.6, "`dpo_label_smoothing` is 0.6, expected at most 0.5"),
        ("dpo_label_smoothing", -0.1, "expected at least 0"),
        ("lr_scheduler_kwargs", "abc", "`lr_scheduler_kwargs` is 'abc', expected key: value lines"),
        ("dataset", {"a": 1}, "`dataset` is {'a': 1}, expected text"),
        ("overlong", "cut", "`overlong` is 'cut', expected one of shorten, skip, stop"),
    ],
)
def test_wrong_values_are_named_with_their_key(key, value, message):
    with pytest.raises(OptionError, match=message) as error:
        checked_keys({"stage": "sdpo", key: value})
    assert error.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 1),
        ("max_steps", 1e3),
        ("max_steps", -1),
        ("eval_steps", 0.5),
        ("warmup_steps", 0.1),
        ("max_grad_norm", float("inf")),
        ("deepspeed", None),
        ("deepspeed", {"train_batch_size": 1}),
        ("dataset", ["a", "b"]),
        ("report_to", ["none"]),
        ("resume_from_checkpoint", True),
        ("dpo_label_smoothing", 0.5),
        ("lr_scheduler_kwargs", {"num_cycles": 0.5}),
        ("lr_scheduler_kwargs", '{"num_cycles": 0.5}'),
        ("lora_target", ["q_proj"]),
        ("save_strategy", "no"),
        ("fsdp", "full_shard auto_wrap"),
        ("include_num_input_tokens_seen", True),
        ("packing", None),
        ("disable_tqdm", True),
        ("bf16", 1),
    ],
)
def test_what_works_is_left_as_it_is(key, value):
    assert checked_keys({key: value}) == {key: value}


def test_true_and_false_in_quotes_are_meant():
    """Python takes the text "false" for true."""
    assert checked_keys({"bf16": "false", "plot_loss": "Yes", "resume_from_checkpoint": "false"}) == {
        "bf16": False,
        "plot_loss": True,
        "resume_from_checkpoint": "false",
    }


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("run_name", 7, "7"),
        ("dataset_dir", 2024, "2024"),
        ("lora_target", 5, "5"),
        ("per_device_train_batch_size", 2.0, 2),
        ("eval_steps", 2.0, 2.0),
    ],
)
def test_a_number_is_read_as_what_the_option_is(key, value, read):
    """PyTorch refuses a batch of 2.0 pairs, and the host looks for commas in a name."""
    found = checked_keys({key: value})[key]
    assert (found, type(found)) == (read, type(read))


def test_unions():
    assert fits(None, int | None) and not fits("x", int | None)
    assert fits("a", Literal["a"] | None) and not fits("b", Literal["a"] | None)
    assert fits(True, str | bool) and fits("x", str | bool)

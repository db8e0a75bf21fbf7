"""Defaults that go together: what one setting makes of the defaults of others. Whatever is typed wins over them."""

from collections.abc import Callable, Mapping

from sotopia_sdpo.envs.registry import environments
from sotopia_sdpo.loop.places import DEMO_SERVING, RUNS


SOTOPIA = "sotopia"

QUESTS = {
    # The environment scores, so nobody has to be asked where an episode went wrong.
    "LOCATE_BY": "replay",
    "SEGMENT_BY": "replay",
    "TRIALS": "8",
    "NEG_OPTIONS": "",
    # Each episode in flight takes an instance of the environment.
    "BATCH": "4",
}

SMOLLM2 = {
    "BASE": "smollm2",
    "TEMPLATE": "smollm",
    "SERVE_CONFIG": str(DEMO_SERVING[1]),
    "SFT_OPTIONS": "learning_rate=1.0e-4 num_train_epochs=1 train_sampling_strategy=group_by_length "
    "per_device_train_batch_size=2 gradient_accumulation_steps=2 val_size=0 do_eval=false",
    "SDPO_OPTIONS": "learning_rate=1.0e-5 num_train_epochs=1 val_size=0.1 "
    "per_device_train_batch_size=1 gradient_accumulation_steps=8 per_device_eval_batch_size=1",
    "PREFERRED_SFT_OPTIONS": "learning_rate=5.0e-5 num_train_epochs=1 val_size=0 do_eval=false "
    "per_device_train_batch_size=1 gradient_accumulation_steps=8",
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "ENV": {env: {"RUN": f"{RUNS}/{env}", **QUESTS} for env in environments()},
    "MODEL": {"smollm2": SMOLLM2},
}
"""By setting and value, the defaults of others."""


def preset(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults that what is typed makes of other settings."""
    found: dict[str, str] = {}
    for name, values in PRESETS.items():
        found |= values.get(texts.get(name, ""), {})
    return found


def one_of(name: str, *others: str) -> Callable[[str], str]:
    """Return what reads the value of a setting that has presets, or one of some others."""
    known = (*others, *PRESETS[name])

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected {' or '.join(filter(None, known))}")
        return text

    return read

"""What comes after a training of the demo: commands that fit the stage that ran."""

import shlex
from pathlib import Path

from ..places import EXAMPLES, TRAIN


DEMO = f"{EXAMPLES}/demo"


def what_next(stage: str, is_lora: bool, output: Path) -> list[str]:
    """Return the lines that say what to do with a model of the demo.

    Args:
        stage: that made it.
        is_lora: whether it is an adapter.
        output: its folder.
    """
    if stage == "sft":
        model = [f"adapter_name_or_path={output}", "create_new_adapter=true"] if is_lora else [
            f"model_name_or_path={output}"
        ]  # fmt: skip
        config = f"{DEMO}/{'sdpo_lora' if is_lora else 'sdpo'}.yaml"
        return ["next: SDPO from this model, on the shipped pairs", *_command(config, *model, "output_dir=NEW")]
    if stage == "sdpo":
        return [
            "next: the same with pairs of your own (README.md has their form)",
            *_command(f"{DEMO}/sdpo.yaml", "dataset=PAIRS.json", "output_dir=NEW"),
            "or the baselines on the shipped pairs: eto.yaml, dmpo.yaml",
        ]
    return ["next: SDPO on the same pairs, to compare", *_command(f"{DEMO}/sdpo.yaml")]


def _command(config: str, *items: str) -> list[str]:
    """Return a command that can be copied, one item a line."""
    lines = [f"  {TRAIN} {shlex.quote(config)}", *(f"    {shlex.quote(item)}" for item in items)]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]

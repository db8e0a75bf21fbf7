"""The card of a trained model: what our stages add to the one that the host writes, README.md in the output folder.

Comes in: the options of a training and what it logged. Goes out: the card with its two empty sections about the model
and its data filled. Invariant: every figure is one that the training logged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..screen.results import lines_of
from ..stages import STAGES
from ..whole_files import write_whole


CARD = "README.md"
EMPTY = "More information needed"
MODEL, DATA = "## Model description", "## Training and evaluation data"
"""The sections that the host leaves empty."""
PAPER = "https://arxiv.org/abs/2501.01821"


def extend(output_dir: str, sections: Mapping[str, str]) -> None:
    """Fill sections of the card that the host has written; one that it does not have goes to the end.

    Args:
        output_dir: of the training.
        sections: their texts by their headings.
    """
    path = Path(output_dir) / CARD
    text = path.read_text(encoding="utf-8")
    for heading, content in sections.items():
        empty, full = f"{heading}\n\n{EMPTY}\n", f"{heading}\n\n{content}\n"
        text = text.replace(empty, full, 1) if empty in text else f"{text}\n{full}"
    write_whole(path, text.encode())


def sections_of(
    tuning: Any, base: str, adapters: Sequence[str], data: Sequence[str], counts: Mapping[str, int | None], log: Any
) -> dict[str, str]:
    """Return the sections of a model that one of our stages has trained.

    Args:
        tuning: the fine-tuning arguments.
        base: the model that training began from.
        adapters: those that it began from.
        data: the names of the datasets.
        counts: pairs by what they were for; None where they are not known.
        log: the trainer's history of what it logged.
    """
    stage = STAGES[tuning.pair_stage]
    facts = {"stage": f"`{stage.name}`: {stage.help}", "base": f"`{base}`"}
    if adapters:
        facts["begun from the adapters"] = ", ".join(f"`{name}`" for name in adapters)
    facts |= {
        "scored": "the first differing turn alone" if tuning.segment_scope == "turn" else f"the {stage.scores}",
        "loss": f"`{tuning.pref_loss}`" + _norm(tuning.loss_norm),
        "β": f"{tuning.pref_beta:g}",
        "reference": _reference(tuning, base, adapters),
        "tuning": tuning.finetuning_type,
    }
    if stage.name == "dmpo":
        facts["γ"] = f"{tuning.dmpo_gamma:g}"
    if tuning.turn_weights != "stage":
        facts["weights of turns"] = f"`{tuning.turn_weights}`"
    if tuning.pref_ftx:
        facts["weight of the chosen side's SFT loss"] = f"{tuning.pref_ftx:g}"
    told = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    head = f"Trained on preference pairs of dialogues, with a stage of segment-level DPO ([SDPO]({PAPER}))."
    return {MODEL: f"{head}\n\n| | |\n| --- | --- |\n{told}", DATA: _data(data, counts, tuning.drop_pairs, log)}


def _norm(norm: str) -> str:
    """Return by what sums are divided, without which β says little."""
    return "" if norm == "none" else f", its sums divided by `loss_norm: {norm}`"


def _reference(tuning: Any, base: str, adapters: Sequence[str]) -> str:
    """Return the model that training compared with: without one of its own, what training began from."""
    if not tuning.use_ref_model:
        return "none"
    if tuning.ref_model:
        base, adapters = tuning.ref_model, (tuning.ref_model_adapters or "").split(",")
    return " with ".join(f"`{name}`" for name in (base, *adapters) if name)


def _data(data: Sequence[str], counts: Mapping[str, int | None], flags: str | None, log: Any) -> str:
    """Say what was trained on, and what came out."""
    names = ", ".join(f"`{name}`" for name in data)
    known = ", ".join(f"{count:,} pairs {what}" for what, count in counts.items() if count is not None)
    lines = [f"Pairs of {names}{f': {known}' if known else ''}."]
    if flags:
        lines.append(f"Pairs that are flagged in `{Path(flags).name}` were left out.")
    figures = {key: value for entry in log for key, value in entry.items() if key.startswith("eval_")}
    losses = [entry["train_loss"] for entry in log if "train_loss" in entry]
    if losses:
        lines.append(f"Mean loss in training {losses[-1]:.3f}.")
    lines += [f"{line[0].upper()}{line[1:]}." for line in lines_of(figures)]
    return "\n".join(f"- {line}" for line in lines)

"""The settings of a comparison: those of the loop, and which methods are compared, tuned and evaluated."""

from dataclasses import dataclass
from pathlib import Path

from sotopia_sdpo.loop.methods import METHODS
from sotopia_sdpo.loop.places import DEMO_SERVING
from sotopia_sdpo.loop.settings import Settings, Words, count, file, number, numbers, setting, words, yes
from sotopia_sdpo.places import ROOT


def arms(text: str) -> Words:
    """Read names of methods, each once."""
    names = tuple(dict.fromkeys(words(text)))
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no arm is named {name}; there are {' '.join(METHODS)}")
    return names


def seeds(text: str) -> Words:
    """Read whole numbers with blanks between them, each once."""
    found = tuple(dict.fromkeys(words(text)))
    if not found or not all(map(str.isdecimal, found)):
        raise ValueError("expected whole numbers with blanks between them")
    return found


@dataclass(frozen=True)
class CompareSettings(Settings):
    """The loop's settings, and which methods are compared."""

    serve_config: Path = setting(str(DEMO_SERVING[(ROOT / ".venv-vllm").is_dir()]), "How agents are served.", file)
    arms: Words = setting(
        " ".join(name for name, method in METHODS.items() if not method.is_planted),
        "The methods. sft_again is a control: SFT once more, which should come out like SFT.",
        arms,
    )
    seeds: Words = setting(
        "1 2 3", "Seeds. With each, every method is trained and evaluated, and the SFT agent evaluated.", seeds
    )
    pair_options: Words = setting(
        "$SDPO_OPTIONS",
        "What is changed of SDPO_CONFIG for the methods that train on pairs.",
        words,
        may_be_empty=True,
    )
    # 5 times the learning rate of the others, as in the paper.
    preferred_sft_options: Words = setting(
        "learning_rate=2.5e-4 num_train_epochs=3",
        "What is changed of SFT_CONFIG for preferred_sft.",
        words,
        may_be_empty=True,
    )
    agents: int = setting("1", "SFT agents, each with its own seed and negatives, in RUN and RUN/agent-N.", count)
    at_once: int = setting(
        "1", "Methods that are tuned, and models that are trained and evaluated, at the same time.", count
    )
    held_out: int = setting("0", "Pairs that are held out of every training on pairs; 0: as its options say.", number)
    tune: bool = setting("no", "Whether methods are tuned on development scenarios.", yes)
    dev_splits: Words = setting(
        "dev-round-1",
        "Tuning: splits whose scenarios are for tuning alone; the agent does not learn from them.",
        words,
    )
    rates: tuple[float, ...] = setting(
        "0.5 1 2 4", "Tuning: factors by which the learning rate of a method's options is multiplied.", numbers
    )
    knobs: bool = setting(
        "yes", "Tuning: whether one more option of a method is tried at two other values, at the best rate.", yes
    )
    dev_trials: int = setting("2", "Tuning: how often each combo and role is played; quests once.", number)
    dev_quests: int = setting("100", "Tuning, with ENV: quests of its dev split that are played.", number)
    csv: bool = setting("no", "Whether compare.csv is written.", yes)
    latex: bool = setting("no", "Whether compare.tex is written.", yes)
    figure: bool = setting("no", "Whether compare.png and curves.png are drawn.", yes)

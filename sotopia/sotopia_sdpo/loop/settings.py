"""The loop's settings: names, defaults, and what they mean.

Comes in: the environment and the command line's NAME=VALUE words, which win. Goes out: a typed Settings.
Invariant: a name that is misspelt on the command line, a file that is not there and a number that is none are refused
before anything is done.
"""

import difflib
import glob
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop.places import DEMO_SERVING, EXAMPLES, RUNS
from sotopia_sdpo.loop.presets import PRESETS, SOTOPIA, one_of, preset
from sotopia_sdpo.pairs.options import By
from sotopia_sdpo.places import ROOT
from sotopia_sdpo.play.dialogue import SHIPPED
from sotopia_sdpo.store.urls import without_passwords


HELP_WIDTH = 80
ALIKE = 0.8
"""How much of a variable's name a setting shares where it may be meant."""

SESSIONS_ALONE = ("IMPORT", "SPLITS", "PROMPT_TEMPLATE")
"""Settings that quests of an environment do not have."""

Words = tuple[str, ...]


def setting(default: str, help: str, parse: Callable[[str], Any] = str, *, may_be_empty: bool = False) -> Any:
    """Declare a setting.

    Args:
        default: as a user would type it; `$NAME` is what the setting NAME has.
        help: what it means.
        parse: raises ValueError, with what was expected.
        may_be_empty: an empty value is one, and does not stand for the default.
    """
    return field(metadata={"default": default, "help": help, "parse": parse, "may_be_empty": may_be_empty})


def number(text: str) -> int:
    """Read a whole number."""
    if not text.isdecimal():
        raise ValueError("expected a whole number")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of at least one."""
    if not number(text):
        raise ValueError("expected 1 or more")
    return number(text)


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers above 0 with blanks between them."""
    try:
        found = tuple(map(float, text.split()))
    except ValueError:
        found = ()
    if not found or min(found) <= 0:
        raise ValueError("expected numbers above 0 with blanks between them")
    return found


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError("expected a number from 0 to 1")
    return found


def yes(text: str) -> bool:
    """Read whether something is wanted."""
    if text not in ("", "no", "yes"):
        raise ValueError("expected yes or no")
    return text == "yes"


def by(text: str) -> By:
    """Read who finds turns."""
    if text not in list(By):
        raise ValueError(f"expected {' or '.join(By)}")
    return By(text)


def number_or_none(text: str) -> int | None:
    """Read a whole number, if there is one."""
    return number(text) if text else None


def kinds(text: str) -> Words:
    """Read names with commas or blanks between them."""
    return tuple(text.replace(",", " ").split())


def folder_or_none(text: str) -> Path | None:
    """Read the path of a folder that is there, if one is named."""
    if text and not Path(text).expanduser().is_dir():
        raise ValueError(f"{text} is not a folder")
    return folder(text) if text else None


def words(text: str) -> Words:
    """Read words with blanks between them."""
    return tuple(text.split())


def folder(text: str) -> Path:
    """Read the path of a folder, which need not be there."""
    return Path(text).expanduser().resolve()


def file(text: str) -> Path:
    """Read the path of a file that is there."""
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return path


def file_or_none(text: str) -> Path | None:
    """Read the path of a file, if there is one."""
    return file(text) if text else None


def wording(text: str) -> str:
    """Read the path of a template of prompts, or the name of one of the package's."""
    return text if text in ("", *SHIPPED) else str(file(text))


def named_model(text: str) -> str | Path:
    """Read the path of a model's folder, or its name on the hub."""
    return folder(text) if text and Path(text).expanduser().is_dir() else text


def files(text: str) -> tuple[Path, ...]:
    """Read paths and patterns of files, with blanks between them."""
    return tuple(file(path) for word in text.split() for path in sorted(glob.glob(word)) or [word])


@dataclass(frozen=True)
class Settings:
    """Settings of the loop, all of whose commands and files follow from them."""

    run: Path = setting(
        f"{RUNS}/demo", "Folder of the run: database, step files, answers, models, logs, results.", folder
    )
    env: str = setting(
        SOTOPIA, "What the agent acts in: sotopia, or an environment of rollout.py.", one_of("ENV", SOTOPIA)
    )
    tasks_of: Words = setting("", "With ENV: kinds of quests. (default: all that it has)", kinds)
    max_actions: int | None = setting(
        "", "With ENV: the agent's actions in an episode. (default: the environment's)", number_or_none
    )
    sft_quests: int = setting("200", "With ENV: quests whose gold actions the agent is first trained on.", number)
    neg_quests: int = setting("200", "With ENV: quests that the agent plays.", number)
    eval_quests: int = setting("200", "With ENV: quests on which agents are evaluated.", number)
    import_: tuple[Path, ...] = setting("", "Files for `sotopia db import`. (default: the demo's own world)", files)
    splits: Path | None = setting("", "Scenario ids of the stages. (default: those of the world)", file_or_none)
    experts: Words = setting(
        "simulated/gpt-4-turbo simulated/anna",
        "Models whose sessions the agent is first trained on, as litellm names them; simulated/NAME is scripted.",
        words,
    )
    partner: str = setting("simulated/gpt-4o", "The model on the other side; `self` is the agent.")
    evaluator: str = setting("simulated/gpt-4o", "The model that judges.")
    annotator: str = setting("simulated/gpt-4o", "The model that locates turns and chooses segments.")
    locate_by: By = setting(
        "model",
        "Who locates turns: `model`, the annotator; `replay`, TRIALS continuations of the agent.",
        by,
    )
    segment_by: By = setting("model", "Who chooses where segments end: `model` or `replay`, as for LOCATE_BY.", by)
    simulate: Words = setting("", "More options of the scripted server, such as its faults.", words)
    sft_data: Path | None = setting("", "SFT data in the place of the experts' sessions.", file_or_none)
    prompt_template: str = setting(
        "", "The wording of agents' first turn: a file, or `published`. (default: agent.txt)", wording
    )
    sft_combos: int = setting("5", "Combos of a scenario that the experts play.", number)
    sft_trials: int = setting("3", "How often each combo is played.", number)
    neg_combos: int = setting("5", "Combos of a scenario that the agent plays.", number)
    neg_trials: int = setting("1", "How often the agent plays each combo.", number)
    neg_options: Words = setting(
        "--max-per-role 5",
        "Options of data_filtering_negative.py: which sessions went badly.",
        words,
        may_be_empty=True,
    )
    trials: int = setting("3", "New sessions of every negative.", number)
    eval_task: str = setting("all", "The task on which agents are evaluated.")
    batch: int = setting("10", "Episodes in flight.", number)
    limit: int = setting("1000000", "At most this many episodes of a step.", number)
    may_miss: float = setting(
        "0.5",
        "The share of a step's episodes or answers that may fail; if more do, or the rest is not tried since a server "
        "stopped answering, the loop ends there. Tuning's candidates may fail in all episodes, since that is what is "
        "looked for, but not for want of a verdict or a server. 1: the loop goes on whatever fails.",
        share,
    )
    agent: Path | None = setting("", "The folder of an SFT agent, in the place of training one.", folder_or_none)
    model: str = setting("", "A real model instead of the demo's: smollm2, of 135 M weights.", one_of("MODEL", ""))
    base: str | Path = setting(
        "", "The model to start from. (default: a small Llama, made of the SFT data)", named_model
    )
    template: str = setting("llama3", "The models' chat template.")
    sft_config: Path = setting(f"{EXAMPLES}/demo/sft.yaml", "How SFT is trained.", file)
    sft_options: Words = setting(
        "per_device_train_batch_size=8 num_train_epochs=4 train_sampling_strategy=group_by_length",
        "What is changed of SFT_CONFIG.",
        words,
        may_be_empty=True,
    )
    sdpo_config: Path = setting(f"{EXAMPLES}/demo/sdpo.yaml", "How SDPO is trained.", file)
    sdpo_options: Words = setting(
        "learning_rate=5.0e-5 num_train_epochs=4 val_size=0.05",
        "What is changed of SDPO_CONFIG.",
        words,
        may_be_empty=True,
    )
    serve_config: Path = setting(str(DEMO_SERVING[0]), "How agents are served.", file)

    @classmethod
    def read(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Args:
            arguments: NAME=VALUE words.
            environ: what holds for the others.

        Raises:
            UserError: if a word is no setting of ours, or a value none of its setting.
        """
        # A shell's own ENV is a file that it reads when it starts.
        shell = {name for name, text in environ.items() if name == "ENV" and "/" in text}
        around = {name: text for name, text in environ.items() if name not in shell}
        texts = cls.typed(around) | cls.typed(dict(map(cls._split, arguments)))
        texts = preset(texts) | texts
        found = cls(**{one.name: _parsed(one, texts) for one in fields(cls)})
        for name in SESSIONS_ALONE if found.env != SOTOPIA else ():
            if texts.get(name):
                raise UserError(
                    f"{name}={texts[name]}: only sessions of SOTOPIA have it; leave it out with ENV={found.env}"
                )
        return found

    @classmethod
    def typed(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Pick what is set of our settings."""
        found = {one: given.get(name_of(one)) for one in fields(cls)}
        return {
            name_of(one): text
            for one, text in found.items()
            if text is not None and (text or one.metadata["may_be_empty"])
        }

    @classmethod
    def _split(cls, word: str) -> tuple[str, str]:
        """Split NAME=VALUE."""
        name, mark, value = word.partition("=")
        names = [name_of(one) for one in fields(cls)]
        if mark and name in names:
            return name, value
        near = difflib.get_close_matches(name.upper(), names, 1)
        wanted = f"did you mean {near[0]}={value}?" if mark and near else "--help lists the settings"
        found = f"no setting is named {name}" if mark else "expected NAME=VALUE"
        raise UserError(without_passwords(f"argument {word!r}: {found}; {wanted}"))

    @classmethod
    def misspelt(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Find variables that are nearly settings of ours, each with the setting that may be meant."""
        names = [name_of(one) for one in fields(cls)]
        near = {name: difflib.get_close_matches(name, names, 1, ALIKE) for name in environ if name not in names}
        return {name: found[0] for name, found in near.items() if found}

    @classmethod
    def default(cls, name: str) -> str:
        """Return the default of a setting."""
        return next(str(one.metadata["default"]) for one in fields(cls) if name_of(one) == name)

    @classmethod
    def help(cls) -> str:
        """Return the settings with their meanings and defaults, as --help prints them."""
        names = [name_of(one) for one in fields(cls)]
        together = [
            _wrapped(
                f"{name}={value}",
                "changes defaults: " + ", ".join(_shown(*item) for item in changed.items() if item[0] in names),
            )
            for name, values in PRESETS.items()
            for value, changed in values.items()
        ]
        return "\n".join(line for lines in (*map(_help_lines, fields(cls)), *together) for line in lines)


def name_of(one: "Field[Any]") -> str:
    """Return the variable of a setting; `import` is a word of Python's own, so the field is called import_."""
    return one.name.rstrip("_").upper()


def _parsed(one: "Field[Any]", texts: Mapping[str, str]) -> Any:
    name, default = name_of(one), str(one.metadata["default"])
    if default.startswith("$"):
        default = texts.get(default[1:], Settings.default(default[1:]))
    text = texts.get(name, default)
    try:
        return one.metadata["parse"](text)
    except (ValueError, OSError, RuntimeError) as err:  # the others: a name that is too long, a ~user who is not there
        raise UserError(without_passwords(f"{name}={text}: {err}")) from None


def _help_lines(one: "Field[Any]") -> list[str]:
    default = str(one.metadata["default"]).replace(f"{ROOT}/", "")
    text = one.metadata["help"] + (f" (default: {default})" if default else "")
    return _wrapped(name_of(one), text)


def _shown(name: str, value: str) -> str:
    value = value.replace(f"{ROOT}/", "")
    return f'{name}="{value}"' if " " in value or not value else f"{name}={value}"


def _wrapped(head: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, HELP_WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return [f"  {head}", *(f"      {line}" for line in wrapped)]

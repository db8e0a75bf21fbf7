"""Where things are: beside the sources in a checkout; installed, in the user's data folder and among the packages.

Comes in: where this file lies. Goes out: folders, and how commands are typed.
Invariant: what a user makes never lies among installed packages.
"""

import re
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_data_path


NAME = "sdpo"
"""Of the command, and of the user's data folder."""
STEPS = {
    "from_logs": "from-logs",
    "rollout": "rollout",
    "sft_data": "sft-data",
    "data_filtering_negative": "negatives",
    "locate": "locate",
    "data_filtering_positive": "positives",
    "auto_tail": "auto-tail",
    "mix": "mix",
    "report": "report",
    "results": "results",
}
"""The script of a step in dpo/ -> its name as a command of `sdpo`."""
TRAINING_PACKAGE = "llamafactory_sdpo"
SHIPPED = "shipped"
"""The folder of that package's wheel with its examples/ and data/."""


def _checkout() -> Path | None:
    """Return the folder of the checkout that this file is in, if it is in one."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "dpo" / "demo.sh").is_file() else None


def _training() -> Path:
    """Return the folder with examples/ and data/ of the training side; it is not there where that is not installed."""
    if CHECKOUT:
        return CHECKOUT / "LLaMA-Factory"
    spec = find_spec(TRAINING_PACKAGE)
    package = Path(spec.origin).parent if spec and spec.origin else Path(TRAINING_PACKAGE)
    return package / SHIPPED if (package / SHIPPED).is_dir() else package.parents[1]


CHECKOUT = _checkout()
TRAINING = _training()
ROOT = CHECKOUT or TRAINING
"""Below which our own files lie."""
DATA = CHECKOUT / "dpo" / "data" if CHECKOUT else user_data_path(NAME)
"""The data folder, where nobody names another."""


def training_command(name: str) -> tuple[str, ...]:
    """Return the words of train.sh or inference.sh, with {python} for an interpreter."""
    return ("bash", str(CHECKOUT / f"{name}.sh")) if CHECKOUT else ("{python}", "-m", f"{TRAINING_PACKAGE}.{name}")


def step_command(name: str) -> tuple[str, ...]:
    """Return the words of a script in dpo/, with {python} for an interpreter."""
    if CHECKOUT:
        return "{python}", str(CHECKOUT / "dpo" / f"{name}.py")
    return "{python}", "-m", "sotopia_sdpo.sdpo", STEPS[name]


_SCRIPTS = re.compile(
    rf"(?:bash )?(?:dpo/)?\b(?P<loop>demo|compare)\.sh\b|(?:bash )?\b(?P<other>train|inference)\.sh\b"
    rf"|(?<![\w./-])(?:python )?(?:dpo/)?(?P<step>{'|'.join(STEPS)})\.py\b"
)
_OTHERS = {"train": "train", "inference": "serve"}


def typed(text: str) -> str:
    """Return a text that names scripts of ours as they are typed here: as commands of `sdpo`, but for a checkout."""
    return text if CHECKOUT else _as_commands(text)


def _as_commands(text: str) -> str:
    def command(found: re.Match[str]) -> str:
        return f"{NAME} {found['loop'] or _OTHERS.get(found['other'] or '') or STEPS[found['step']]}"

    return _SCRIPTS.sub(command, text)

"""Where things are: beside the sources in a checkout; installed, in the package and in the user's data folder.

Comes in: where this file lies, and SDPO_HOME. Goes out: folders, and how commands are typed.
Invariant: what a user makes never lies among installed packages.
"""

import os
from pathlib import Path

from platformdirs import user_data_path


HOME_VARIABLE = "SDPO_HOME"
_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = "LLaMA-Factory"

IS_INSTALLED = (_PACKAGE / "shipped").is_dir()
"""Whether this is a wheel's package, which has the examples and data in itself."""

SHIPPED = _PACKAGE / "shipped" if IS_INSTALLED else _PACKAGE.parents[1]
"""The folder with examples/ and data/; in a checkout LLaMA-Factory/."""

TRAIN = "llamafactory-cli train" if IS_INSTALLED else "bash train.sh"
SERVE = "python -m llamafactory_sdpo.inference" if IS_INSTALLED else "bash inference.sh"
EXAMPLES = "examples" if IS_INSTALLED else f"{_CHECKOUT}/examples"
"""How the folder of the examples is typed."""


def step(script: str, command: str) -> str:
    """Return how a step from episodes to pairs is typed: a script in dpo/, or a command of `sdpo`."""
    return f"sdpo {command}" if IS_INSTALLED else f"python dpo/{script}.py"


def home() -> Path | None:
    """Return the folder of the files between the steps, where it is not that of a checkout."""
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser().absolute()
    return user_data_path("sdpo") if IS_INSTALLED else None


ROOT = (home() if IS_INSTALLED else None) or SHIPPED
"""The folder from which paths in configs of ours are meant: LLaMA-Factory/ of a checkout, else the data folder."""


def example(name: str) -> Path | None:
    """Return the config of a name like examples/demo/sdpo.yaml, if it is one of ours."""
    path = SHIPPED / name.removeprefix(f"{_CHECKOUT}/")
    return path if path.suffix == ".yaml" and os.path.isfile(path) else None


def shown(path: Path) -> str:
    """Return how an example is typed."""
    return str(path.relative_to(SHIPPED if IS_INSTALLED else SHIPPED.parent))


def shipped(path: str) -> str:
    """Return a path in a config, seen from ROOT; what is not there but ships with the package, absolute."""
    # Not Path.exists, which raises what a system says of a long name.
    return path if os.path.exists(ROOT / path) or not os.path.exists(SHIPPED / path) else str(SHIPPED / path)

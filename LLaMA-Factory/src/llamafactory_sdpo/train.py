"""What `bash train.sh [CONFIG.yaml] [key=value ...]` runs.

Chooses a config when none is given, resolves paths as the README says (those of the config against LLaMA-Factory/,
those of the command line against the working folder), builds the demo's model if it is missing, trains, and prints the
result on held-out pairs. Training itself is `llamafactory-cli train`.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import hidden
from .config_file import read_config
from .demo.smollm2 import path_of
from .entries import file_of, is_path
from .errors import UserError, given_in, run_at_edge
from .host.values import BOOLEANS
from .places import HOME_VARIABLE, IS_INSTALLED, ROOT, SHIPPED, TRAIN, example, home, shipped, shown
from .screen import quiet
from .screen.curves import FIGURE as CURVES
from .screen.following import what_next
from .screen.results import held_out_lines
from .stages import STAGES


FULL_CONFIG = SHIPPED / "examples" / "train_full" / "sdpo.yaml"
DEMO_CONFIG = SHIPPED / "examples" / "demo" / "sdpo.yaml"
DEMO_MODELS = "saves/demo"

WRITTEN_PATHS = ("output_dir", "logging_dir", "tokenized_path", "cache_dir", "export_dir")
READ_PATHS = (
    *("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "resume_from_checkpoint"),
    "drop_pairs",
    *("dataset_dir", "media_dir", "deepspeed", "fsdp_config"),
)
DATASETS = ("dataset", "eval_dataset")

BYTES_PER_WEIGHT_BYTE = 10
"""GPU memory of full training per byte of bf16 weights: the weights 1, gradients 1, AdamW with float32 copies 6,
reference 1, activations about 1."""

EVALUATION, FIGURE = "eval_results.json", "training_loss.png"
RESULTS = (EVALUATION, FIGURE, CURVES)
"""The files of a run's results that another run in the same folder need not write."""

USAGE = f"""{TRAIN} [CONFIG.yaml] [key=value ...] [--check]

Trains with a config of LLaMA-Factory (examples/), any key of which can be given again as key=value.
--check (or check=true): check types, models, templates and data, print steps and memory, and write nothing.
Without a config: examples/train_full/sdpo.yaml if its model, data and GPU memory are there, else the demo.
All keys: llamafactory-cli train --help"""


class Paths(NamedTuple):
    """The command line with absolute paths."""

    config: Path
    overrides: list[str]


def main() -> int:
    """Train, and print the result."""
    argv = hidden.whole(sys.argv[1:], f"{__package__}.train")
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    return run_at_edge(lambda: run(argv))


def run(argv: list[str]) -> int:
    """Train with the config and overrides of a command line.

    Raises:
        UserError: if they or the data are wrong.
    """
    is_check, argv = asks_for_check(argv)
    paths = resolve(argv, Path.cwd())
    if os.environ.get(HOME_VARIABLE):
        os.environ[HOME_VARIABLE] = str(home())
    ROOT.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    paths = with_shipped_files(paths)
    config = merged_config(paths)
    is_demo = is_of_demo(paths.config, config)
    quiet.prepare()
    # The host logs every file it loads, which would bury the losses.
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    if is_check:
        return check_only(paths, config, is_demo)
    if is_demo:
        prepare_demo(config)
    named = str(config.get("model_name_or_path"))
    if (folder := path_of(named)) != named:
        paths.overrides.append(f"model_name_or_path={folder}")
    # Heavy: takes seconds, so after everything that can fail at once.
    from .launcher import train

    earlier = results_in(output_of(config))
    with given_in(paths.config, paths.overrides):
        code = train([str(paths.config), *paths.overrides])
    if code == 0 and os.environ.get("NODE_RANK", "0") == "0":
        report(config, is_demo, earlier)
    return code


def with_shipped_files(paths: Paths) -> Paths:
    """Return a command line with what a config names of an installed package's files, absolute."""
    config = merged_config(paths)
    named = {key: config[key] for key in READ_PATHS if isinstance(config.get(key), str)}
    found = [f"{key}={shipped(path)}" for key, path in named.items() if shipped(path) != path]
    return paths._replace(overrides=[*paths.overrides, *found])


def asks_for_check(argv: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether a command line has `--check` or `check=true`, and the rest of it.

    Raises:
        UserError: if `check` is neither true nor false.
    """
    rest, is_asked = [], False
    for item in argv:
        key, mark, value = item.partition("=")
        if key not in ("--check", "check") or (key == "check" and not mark):
            rest.append(item)
        elif mark and value.lower() not in BOOLEANS:
            raise UserError(f"command line: `check` is {value!r}, expected true or false")
        else:
            is_asked = not mark or BOOLEANS[value.lower()]
    return is_asked, rest


def check_only(paths: Paths, config: dict[str, Any], is_demo: bool) -> int:
    """Check a config instead of training with it; what has to be written on the way is removed again."""
    with tempfile.TemporaryDirectory(prefix="sdpo-check-") as folder, given_in(paths.config, paths.overrides):
        items = list(paths.overrides)
        named = str(config.get("model_name_or_path"))
        model = str(prepare_demo(config, Path(folder) / "demo")) if is_demo else named
        if (model := path_of(model, Path(folder) / "real")) != named:
            items.append(f"model_name_or_path={model}")
        # Heavy.
        from .check import check

        check([str(paths.config), *items])
    return 0


def is_of_demo(path: Path, config: dict[str, Any]) -> bool:
    """Return whether the demo is trained: by one of its configs, from a model of its own, and not a real one."""
    model = (ROOT / str(config.get("model_name_or_path"))).resolve()
    return path.parent == DEMO_CONFIG.parent and model.is_relative_to((ROOT / DEMO_MODELS).resolve())


def prepare_demo(config: dict[str, Any], folder: Path | None = None) -> Path:
    """Set the demo's environment, which PyTorch and the host read when they are imported, and build its model.

    Args:
        config: of the training.
        folder: where to build it, if not in its own place.

    Returns:
        The model's folder.
    """
    # A model as small as the demo's gains little from a second thread, and waits long for one whose core is busy.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Heavy, and after that variable.
    from .demo.build import ensure

    model = ensure(ROOT, Path(str(config.get("model_name_or_path"))), folder)
    # The demo is the same everywhere: one process on the CPU. To run it on a GPU, name one in this variable.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    return model


def resolve(argv: list[str], here: Path, default: Callable[[], Path] | None = None) -> Paths:
    """Split a command line into config and overrides, with paths made absolute from `here`.

    Args:
        argv: a config or none, then key=value items.
        here: the working folder.
        default: chooses the config when none is given.

    Raises:
        UserError: if the config does not exist, or an argument is neither.
    """
    if argv and "=" not in argv[0]:
        name = argv.pop(0)
        config = here / name
        if IS_INSTALLED and not os.path.isfile(config):
            config = example(name) or config
        if not os.path.isfile(config):
            inside = ROOT / config.relative_to(here) if config.is_relative_to(here) else config
            hint = f"; did you mean {inside}?" if os.path.isfile(inside) else ""
            raise UserError(f"{config} does not exist{hint}")
    else:
        config = (default or announced_default)()
    return Paths(config.resolve(), [_absolute(item, here) for item in argv])


def _absolute(item: str, here: Path) -> str:
    """Return one key=value with its path made absolute; names of hub models and empty values stay."""
    key, mark, value = item.partition("=")
    if not mark:
        raise UserError(f"argument {item!r}: expected key=value, like output_dir=saves/mine")
    if key in DATASETS and value:
        return f"{key}={','.join(_absolute_dataset(name.strip(), here) for name in value.split(','))}"
    if key in WRITTEN_PATHS and value:
        return f"{key}={here / Path(value).expanduser()}"
    if key.split(".")[0] in READ_PATHS and value:
        # Several adapters are given with commas between them.
        parts = [here / Path(part).expanduser() for part in value.split(",")]
        # Not Path.exists, which raises what a system says of a folder of somebody else's, or of a long name.
        if all(map(os.path.exists, parts)):
            return f"{key}={','.join(map(str, parts))}"
    return item


def _absolute_dataset(name: str, here: Path) -> str:
    """Return a dataset's name; one that is a path, absolute."""
    path = here / Path(name).expanduser()
    return str(path) if is_path(name) or ("/" in name and os.path.exists(path)) else name


def announced_default() -> Path:
    """Return the config to use when none is given, and print why."""
    config, reason = default_config()
    print(f"{TRAIN.split()[-1]}: no config given; using {shown(config)}, since {reason}")
    return config


def default_config() -> tuple[Path, str]:
    """Return the config to use when none is given, and why."""
    config = read_config(FULL_CONFIG)
    model = ROOT / config["model_name_or_path"]
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    if not weights:
        return DEMO_CONFIG, f"the model of {FULL_CONFIG.name}, {config['model_name_or_path']}, is not there"
    data = file_of(config["dataset"], str(ROOT / shipped(config["dataset_dir"])))
    if data is None or not data.exists():
        return DEMO_CONFIG, f"the data of {FULL_CONFIG.name}, {data}, are not there"
    import torch

    found = sum(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    needed = weights * BYTES_PER_WEIGHT_BYTE
    sizes = f"{found / 2**30:.0f} GiB of GPU memory, {FULL_CONFIG.name} takes about {needed / 2**30:.0f}"
    return (FULL_CONFIG if found >= needed else DEMO_CONFIG), f"there are {sizes}"


def merged_config(paths: Paths) -> dict[str, Any]:
    """Return the config with its overrides, for what is needed before the host reads it."""
    try:
        return read_config(paths.config, paths.overrides)
    except UserError as err:
        raise UserError(f"{paths.config}: {err}") from None


def output_of(config: dict[str, Any]) -> Path:
    """Return the folder that a training writes."""
    return Path(str(config.get("output_dir") or "trainer_output")).resolve()


def results_in(output: Path) -> dict[str, tuple[int, int]]:
    """Return what tells the results in a folder from those that a later run writes in their place."""
    found = {name: output / name for name in RESULTS if os.path.isfile(output / name)}
    return {name: (path.stat().st_mtime_ns, path.stat().st_ino) for name, path in found.items()}


def report(config: dict[str, Any], is_demo: bool, earlier: dict[str, tuple[int, int]] | None = None) -> None:
    """Print where the result is and, if pairs were held out, how often the better side is preferred.

    Args:
        config: of the training.
        is_demo: whether to print what comes next.
        earlier: `results_in` the output folder before the training, which are not its own.
    """
    output = output_of(config)
    stale = [name for name, mark in results_in(output).items() if (earlier or {}).get(name) == mark]
    written = [name for name in results_in(output) if name not in stale]
    lines = held_out_lines(output / EVALUATION) if EVALUATION in written else []
    if not lines and config.get("stage") in STAGES:
        is_split = config.get("eval_dataset") or float(config.get("val_size") or 0)
        lines = ["held-out pairs were not evaluated (do_eval: false)" if is_split else "no pairs held out"]
        if EVALUATION in written:
            lines = ["held-out pairs have no rewards, since the model was its own reference; name one as ref_model"]
    figure = next((name for name in (CURVES, FIGURE) if name in written), None)
    lines += [f"{'figure' if figure == CURVES else 'loss figure'}: {output / figure}"] if figure else []
    lines += [f"model: {output}" if config.get("do_train", True) else f"results: {output}"]
    lines += [f"of an earlier run, in the same folder: {', '.join(stale)}"] if stale else []
    print("\n".join(lines))
    if is_demo:
        is_lora = config.get("finetuning_type") == "lora"
        print("\n".join(what_next(str(config.get("stage")), is_lora, output)))


if __name__ == "__main__":
    sys.exit(main())

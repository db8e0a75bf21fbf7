"""What `bash train.sh [CONFIG.yaml] [key=value ...]` runs.

Chooses a config when none is given, resolves paths as the README says (those of the config against LLaMA-Factory/,
those of the command line against the working folder), builds the demo's model if it is missing, trains, and prints the
result on held-out pairs. Training itself is `llamafactory-cli train`.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .config_file import read_config
from .entries import HOME_VARIABLE, file_of
from .errors import UserError, place_of, run_at_edge
from .stages import STAGES


ROOT = Path(__file__).resolve().parents[2]
"""The folder LLaMA-Factory/ of the checkout, against which paths in its configs are resolved."""

FULL_CONFIG = ROOT / "examples" / "train_full" / "sdpo.yaml"
DEMO_CONFIG = ROOT / "examples" / "demo" / "sdpo.yaml"

WRITTEN_PATHS = ("output_dir", "logging_dir", "tokenized_path", "cache_dir", "export_dir")
READ_PATHS = (
    *("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "resume_from_checkpoint"),
    *("dataset_dir", "media_dir", "deepspeed", "fsdp_config"),
)

BYTES_PER_WEIGHT_BYTE = 10
"""GPU memory of full training per byte of bf16 weights: the weights 1, gradients 1, AdamW with float32 copies 6,
reference 1, activations about 1."""

EVALUATION, FIGURE = "eval_results.json", "training_loss.png"
RESULTS = (EVALUATION, FIGURE)
"""The files of a run's results that another run in the same folder need not write."""

ACCURACY = "rewards/accuracies"

USAGE = """bash train.sh [CONFIG.yaml] [key=value ...]

Trains with a config of LLaMA-Factory (examples/), any key of which can be given again as key=value.
Without a config: examples/train_full/sdpo.yaml if its model, data and GPU memory are there, else the demo.
All keys: llamafactory-cli train --help"""


class Paths(NamedTuple):
    """The command line with absolute paths."""

    config: Path
    overrides: list[str]


def main() -> int:
    """Train, and print the result."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return 0
    return run_at_edge(lambda: run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Train with the config and overrides of a command line.

    Raises:
        UserError: if they or the data are wrong.
    """
    paths = resolve(argv, Path.cwd())
    if home := os.environ.get(HOME_VARIABLE):
        os.environ[HOME_VARIABLE] = str(Path(home).expanduser().absolute())
    os.chdir(ROOT)
    config = merged_config(paths)
    is_demo = paths.config.parent == DEMO_CONFIG.parent
    if is_demo:
        prepare_demo(config)
    # Heavy: takes seconds, so after everything that can fail at once.
    from .launcher import train

    earlier = results_in(output_of(config))
    try:
        code = train([str(paths.config), *paths.overrides])
    except UserError as err:
        raise UserError(f"{place_of(err, paths.config, paths.overrides)}: {err}") from None
    if code == 0 and os.environ.get("NODE_RANK", "0") == "0":
        report(config, is_demo, earlier)
    return code


def prepare_demo(config: dict[str, Any]) -> None:
    """Set the demo's environment, which PyTorch and the host read when they are imported, and build its model."""
    # A model as small as the demo's gains little from a second thread, and waits long for one whose core is busy.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Heavy, and after that variable.
    from .demo.build import ensure

    ensure(ROOT, Path(str(config.get("model_name_or_path"))))
    # The demo is the same everywhere: one process on the CPU. To run it on a GPU, name one in this variable.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    # The host logs every file it loads, which would bury the demo's losses.
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")


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
        config = here / argv.pop(0)
        if not config.is_file():
            inside = ROOT / config.relative_to(here) if config.is_relative_to(here) else config
            hint = f"; did you mean {inside}?" if inside.is_file() else ""
            raise UserError(f"{config} does not exist{hint}")
    else:
        config = (default or announced_default)()
    return Paths(config.resolve(), [_absolute(item, here) for item in argv])


def _absolute(item: str, here: Path) -> str:
    """Return one key=value with its path made absolute; names of hub models and empty values stay."""
    key, mark, value = item.partition("=")
    if not mark:
        raise UserError(f"argument {item!r}: expected key=value, like output_dir=saves/mine")
    if key in WRITTEN_PATHS and value:
        return f"{key}={here / Path(value).expanduser()}"
    if key.split(".")[0] in READ_PATHS and value:
        # Several adapters are given with commas between them.
        parts = [here / Path(part).expanduser() for part in value.split(",")]
        if all(part.exists() for part in parts):
            return f"{key}={','.join(map(str, parts))}"
    return item


def announced_default() -> Path:
    """Return the config to use when none is given, and print why."""
    config, reason = default_config()
    print(f"train.sh: no config given; using {config.relative_to(ROOT.parent)}, since {reason}")
    return config


def default_config() -> tuple[Path, str]:
    """Return the config to use when none is given, and why."""
    config = read_config(FULL_CONFIG)
    model = ROOT / config["model_name_or_path"]
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    if not weights:
        return DEMO_CONFIG, f"the model of {FULL_CONFIG.name}, {config['model_name_or_path']}, is not there"
    data = file_of(config["dataset"], str(ROOT / config["dataset_dir"]))
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


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of successes (Wilson 1927, without continuity correction)."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At a share of 0 or 1 rounding would leave a bound a hair outside, which prints as -0.000.
    return max(0.0, centre - half), min(1.0, centre + half)


def output_of(config: dict[str, Any]) -> Path:
    """Return the folder that a training writes."""
    return Path(str(config.get("output_dir") or "trainer_output")).resolve()


def results_in(output: Path) -> dict[str, tuple[int, int]]:
    """Return what tells the results in a folder from those that a later run writes in their place."""
    found = {name: output / name for name in RESULTS if (output / name).is_file()}
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
    lines += [f"loss figure: {output / FIGURE}"] if FIGURE in written else []
    lines += [f"model: {output}" if config.get("do_train", True) else f"results: {output}"]
    lines += [f"of an earlier run, in the same folder: {', '.join(stale)}"] if stale else []
    print("\n".join(lines))
    if is_demo:
        print(
            "next: bash train.sh LLaMA-Factory/examples/demo/eto.yaml (or dmpo, sft, sdpo_lora), or put your own "
            "pairs into a copy of the config; README.md has the format and the settings for Llama-3.1-8B"
        )


def held_out_lines(results: Path) -> list[str]:
    """Return a line for each set of held-out pairs in an evaluation's results; several sets have names."""
    metrics = json.loads(results.read_text(encoding="utf-8"))
    lines = []
    for prefix in [key.removesuffix(ACCURACY) for key in metrics if key.endswith(ACCURACY)]:
        share, count = metrics[f"{prefix}{ACCURACY}"], metrics.get(f"{prefix}pairs")
        name = prefix.removeprefix("eval_").rstrip("_")
        interval = ""
        if count:
            low, high = wilson_interval(share, count)
            interval = f" (95 % interval {low:.3f} to {high:.3f}, {count} pairs)"
        lines.append(
            f"held-out reward accuracy{f' on {name}' if name else ''} {share:.3f}{interval}, "
            f"margin {metrics[f'{prefix}rewards/margins']:.3f}, loss {metrics[f'{prefix}loss']:.3f}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())

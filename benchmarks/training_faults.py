"""Train while trainings are killed and disks fill up, go on from what is left, and compare the weights bit by bit.

Every trial is the demo's training of a few steps, with a checkpoint every two: once without a stop, then killed
outright (kill -9) at drawn moments, or on a disk that is full at a drawn place, and begun again with the same config
until it has ended. Lost are trainings that did not end, wrong those whose weights or losses differ in a single bit.

    python benchmarks/training_faults.py                       # about ten minutes on two quiet cores
    python benchmarks/training_faults.py --trials 1 --kills 3 --only killed-lora

Exit codes: 0 nothing was lost or wrong; 1 something was; 2 a wrong option.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml


ROOT = Path(__file__).resolve().parents[1]
TRAINING = ROOT / "LLaMA-Factory"
sys.path.insert(0, str(TRAINING / "tests"))
import killing  # noqa: E402 (the tests' own helpers)
import small  # noqa: E402

from llamafactory_sdpo.demo.build import ensure  # noqa: E402


STEPS, SAVED_EVERY = 10, 2
WAYS: dict[str, dict[str, object]] = {
    "full": {},
    "lora": {"finetuning_type": "lora", "lora_target": "all", "lora_dropout": 0.1},
    "eto": {"stage": "eto"},
}


class Row(NamedTuple):
    """What came of one fault."""

    fault: str
    tried: int
    lost: int
    wrong: int
    seconds: float


class Trial(NamedTuple):
    """Trainings of one kind in one folder."""

    folder: Path
    way: str
    draw: random.Random

    def config(self, name: str) -> dict[str, object]:
        """Return the demo's config, in this folder."""
        demo = yaml.safe_load((TRAINING / "examples" / "demo" / "sdpo.yaml").read_text("utf-8"))
        where = {
            "model_name_or_path": str(TRAINING / demo["model_name_or_path"]),
            "dataset_dir": str(TRAINING / "data"),
            "cache_dir": str(self.folder / "cache"),
            "output_dir": str(self.folder / name),
        }
        steps = {"max_steps": STEPS, "save_steps": SAVED_EVERY, "plot_loss": False, "preprocessing_num_workers": 1}
        return demo | where | killing.STEPS | steps | WAYS[self.way]

    def is_same(self, name: str) -> bool:
        """Return whether a training has come to what the uninterrupted one did."""
        one, other = self.folder / name, self.folder / "whole"
        return killing.same_weights(one, other) and small.losses(one) == small.losses(other)


def killed(trial: Trial, number: int, kills: int) -> tuple[int, int, int]:
    """Kill a training so often; return how often it was tried, and whether it was lost or came out wrong."""
    name = f"killed-{number}"
    try:
        tried = killing.killed_until_done(trial.config(name), trial.draw, kills)
    except (AssertionError, TimeoutError) as err:
        print(f"{trial.way}: {err}", flush=True)
        return kills, 1, 0
    return tried, 0, int(not trial.is_same(name))


def full_disk(trial: Trial, number: int, kills: int) -> tuple[int, int, int]:
    """Train on a disk that is full at a drawn place, and go on on a larger one."""
    name = f"disk-{number}"
    folder = trial.folder / name
    saved = [path for path in (trial.folder / "whole" / f"checkpoint-{SAVED_EVERY}").iterdir() if path.is_file()]
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in saved)
    with killing.small_disk(folder, int(size * trial.draw.uniform(0.3, STEPS / SAVED_EVERY))):
        code, said = killing.train(trial.config(name))
        is_told = code == 1 and "error: the disk is full" in said
        killing.make_larger(folder, size * STEPS)
        code, said = killing.train(trial.config(name))
        if code != 0:
            print(f"{trial.way}: {said[-2000:]}", flush=True)
            return 1, 1, 0
        return 1, 0, int(not is_told or not trial.is_same(name))


FAULTS: dict[str, tuple[str, Callable[[Trial, int, int], tuple[int, int, int]], str]] = {
    "killed-full": ("full", killed, "killed, all weights"),
    "killed-lora": ("lora", killed, "killed, LoRA with dropout"),
    "killed-eto": ("eto", killed, "killed, ETO"),
    "full-disk": ("full", full_disk, "disk full, all weights"),
}


def try_out(name: str, trials: int, kills: int, seed: int) -> Row:
    """Try a fault in a folder of its own."""
    way, fault, called = FAULTS[name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), way, random.Random(f"{seed} {name}"))
        code, said = killing.train(trial.config("whole"))
        if code != 0:
            raise SystemExit(f"error: the uninterrupted training failed: {said[-2000:]}")
        try:
            found = [fault(trial, number, kills) for number in range(trials)]
        except PermissionError as err:
            print(f"{called}: left out, since {err}", flush=True)
            found = []
    tried, lost, wrong = (sum(counts) for counts in zip(*found, strict=True)) if found else (0, 0, 0)
    return Row(called, tried, lost, wrong, time.monotonic() - began)


def table(rows: list[Row]) -> str:
    """Write the counts as a table."""
    lines = [f"{'fault':28}{'tried':>7}{'lost':>7}{'wrong':>7}{'seconds':>9}"]
    return "\n".join(lines + [f"{r.fault:28}{r.tried:7d}{r.lost:7d}{r.wrong:7d}{r.seconds:9.0f}" for r in rows])


def main() -> int:
    """Try the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4, help="trainings of each kind (default: 4)")
    parser.add_argument("--kills", type=int, default=5, help="of each training (default: 5)")
    parser.add_argument("--only", choices=FAULTS, action="append", help="try this fault; may be repeated")
    parser.add_argument("--seed", type=int, help="of the moments (default: another one each time)")
    options = parser.parse_args()
    if options.trials < 1 or options.kills < 1:
        parser.error("expected --trials and --kills of 1 and more")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    ensure(TRAINING, Path("saves/demo/base"))
    rows = []
    for name in options.only or FAULTS:
        rows.append(try_out(name, options.trials, options.kills, seed))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}")
    return 1 if any(row.lost or row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""How the cost of preparing pairs for training grows: reading, checking, encoding, as `train.sh` does it once.

Each number of pairs is prepared in a process of its own, from a file of its own, into a cache of its own.

    python benchmarks/training_data.py 1000 10000 100000
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


CHILD = "--child"
TURNS, WORDS = 8, 25
"""Of a dialogue; the last three turns of a pair's sides differ."""


def growth_of_preparation(counts: list[int]) -> dict[int, dict[str, float]]:
    """Prepare each number of pairs; seconds and the most memory of any of the processes that took part."""
    took = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "HF_DATASETS_CACHE": f"{folder}/cache", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
            command = [sys.executable, __file__, CHILD, folder, str(count)]
            told = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        took[count] = json.loads(told.splitlines()[-1])
    return took


def write_pairs(path: Path, count: int) -> None:
    """Write pairs of random words, a record a line."""
    draw = random.Random(0)
    words = [bytes(draw.choices(range(97, 123), k=draw.randint(2, 9))).decode() for _ in range(2000)]
    roles = ("human", "gpt")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            turns = [" ".join(draw.choices(words, k=WORDS)) for _ in range(TURNS + 3)]
            for side in (turns[:TURNS], [*turns[: TURNS - 3], *turns[TURNS:]]):
                messages: list[dict[str, Any]] = [
                    {"from": roles[number % 2], "value": text} for number, text in enumerate(side)
                ]
                print(json.dumps({"conversations": messages}), file=file)


def child(folder: Path, count: int) -> None:
    """Prepare pairs once and print what it took."""
    import resource

    from llamafactory_sdpo.demo.model import build_model
    from llamafactory_sdpo.host.data import prepare_pairs
    from llamafactory_sdpo.host.install import install

    install()
    write_pairs(folder / "pairs.json", count)
    entry = {"file_name": "pairs.json", "formatting": "sharegpt", "columns": {"messages": "conversations"}}
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": entry}), encoding="utf-8")
    with (folder / "pairs.json").open(encoding="utf-8") as file:
        build_model(folder / "model", [next(file) for _ in range(20)])
    config = {
        "model_name_or_path": str(folder / "model"), "template": "llama3", "stage": "sdpo", "do_train": True,
        "dataset_dir": str(folder), "dataset": "pairs", "cutoff_len": 4096, "output_dir": str(folder / "out"),
        "preprocessing_num_workers": os.cpu_count(),
    }  # fmt: skip
    started = time.perf_counter()
    prepare_pairs(config)
    seconds = time.perf_counter() - started
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak_mb = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def main() -> None:
    """Print a line a number of pairs."""
    if sys.argv[1] == CHILD:
        child(Path(sys.argv[2]), int(sys.argv[3]))
        return
    for count, took in growth_of_preparation([int(count) for count in sys.argv[1:]]).items():
        print(f"{count} pairs: {took['seconds']:.1f} s, {took['peak_mb']:.0f} MB at most")


if __name__ == "__main__":
    main()

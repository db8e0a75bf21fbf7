"""The demo as it is shipped learns what it should, and nothing from pairs whose sides are shuffled.

Both trainings run the shipped config in this process: what differs is which side of a pair is called the better one.
"""

import json
import random
import shutil

import pytest
import torch
import yaml
from conftest import ROOT

from llamafactory_sdpo.demo.build import ensure
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.screen.results import wilson_interval
from llamafactory_sdpo.train import DEMO_CONFIG


install()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The demo's model, its pairs, and the same pairs with the sides of every second one (by chance) swapped."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "data").mkdir()
    pairs = json.loads((ROOT / "data" / "demo_pairs.json").read_text(encoding="utf-8"))
    draw = random.Random(5)
    shuffled = [
        record
        for negative, positive in zip(pairs[::2], pairs[1::2], strict=True)
        for record in ([positive, negative] if draw.random() < 0.5 else [negative, positive])
    ]
    for name, records in (("demo_pairs", pairs), ("shuffled", shuffled)):
        (folder / "data" / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    entry = {"formatting": "sharegpt", "columns": {"messages": "conversations"}}
    info = {name: {"file_name": f"{name}.json", **entry} for name in ("demo_pairs", "shuffled")}
    (folder / "data" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    shutil.copy(ROOT / "data" / "demo_sft.json", folder / "data")
    ensure(folder, folder / "saves" / "demo" / "base")
    return folder


def train(home, dataset: str) -> dict[str, float]:
    """Train with the shipped config; return the results on the held-out pairs."""
    config = yaml.safe_load(DEMO_CONFIG.read_text(encoding="utf-8"))
    output = home / dataset
    config |= {
        "model_name_or_path": str(home / config["model_name_or_path"]),
        "dataset_dir": str(home / "data"),
        "dataset": dataset,
        "output_dir": str(output),
        "plot_loss": False,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        host_tuner.run_exp(config)
    finally:
        torch.set_num_threads(threads)
    return json.loads((output / "eval_results.json").read_text(encoding="utf-8"))


def interval(results: dict[str, float]) -> tuple[float, float]:
    return wilson_interval(results["eval_rewards/accuracies"], results["eval_pairs"])


def test_the_demo_learns(home):
    results = train(home, "demo_pairs")
    assert results["eval_pairs"] == 60
    assert interval(results)[0] > 0.5, results


def test_shuffled_sides_stay_at_chance(home):
    low, high = interval(train(home, "shuffled"))
    assert low < 0.5 < high

"""Fixtures of the training tests. All state (caches, outputs) goes to temporary folders; nothing needs a network.

GPUs are hidden, unless SDPO_TEST_GPU names those that may be used. Not covered: NCCL, FSDP, checkpoints of 7B and
more, the hubs themselves.
"""

import os
import sys
import tempfile
from pathlib import Path


_STATE = tempfile.mkdtemp(prefix="sdpo-tests-")
# Before anything imports datasets or the host, which read these once.
os.environ.update(
    HF_DATASETS_CACHE=f"{_STATE}/datasets",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    LLAMAFACTORY_VERBOSITY="WARN",
    CUDA_VISIBLE_DEVICES=os.environ.get("SDPO_TEST_GPU", ""),
    OMP_NUM_THREADS="1",
)
sys.path.insert(0, str(Path(__file__).parent))

import json  # noqa: E402
import shutil  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import pytest  # noqa: E402


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _state() -> Iterator[None]:
    yield
    shutil.rmtree(_STATE, ignore_errors=True)


@pytest.fixture(autouse=True)
def _without_deepspeed() -> Iterator[None]:
    """Transformers remembers the last config of DeepSpeed for the whole process, also one that was refused."""
    yield
    if found := sys.modules.get("transformers.integrations.deepspeed"):
        found.unset_hf_deepspeed_config()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write records to a file of a data folder that knows them as the dataset `pairs`."""

    def write_records(records: object, name: str = "pairs.json", **entry: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
        info = {"file_name": name, "formatting": "sharegpt", "columns": {"messages": "conversations"}} | entry
        (tmp_path / "dataset_info.json").write_text(json.dumps({"pairs": info}), encoding="utf-8")
        return path

    return write_records

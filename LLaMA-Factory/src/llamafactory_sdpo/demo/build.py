"""Build what a demo config needs and does not find: the demo's dialogues, and its small model."""

from pathlib import Path

from .dialogues import (
    DEFAULT_PAIRS,
    DEFAULT_SEED,
    DEFAULT_SFT,
    PAIRS_FILE,
    SFT_FILE,
    make_pairs,
    make_sft,
    write_records,
)
from .model import build_model, read_texts


DEMO_MODEL = Path("saves/demo/base")
"""The model that the demo configs start from, below LLaMA-Factory/."""


def ensure(root: Path, model: Path) -> None:
    """Build the demo's data and model if they are missing.

    Args:
        root: the folder LLaMA-Factory/.
        model: the config's model; any other than the demo's is the user's own and left alone.
    """
    data = {
        root / "data" / PAIRS_FILE: lambda: make_pairs(DEFAULT_PAIRS, DEFAULT_SEED),
        root / "data" / SFT_FILE: lambda: make_sft(DEFAULT_SFT, DEFAULT_SEED),
    }
    for path, make in data.items():
        if not path.exists():
            print(f"demo: writing {path}")
            write_records(path, make())
    folder = root / DEMO_MODEL
    if (root / model).resolve() == folder.resolve() and not (folder / "config.json").is_file():
        print(f"demo: building a small Llama and its tokenizer in {folder}")
        build_model(folder, read_texts(data))

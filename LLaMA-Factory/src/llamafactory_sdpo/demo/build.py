"""Build the small model that the demo configs start from, if it is missing."""

import os
from pathlib import Path

from ..errors import UserError
from ..places import IS_INSTALLED, SHIPPED
from ..whole_files import place_folder
from .model import build_model, read_texts


DEMO_MODEL = Path("saves/demo/base")
"""The model that the demo configs start from, below LLaMA-Factory/."""

WHOLE = "config.json"
"""The file by which a model is there."""

SHIPPED_DATA = ("demo_pairs.json", "demo_sft.json")
"""The demo's dialogues, below LLaMA-Factory/data/."""


def ensure(root: Path, model: Path, folder: Path | None = None) -> Path:
    """Build the demo's model if it is missing; return the folder of the config's model.

    Args:
        root: the folder LLaMA-Factory/; of an installed package, the data folder.
        model: the config's model; any other than the demo's is the user's own and left alone.
        folder: where to build it, if not in its own place.

    Raises:
        UserError: if the demo's dialogues are not there.
    """
    data = [(SHIPPED if IS_INSTALLED else root) / "data" / name for name in SHIPPED_DATA]
    for path in data:
        if not path.exists():
            raise UserError(
                f"{path} is shipped, but does not exist; get it back: git -C {root} checkout -- data/{path.name}, or: "
                f"python {root.parent / 'tools' / 'demo_dialogues'} --out {path.parent}"
            )
    own = root / DEMO_MODEL
    if (root / model).resolve() != own.resolve() or (own / WHOLE).is_file():
        return model
    folder = folder or own
    print(f"demo: building a small Llama and its tokenizer in {folder}")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    build_model(draft, read_texts(data))
    place_folder(draft, folder, WHOLE)
    return folder

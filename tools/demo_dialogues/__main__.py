"""Write the demo's data files, demo_pairs.json and demo_sft.json; the defaults give the shipped ones.

python tools/demo_dialogues --pairs 240 --sft 160 --seed 11 --out LLaMA-Factory/data
"""

import argparse
import json
import os
import sys
from pathlib import Path


if __package__ in (None, ""):
    # Started by the folder's name, which Python takes for a place of modules instead of a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from demo_dialogues.dialogues import Record, make_pairs, make_sft  # noqa: E402


PAIRS_FILE = "demo_pairs.json"
SFT_FILE = "demo_sft.json"
DEFAULT_PAIRS = 240
DEFAULT_SFT = 160
DEFAULT_SEED = 11


def write_records(path: Path, records: list[Record]) -> None:
    """Write a JSON list with one record a line, atomically."""
    body = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    part = path.with_name(f"{path.name}.tmp{os.getpid()}")
    part.write_text(f"[\n{body}\n]\n", encoding="utf-8")
    os.replace(part, path)


def main() -> None:
    """Write both files into the folder --out."""
    parser = argparse.ArgumentParser(
        prog="demo_dialogues", description="Write the demo pairs and the demo dialogues for fine-tuning."
    )
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help="number of preference pairs")
    parser.add_argument("--sft", type=int, default=DEFAULT_SFT, help="number of whole dialogues")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides every draw")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives both files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_records(args.out / PAIRS_FILE, make_pairs(args.pairs, args.seed))
    write_records(args.out / SFT_FILE, make_sft(args.sft, args.seed))
    print(f"wrote {args.pairs} pairs -> {PAIRS_FILE}, {args.sft} dialogues -> {SFT_FILE} (seed {args.seed})")


if __name__ == "__main__":
    main()

"""Print which dialogues with tools each text template of LLaMA-Factory renders: itself, from its slots, or not.

    python tools/tool_templates.py [--summary]

The tokenizer is made on the spot, so neither a model nor a network is needed.
"""

import argparse
import os
from collections import Counter


os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")

from llamafactory_sdpo.data.rendering import TemplateParts, blocks_of, check_calls
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.templates import text_templates
from llamafactory_sdpo.serving.tool_dialogues import DIALOGUES, TOOLS


HOST, OURS, REFUSED = "host", "slots", "-"


def rendering(parts: TemplateParts, kind: str) -> str:
    """Return how a template renders a dialogue."""
    messages, has_tools = DIALOGUES[kind]
    try:
        check_calls(parts, messages, TOOLS if has_tools else "")
    except UserError:
        return REFUSED
    is_plain = all(len(block.partner) == 1 for block in blocks_of(messages))
    return HOST if is_plain or (kind == "results in a row" and "<tool_response>" in parts.observation) else OURS


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print which dialogues with tools each text template renders.")
    parser.add_argument("--summary", action="store_true", help="numbers of templates alone")
    summary = parser.parse_args().summary
    found = {parts.name: [rendering(parts, kind) for kind in DIALOGUES] for parts in text_templates()}
    if summary:
        print("| | by the host | from its slots | refused |\n| --- | --- | --- | --- |")
        for number, kind in enumerate(DIALOGUES):
            counts = Counter(cells[number] for cells in found.values())
            print(f"| {kind} | {counts[HOST]} | {counts[OURS]} | {counts[REFUSED]} |")
        return
    print("| template |", " | ".join(DIALOGUES), "|\n| --- |", " --- |" * len(DIALOGUES))
    for name, cells in found.items():
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

"""Check an entry of dataset_info.json, and read from it how its file spells a dialogue."""

import json
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from ..errors import UserError, one_line
from .reading import Format


SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")
"""Those without which no dialogue can be read; an entry with tags that lacks one of them has none in its place."""

ENTRY_KEYS = {*SOURCES, "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags"}
COLUMN_KEYS = {
    *("messages", "system", "tools", "chosen", "rejected", "images", "videos", "audios", "kto_tag"),
    *("prompt", "query", "response", "history"),
}
TAG_KEYS = {*TAGS, "observation_tag", "function_tag", "system_tag"}
"""What the host reads of an entry of dataset_info.json; it ignores any other key silently."""


def format_of(attr: Any) -> Format:
    """Read columns and tags from the host's description of a dataset.

    Raises:
        UserError: if the entry cannot describe pairs.
    """
    name = f"dataset_info.json entry of {attr.dataset_name}"
    if attr.formatting != "sharegpt":
        raise UserError(f"{name}: formatting is '{attr.formatting}', expected 'sharegpt' for pairs of dialogues")
    media = [column for column in ("images", "videos", "audios") if getattr(attr, column)]
    if media:
        raise UserError(f"{name}: has a column of {media[0]}; pairs are text only, leave it out")
    if attr.messages is None:
        raise UserError(f'{name}: columns lack "messages"; add "messages": "conversations"')
    if attr.ranking and not (attr.chosen and attr.rejected):
        raise UserError(f'{name}: ranking is true, so columns need "chosen" and "rejected" as well')
    if not attr.ranking and (attr.chosen or attr.rejected):
        raise UserError(f'{name}: columns name "chosen" or "rejected"; add "ranking": true, or leave them out')
    if attr.kto_tag:
        raise UserError(
            f"{name}: has a column of kto_tag, good and bad answers one by one; these stages need pairs: leave it out "
            "if the records are pairs, or use stage kto"
        )
    lacking = [tag for tag in TAGS if getattr(attr, tag) is None]
    if lacking:
        raise UserError(f"{name}: tags lack {', '.join(lacking)}; name all of {', '.join(TAGS)}")
    spelled = {field: getattr(attr, field) for field in Format.__dataclass_fields__}
    return Format(**spelled)


def check_entry(dataset_dir: Any, name: str) -> None:
    """Refuse an entry of dataset_info.json with a key that nothing reads, such as a misspelt one.

    Args:
        dataset_dir: the host's option; anything but a local folder is left to the host.
        name: of the entry.
    """
    info = Path(dataset_dir) / "dataset_info.json" if isinstance(dataset_dir, str) else None
    if info is None or not info.is_file():
        return
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except ValueError as err:
        raise UserError(f"{info} is not JSON ({one_line(err)})") from None
    if not isinstance(entries, dict) or name not in entries:
        return
    entry, where = entries[name], f"{info} entry {name}"
    _check_keys(where, entry, ENTRY_KEYS)
    _check_keys(f"{where}: columns", entry.get("columns", {}), COLUMN_KEYS)
    _check_keys(f"{where}: tags", entry.get("tags", {}), TAG_KEYS)
    if not entry.keys() & set(SOURCES):
        raise UserError(f"{where}: names no data; add file_name")
    if not isinstance(entry.get("ranking", False), bool):
        raise UserError(f"{where}: ranking is {shown(entry['ranking'])}, expected true or false")


def _check_keys(where: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where}: is {shown(found)}, expected an object")
    unknown = set(found) - known
    if unknown:
        raise UserError(f"{where}: unknown key {min(unknown)!r}, expected {', '.join(sorted(known))}")

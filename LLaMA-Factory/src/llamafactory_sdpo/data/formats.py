"""How a file spells a dialogue; read from an entry of dataset_info.json, which is checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from ..entries import INFO, read_entries
from ..errors import UserError


SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
TEXTS = (*SOURCES, "formatting", "subset", "split", "folder")
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")
"""Those without which no dialogue can be read; an entry with tags that lacks one of them has none in its place."""

ENTRY_KEYS = {*SOURCES, "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags"}
COLUMN_KEYS = {
    *("messages", "system", "tools", "chosen", "rejected", "images", "videos", "audios", "kto_tag"),
    *("prompt", "query", "response", "history"),
}
TAG_KEYS = {*TAGS, "observation_tag", "function_tag", "system_tag"}
"""What the host reads of an entry of dataset_info.json; it ignores any other key silently."""

OPENAI = {
    **{"role_tag": "role", "content_tag": "content", "system_tag": "system", "user_tag": "user"},
    **{"assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "tool_call"},
}
"""The tags of OpenAI's messages; `tool_call` is ms-swift's, for a call whose JSON is the content."""
OPENAI_ALIASES = {"developer": "system", "function": "observation", "tool_response": "observation"}
"""Roles that have another name there: the newer one of system, the older one of tool, and ms-swift's of tool."""


@dataclass(frozen=True)
class Format:
    """How a file spells a dialogue: the columns and tags of one entry of dataset_info.json.

    Attributes:
        ranking: both sides are in one record; else a pair is two records, the negative one first.
        messages: the dialogue, or under `ranking` what the sides share; None if each side is a whole dialogue. A dot
            leads into an object: `input.messages`.
        query: a text that follows the one in `messages`, as in the host's Alpaca form.
        earlier: the turns before that text, as [[user's, agent's], …].
        openai: turns are OpenAI's: content may be parts or nothing, calls are `tool_calls`.
        lenient: a text in the place of turns is one turn, the partner's in `messages`, else the agent's; and
            `messages` may repeat the chosen dialogue, which then is no history.
    """

    ranking: bool = False
    messages: str | None = "conversations"
    chosen: str | None = None
    rejected: str | None = None
    system: str | None = None
    tools: str | None = None
    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    observation_tag: str | None = "observation"
    function_tag: str | None = "function_call"
    system_tag: str | None = "system"
    query: str | None = None
    earlier: str | None = None
    openai: bool = False
    lenient: bool = False

    @cached_property
    def dialogues(self) -> set[str]:
        """The fields of a record that hold lists or objects."""
        columns = {self.messages, self.chosen, self.rejected, self.tools, self.earlier, "segment"}
        return {part for column in columns if column for part in (column, column.partition(".")[0])}

    @cached_property
    def roles(self) -> dict[str, str]:
        """The role of each tag of this file."""
        roles = {
            self.system_tag: "system",
            self.user_tag: "user",
            self.observation_tag: "observation",
            self.assistant_tag: "assistant",
            self.function_tag: "function",
        }
        return {
            **(OPENAI_ALIASES if self.openai else {}),
            **{tag: role for tag, role in roles.items() if tag is not None},
        }


READ_OF_ENTRY = [
    field for field in Format.__dataclass_fields__ if field not in ("query", "earlier", "openai", "lenient")
]


def names_columns(attr: Any) -> bool:
    """Return whether the host's description of a dataset is of an entry that says how its file is spelled."""
    said = (attr.messages, attr.prompt, attr.role_tag, attr.user_tag, attr.ranking)
    return said != ("conversations", "instruction", "from", "human", False)


def format_of(attr: Any) -> Format:
    """Read columns and tags from the host's description of a dataset.

    Raises:
        UserError: if the entry cannot describe pairs.
    """
    name = f"dataset_info.json entry of {attr.dataset_name}"
    if attr.formatting not in ("sharegpt", "openai"):
        raise UserError(
            f"{name}: formatting is '{attr.formatting}', expected 'sharegpt' or 'openai' for pairs of dialogues"
        )
    media = [column for column in ("images", "videos", "audios") if getattr(attr, column)]
    if media:
        raise UserError(f"{name}: has a column of {media[0]}; pairs are text only, leave it out")
    if attr.messages is None and not (attr.ranking and attr.chosen and attr.rejected):
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
    spelled = {field: getattr(attr, field) for field in READ_OF_ENTRY}
    if attr.formatting == "openai":
        # The tags of an entry without any are the host's for ShareGPT.
        tags = (
            OPENAI
            if attr.role_tag == "from"
            else {"observation_tag": attr.observation_tag or OPENAI["observation_tag"]}
        )
        spelled |= {**tags, "openai": True, "lenient": True}
    lacking = [tag for tag in TAGS if spelled[tag] is None]
    if lacking:
        raise UserError(f"{name}: tags lack {', '.join(lacking)}; name all of {', '.join(TAGS)}")
    return Format(**spelled)


def check_entry(dataset_dir: Any, name: str) -> None:
    """Refuse an entry of dataset_info.json with a key that nothing reads, such as a misspelt one.

    Args:
        dataset_dir: the host's option; anything but a local folder is left to the host.
        name: of the entry.
    """
    entries = read_entries(dataset_dir) or {}
    if name not in entries:
        return
    entry, where = entries[name], f"{Path(dataset_dir) / INFO} entry {name}"
    _check_keys(where, entry, ENTRY_KEYS)
    _check_keys(f"{where}: columns", entry.get("columns", {}), COLUMN_KEYS)
    _check_keys(f"{where}: tags", entry.get("tags", {}), TAG_KEYS)
    if not entry.keys() & set(SOURCES):
        raise UserError(f"{where}: names no data; add file_name")
    if not isinstance(entry.get("ranking", False), bool):
        raise UserError(f"{where}: ranking is {shown(entry['ranking'])}, expected true or false")
    count = entry.get("num_samples")
    if count is not None and not (isinstance(count, int) and not isinstance(count, bool) and count > 0):
        raise UserError(f"{where}: num_samples is {shown(count)}, expected a whole number above 0")
    for part in ({key: entry.get(key) for key in TEXTS}, entry.get("columns", {}), entry.get("tags", {})):
        for key, value in part.items():
            if not (value is None or _is_name(value)):
                raise UserError(f"{where}: {key} is {shown(value)}, expected text")


def _is_name(value: Any) -> bool:
    """Return whether a value is text that can name a file or a field."""
    try:
        return isinstance(value, str) and "\0" not in value and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _check_keys(where: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where}: is {shown(found)}, expected an object")
    unknown = set(found) - known
    if unknown:
        raise UserError(f"{where}: unknown key {min(unknown)!r}, expected {', '.join(sorted(known))}")

"""Tell which benchmark or program wrote a log, by what is in it.

Comes in: a file. Goes out: the format, or one line that says what was found and which formats are known.
"""

from enum import StrEnum
from pathlib import Path

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs import inspect_ai, openai, sharegpt, tau, tau2, verifiers
from sotopia_sdpo.logs.logged import Reader
from sotopia_sdpo.logs.stream import Text, opened


class Format(StrEnum):
    """Which form of logs."""

    tau = "tau"
    tau2 = "tau2"
    openai = "openai"
    inspect = "inspect"
    verifiers = "verifiers"
    sharegpt = "sharegpt"


READERS: dict[Format, Reader] = {
    Format.tau: tau.READER,
    Format.tau2: tau2.READER,
    Format.openai: openai.READER,
    Format.inspect: inspect_ai.READER,
    Format.verifiers: verifiers.READER,
    Format.sharegpt: sharegpt.READER,
}
OF_WHOLE_FILES = (Format.tau2, Format.inspect)
"""Formats whose file is one object; it may be large, so its first telling field decides."""
MOST_SHOWN_KEYS = 8


def recognise(path: Path) -> Format:
    """Return the format of a file.

    Raises:
        UserError: if it cannot be read, or is of none of them, or of several.
    """
    if _begins(path) == inspect_ai.ZIP_MAGIC:
        return Format.inspect
    with opened(path) as text:
        keys = _keys(text)
    found = [format for format, reader in READERS.items() if reader.key in keys]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{reader.key} ({format})" for format, reader in READERS.items())
    if found:
        raise UserError(f"{path}: may be {' or '.join(found)} by its fields; say which with --format")
    shown = ", ".join(keys[:MOST_SHOWN_KEYS]) or "no object"
    raise UserError(f"{path}: not a log of a known format; expected one of the fields {known}, found {shown}")


def _begins(path: Path) -> bytes:
    """Return the first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(len(inspect_ai.ZIP_MAGIC))
    except OSError as err:
        raise UserError(f"{path}: cannot be read ({err.strerror or err})") from err


def _keys(text: Text) -> list[str]:
    """Return the fields of the first record; of one object that is the file, those up to the telling one."""
    if text.peek() == "[":
        first = next(text.items(), None)
        return list(first) if isinstance(first, dict) else []
    if text.peek() != "{":
        return []
    keys: list[str] = []
    for name, _ in text.members(tau2.SIMULATIONS):
        keys.append(name)
        if name in [READERS[format].key for format in OF_WHOLE_FILES]:
            return [name]
    return keys

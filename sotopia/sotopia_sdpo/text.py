"""Text that any database and any file takes."""

from typing import Any


def whole_text(value: Any) -> Any:
    """Return a value with U+FFFD for halves of surrogate pairs, which broken JSON may hold and no database takes."""
    if isinstance(value, str):
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(key): whole_text(item) for key, item in value.items()}
    return value

"""The wording of all prompts, and the one way to fill it.

A wording is a text with placeholders, `{{name}}`, and with parts that only some readers see,
`{{#name}}…{{/name}}`. Those of this package lie in this folder; users may give their own for the agents.
Invariant: filling goes over the wording once, so braces in what is filled in stay what they are.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files


PLACEHOLDER = re.compile(r"\{\{\s*(\w*)\s*\}\}")
PART = re.compile(r"\{\{#\s*(\w+)\s*\}\}(.*?)\{\{/\s*\1\s*\}\}", re.DOTALL)
PART_MARK = re.compile(r"\{\{\s*[#/][^{}]*\}\}")
FINGERPRINT_LENGTH = 8


@cache
def read(name: str) -> str:
    """Read one of the files of this folder."""
    return files(__name__).joinpath(name).read_text("utf-8").strip()


def check(text: str, known: Iterable[str]) -> None:
    """Check that a text has only known placeholders.

    Raises:
        ValueError: if it has another one; the text names it, and those that are known.
    """
    names = list(known)
    if unknown := [name for name in PLACEHOLDER.findall(text) if name not in names]:
        raise ValueError(f"unknown placeholder {{{{{unknown[0]}}}}}; known are {listed(names)}")


def choose_parts(text: str, shown: Mapping[str, bool]) -> str:
    """Return a text with the parts that are shown, without their marks, and without the others.

    Raises:
        ValueError: if a part has another name, or a mark has no partner; parts do not stand in each other.
    """
    names = [found[1] for found in PART.finditer(text)]
    if unknown := [name for name in names if name not in shown]:
        known = ", ".join(f"{{{{#{name}}}}}…{{{{/{name}}}}}" for name in shown)
        raise ValueError(f"unknown part {{{{#{unknown[0]}}}}}; known are {known}")
    if left := PART_MARK.search(PART.sub(lambda match: match[2], text)):
        raise ValueError(f"{left[0]} has no partner; a part is {{{{#name}}}}…{{{{/name}}}}, and holds no other part")
    return PART.sub(lambda match: match[2] if shown[match[1]] else "", text)


def parts(text: str) -> dict[str, str]:
    """Return the parts of a text by their names."""
    return {found[1]: found[2] for found in PART.finditer(text)}


def listed(names: Iterable[str]) -> str:
    """Write placeholders as a list, for messages."""
    return ", ".join(f"{{{{{name}}}}}" for name in names)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders of a text.

    Raises:
        ValueError: if one of them has no value.
    """
    check(text, values)
    return PLACEHOLDER.sub(lambda match: values[match[1]], text)


def fingerprint(text: str) -> str:
    """Return a few characters that identify a wording; episodes store them."""
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]

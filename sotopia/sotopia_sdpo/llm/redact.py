"""Take secrets out of any text before it is shown or stored.

Comes in: an error text of a server or a library. Goes out: the same on one line, keys replaced.
Invariant: no value of an environment variable that looks like a key survives.
"""

import os
import re

from sotopia_sdpo.text import printable


MASK = "[key]"
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
SECRET_SHAPE = re.compile(r"\b(?:sk|pk|rk|hf|gsk)[-_][A-Za-z0-9*_\-]{8,}")
BEARER = re.compile(r"(?i)\b(bearer|api[-_ ]?key)(\s*[:=]?\s*)(['\"]?)[A-Za-z0-9*._\-]{6,}")
URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
SHORTEST_SECRET = 4
MAX_LENGTH = 400
NOT_SECRET = ("EMPTY", "none", "null", "true", "false")


def reason_of(error: BaseException) -> str:
    """Return in one line, without keys, why something failed."""
    return redact(f"{type(error).__name__}: {error}")


def redact(text: object, max_length: int = MAX_LENGTH) -> str:
    """Return a text as one short line, without keys."""
    line = printable(" ".join(str(text).split()))
    secrets = [value for name, value in os.environ.items() if SECRET_NAME.search(name.upper())]
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET and secret not in NOT_SECRET:
            line = line.replace(secret, MASK)
    line = URL_LOGIN.sub(f"{MASK}@", SECRET_SHAPE.sub(MASK, line))
    line = BEARER.sub(rf"\1\2\3{MASK}", line)
    return line if len(line) <= max_length else line[: max_length - 1] + "…"

"""The commands in the pages: every line of their bash blocks, as the words of each command."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.M | re.S)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
ENDS = set("&|;<>()")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command, without variables set before it; a heredoc ends its block."""
    for block in BLOCK.findall(page.read_text("utf-8")):
        for line in block.partition("<<")[0].replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*_words(line), ";"]:
                if set(word) <= ENDS:
                    if words:
                        yield words
                    words = []
                elif words or not ASSIGNMENT.match(word):
                    words.append(word)


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(ENDS))
    lexer.whitespace_split = True
    return list(lexer)

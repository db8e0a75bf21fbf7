"""Digests of files by their content, and of models by the files that make them.

Comes in: a path. Goes out: a digest that changes with the content and nothing else.
Invariant: a file is read unless it is large and has the size and time of change under which it was read before, so
that 16 GB of weights are not read at every start.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from pathlib import Path

from sotopia_sdpo.whole_files import write_whole


MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_*", "config.json", "*.model", "vocab*"),
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    "merges.txt",
)
"""What a model says depends on these; not on checkpoints, logs and figures beside them."""
LARGE_BYTES = 4 * 2**20
MISSING = "missing"


def digest(text: str) -> str:
    """Return a short digest of a text."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def files_of(path: Path) -> list[Path]:
    """Return the files that a path stands for: those of the model in a folder, else the path itself."""
    if not path.is_dir():
        return [path]
    return sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)}) or [path / "config.json"]


class Digests:
    """Digests of files; those of large ones are kept in a file."""

    def __init__(self, kept: Path, is_kept: bool = True) -> None:
        """Read what was kept in a file, to which new ones are added if they are to be kept."""
        self.path, self.is_kept = kept, is_kept
        try:
            found = json.loads(kept.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            found = {}
        self.kept: dict[str, list[int | str]] = found
        self._lock = threading.Lock()

    def of(self, paths: Iterable[Path]) -> dict[str, str]:
        """Return the digest of every file that the paths stand for."""
        return {str(file): self._of_file(file) for path in paths for file in files_of(path)}

    def _of_file(self, path: Path) -> str:
        try:
            stat = path.stat()
        except OSError:
            return MISSING
        seen: list[int | str] = [stat.st_size, stat.st_mtime_ns]
        known = self.kept.get(str(path))
        if stat.st_size >= LARGE_BYTES and known and known[:2] == seen:
            return str(known[2])
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
        if stat.st_size >= LARGE_BYTES:
            with self._lock:
                self.kept[str(path)] = [*seen, found]
                if self.is_kept:
                    write_whole(self.path, json.dumps(self.kept, indent=1))
        return found

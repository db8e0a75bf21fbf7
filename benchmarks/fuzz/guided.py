"""Let atheris draw the cases of a target, by which lines of the readers they reach.

Comes in: a target, a seed and how many cases. Goes out: libFuzzer's own report on stderr, and its exit code; a case
that crashes, hangs or takes too much memory is written to the current folder. atheris is no dependency of ours.
"""

import sys
import tempfile
from pathlib import Path

from . import CASE_MIB, CASE_S


BASE_MIB = 512
"""What Python with our modules and the coverage takes."""
READERS = ("sotopia_sdpo.rdb", "sotopia_sdpo.llm.answers", "sotopia_sdpo.play.actions", "sotopia_sdpo.judge.verdict")


def run_guided(target: str, seed: int, cases: int) -> int:
    """Run so many cases; return 2 where atheris is missing, else what libFuzzer ends with."""
    try:
        import atheris
    except ImportError:
        print("error: --guided needs the package atheris; pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=list(READERS)):
        from .targets import TARGETS

    reader = TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "inputs"
        corpus.mkdir()
        for number, good in enumerate(reader.inputs):
            (corpus / str(number)).write_bytes(reader.encoded(good))
        scratch = Path(folder) / "case"

        def read(data: bytes) -> None:
            reader.read(reader.decoded(data), scratch)

        limits = [f"-timeout={CASE_S:.0f}", f"-rss_limit_mb={BASE_MIB + CASE_MIB}", f"-max_len={reader.most}"]
        arguments = [sys.argv[0], str(corpus), f"-runs={cases}", f"-seed={seed % 2**32 or 1}", *limits]
        atheris.Setup(arguments, read)
        atheris.Fuzz()
    return 0

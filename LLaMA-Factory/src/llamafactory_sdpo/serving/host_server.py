"""A server process on the host's own engine, with training's prompts and the routes that we wait for and probe.

    python -m llamafactory_sdpo.serving.host_server CONFIG.json PORT

Comes in: the serving config as JSON, the key in the environment variable API_KEY. One request is answered at a time,
unless the host's MAX_CONCURRENT says otherwise.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import run_at_edge
from .config import ServingConfig, host_args
from .prompting import generation_defaults


def main() -> int:
    """Serve until a signal comes."""
    path, port = Path(sys.argv[1]), int(sys.argv[2])
    return run_at_edge(lambda: serve(ServingConfig(**json.loads(path.read_text(encoding="utf-8"))), port))


def serve(config: ServingConfig, port: int) -> None:
    """Load the model, then answer at the port."""
    import uvicorn

    from .. import register

    # The host's server reads these; it would log every request with its whole chat.
    os.environ.setdefault("API_VERBOSE", "0")
    os.environ["API_MODEL_NAME"] = config.names[0]
    application, prompt_ids = register.host_api(host_args(config) | generation_defaults(config))

    @application.get("/health")
    def health() -> None:
        """Answer as soon as the model is loaded."""

    @application.post("/tokenize")
    def tokenize(chat: dict[str, Any]) -> dict[str, list[int]]:
        """The ids of a chat's prompt."""
        return {"tokens": prompt_ids(chat["messages"])}

    uvicorn.run(application, host=config.host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    sys.exit(main())

"""A server process on the host's own engine, with training's prompts and the routes that we wait for and probe.

    python -m llamafactory_sdpo.serving.host_server CONFIG.json PORT

Reads the serving config from JSON, the key from the environment variable API_KEY. Answers one request at a time,
unless the host's MAX_CONCURRENT is set.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import run_at_edge
from .config import KEY_VARIABLE, ServingConfig, host_args
from .prompting import generation_defaults
from .requests import Limits, RequestChecks, prompt_of


def main() -> int:
    """Serve until a signal arrives."""
    path, port = Path(sys.argv[1]), int(sys.argv[2])
    return run_at_edge(lambda: serve(ServingConfig(**json.loads(path.read_text(encoding="utf-8"))), port))


def serve(config: ServingConfig, port: int) -> None:
    """Load the model, then serve it at the port."""
    # Heavy: after the arguments were read.
    import uvicorn

    from ..host.serving import context_length, host_api, packed

    # The host's server reads these; it would log every request with its whole chat.
    os.environ.setdefault("API_VERBOSE", "0")
    os.environ["API_MODEL_NAME"] = config.names[0]
    args = host_args(config) | generation_defaults(config)
    application, prompt_ids = host_api(args)

    def health() -> None:
        """Answer as soon as the model is loaded."""

    def tokenize(chat: dict[str, Any]) -> dict[str, list[int]]:
        """Return the ids of a chat's prompt."""
        return {"tokens": prompt_of(chat, prompt_ids)}

    limits = Limits(config.names, os.environ.get(KEY_VARIABLE, ""), context_length(args))
    application.add_middleware(RequestChecks, limits=limits, prompt_ids=prompt_ids, packed=packed)
    application.add_api_route("/health", health)
    application.add_api_route("/tokenize", tokenize, methods=["POST"])
    uvicorn.run(application, host=config.host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    sys.exit(main())

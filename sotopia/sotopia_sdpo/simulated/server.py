"""Serve scripted answers over the OpenAI-compatible HTTP interface: /v1/models, /v1/chat/completions, /health, /stats.

There is no model behind it, and it says so in its banner, its headers and its answers. It answers for any model
name, on loopback unless told otherwise.

    sotopia simulate --port 8100 --seed 0
"""

import asyncio
import hashlib
import json
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.simulated.annotator import AnnotationJob, annotate, job_of
from sotopia_sdpo.simulated.draws import Draw
from sotopia_sdpo.simulated.faults import Fault, Faults, Occasions, break_json, push_out_of_range
from sotopia_sdpo.simulated.misannotations import misannotate
from sotopia_sdpo.simulated.replies import ChatRequest, answer, request_of


SERVER_NAME = "sotopia-simulation"
LOOPBACK = "127.0.0.1"
CHARACTERS_PER_TOKEN = 4
MAX_BODY_BYTES = 64 * 2**20
TRANSPORT_FAULTS = ("429", "500", "timeout", "drop")


class ScriptedAnswer(NamedTuple):
    """What is said, and the counters that go up once it is delivered."""

    text: str
    counted: tuple[str, ...]


@dataclass
class SimulatedServer:
    """The settings and counters of one server."""

    seed: int = 0
    faults: Faults = Faults()
    api_key: str = ""
    """The only key that is accepted; empty accepts any."""
    only_models: tuple[str, ...] = ()
    """The only models that are there; empty: any."""
    refuse_response_format: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    latency_s: float = 0.0
    answered: Counter[str] = field(default_factory=Counter)
    """How often each content was answered, by hash: delivered, and not broken on the way."""
    annotated: set[str] = field(default_factory=set)
    """The annotations that were delivered, right or wrong, by hash."""
    occasions: Occasions = field(default_factory=Occasions)

    def app(self) -> web.Application:
        """Build the web application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/health", self.health)
        app.router.add_get("/stats", self.stats)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.complete)
        return app

    async def health(self, _: web.Request) -> web.Response:
        """Answer that the server is up, and what it is."""
        return web.json_response({"status": "ok", "server": SERVER_NAME, "simulation": True, "seed": self.seed})

    async def models(self, request: web.Request) -> web.Response:
        """List models; any other name is answered too, unless only some are served."""
        if not self._lets_in(request):
            return _error(401, "Incorrect API key provided")
        names = self.only_models or ("simulated",)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": SERVER_NAME} for name in names]
        return web.json_response({"object": "list", "data": data})

    async def stats(self, _: web.Request) -> web.Response:
        """Answer with the counters: requests, faults by kind, answers, repeated answers, total latency."""
        repeated = sum(count - 1 for count in self.answered.values())
        found = {"latency_s": self.latency_s, "repeated_answers": repeated, **self.counts}
        return web.json_response(found)

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """Answer a chat request, or fail as drawn."""
        started = time.monotonic()
        self.counts["requests"] += 1
        if not self._lets_in(http):
            return _error(401, "Incorrect API key provided")
        try:
            body = await http.json()
            request = request_of(body)
            job = job_of(request)
        except (ValueError, TypeError, AttributeError) as err:
            return _error(400, str(err))
        if (refusal := self._refusal(request, body)) is not None:
            return refusal
        draw = self.occasions.draw_for(self.seed, request.content)
        fault = self.faults.fault(draw)
        latency_s = self.faults.latency_s(draw)
        self.latency_s += latency_s
        if fault:
            self.counts[f"fault {fault}"] += 1
        given = None if fault in TRANSPORT_FAULTS else self._answer(request, job, fault, draw)
        if latency_s:
            await asyncio.sleep(max(0.0, latency_s - (time.monotonic() - started)))
        if given is None:
            return await self._broken(http, fault)
        # A client that has gone away meanwhile ends this handler in the sleep, so it is not counted as answered.
        return web.json_response(self._completion(request, given), headers={"Server": SERVER_NAME})

    def _lets_in(self, http: web.Request) -> bool:
        return not self.api_key or http.headers.get("Authorization") == f"Bearer {self.api_key}"

    def _refusal(self, request: ChatRequest, body: dict[str, Any]) -> web.Response | None:
        """Refuse what the settings do not accept."""
        if self.only_models and request.model not in self.only_models:
            return _error(404, f"The model {request.model!r} does not exist")
        if self.refuse_response_format and "response_format" in body:
            return _error(400, "response_format is not supported by this server")
        return None

    async def _broken(self, http: web.Request, fault: Fault) -> web.Response:
        """Fail in the way that was drawn."""
        if fault == "429":
            headers = {"Retry-After": f"{self.faults.retry_after_s:g}"} if self.faults.retry_after_s else None
            return _error(429, "Rate limit reached (simulated)", headers)
        if fault == "500":
            return _error(500, "Internal error (simulated)")
        if fault == "timeout":
            await asyncio.sleep(self.faults.hang_s)
        if http.transport is not None:
            http.transport.abort()
        return web.Response()

    def _answer(self, request: ChatRequest, job: AnnotationJob | None, fault: Fault, draw: Draw) -> ScriptedAnswer:
        """Return the answer, broken as drawn; a wrong annotation is an answer too, which clients keep."""
        right = json.dumps(annotate(job)) if job else answer(request, self.seed)
        said = text = misannotate(job, draw) if job and self.faults.is_misannotated(draw) else right
        if fault == "broken-json":
            text = break_json(said, draw)
        elif fault == "out-of-range":
            text = push_out_of_range(said, draw)
        counted = (
            ("answers", text == said),
            ("annotations", job),
            ("annotations wrong", job and text != right),
        )
        return ScriptedAnswer(text, tuple(name for name, holds in counted if holds))

    def _completion(self, request: ChatRequest, given: ScriptedAnswer) -> dict[str, Any]:
        """Write the answer as a chat completion and count it."""
        text = given.text
        self.counts.update(given.counted)
        digest = hashlib.sha256(request.content.encode()).hexdigest()
        if "answers" in given.counted:
            self.answered[digest] += 1
        if "annotations" in given.counted:
            self.counts["annotations repeated"] += digest in self.annotated
            self.annotated.add(digest)
        prompt_tokens = sum(len(message["content"]) for message in request.messages) // CHARACTERS_PER_TOKEN + 1
        completion_tokens = len(text) // CHARACTERS_PER_TOKEN + 1
        self.counts["prompt_tokens"] += prompt_tokens
        self.counts["completion_tokens"] += completion_tokens
        return {
            "id": f"simulated-{self.counts['requests']}",
            "object": "chat.completion",
            "created": 0,
            "model": request.model,
            "system_fingerprint": f"{SERVER_NAME}-seed-{self.seed}",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Write an error in OpenAI's shape."""
    body = {"error": {"message": message, "type": "simulated", "code": status}}
    return web.json_response(body, status=status, headers={"Server": SERVER_NAME, **(headers or {})})


async def serve(server: SimulatedServer, host: str = LOOPBACK, port: int = 0) -> None:
    """Serve until SIGINT or SIGTERM; the banner on stdout names the address once it can be called.

    Raises:
        UserError: if the port cannot be had.
    """
    runner = web.AppRunner(server.app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, host, port, shutdown_timeout=1.0)
    try:
        await site.start()
    except OSError as err:
        await runner.cleanup()
        raise UserError(f"--port {port}: cannot listen on {host} ({err.strerror}); give another port") from err
    bound = runner.addresses[0][1]
    print(f"{SERVER_NAME}: SIMULATION with scripted answers, no model behind it (seed {server.seed})", flush=True)
    print(f"listening on http://{host}:{bound}/v1", flush=True)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    await stopped.wait()
    await runner.cleanup()

"""A model server of a test's own, which answers by a script."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model


CHAT = [{"role": "user", "content": "Hi"}]
PLAIN = Sampling(0.5, seed=7, max_tokens=9, schema={"type": "object"})
Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def good(text: str = "Hello") -> web.Response:
    """Answer well."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return web.json_response({"choices": [{"message": {"content": text}}], "usage": usage})


async def served(handlers: list[Handler], work: Callable[[list[str]], Awaitable[Any]]) -> Any:
    """Run a server for each handler, and the work on their addresses."""
    runners, urls = [], []
    for handler in handlers:

        async def handle(request: web.Request, handler: Handler = handler) -> web.StreamResponse:
            return await handler(request, await request.json())

        app = web.Application()
        app.router.add_post(getattr(handler, "path", "/v1/chat/completions"), handle)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        urls.append(f"http://127.0.0.1:{runners[-1].addresses[0][1]}/v1")
    try:
        return await work(urls)
    finally:
        for runner in runners:
            await runner.cleanup()


def complete(handler: Handler, attempts: int = 5, timeout_s: float = 5.0) -> tuple[Answer, LLMClient]:
    """Make one call to one server."""

    async def work(urls: list[str]) -> tuple[Answer, LLMClient]:
        async with LLMClient(Limits(attempts=attempts, timeout_s=timeout_s)) as client:
            return await client.complete(parse_model(f"custom/m@{urls[0]}"), CHAT, PLAIN), client

    return asyncio.run(served([handler], work))


def scripted(*steps: Callable[[web.Request], web.StreamResponse]) -> tuple[Handler, list[dict[str, Any]]]:
    """Answer by a script, its last step for ever, and keep the requests."""
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        return steps[min(len(bodies), len(steps)) - 1](request)

    return handler, bodies


def dropped(request: web.Request) -> web.StreamResponse:
    """Drop the connection."""
    request.transport.abort()
    return web.Response()


def halved(
    *headers: str, body: str = '{"choices": [{"message": {"content": "Hel'
) -> Callable[..., web.StreamResponse]:
    """Begin a good answer, in the form that headers say, and close the connection in the middle of its body."""

    def step(request: web.Request) -> web.StreamResponse:
        said = "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: application/json", *headers, "", body])
        request.transport.write(said.encode())
        request.transport.close()
        return web.Response()

    return step

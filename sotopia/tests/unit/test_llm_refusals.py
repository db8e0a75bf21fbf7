"""A setting is left out where a server says that it does not take it, and nowhere else."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from llm_server import CHAT, PLAIN, Handler, good, scripted, served

from sotopia_sdpo.llm.backends import CallError, Refused
from sotopia_sdpo.llm.client import Chat, LLMClient, Sampling
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.refusals import is_unexplained, refused_settings
from sotopia_sdpo.llm.spec import parse_model


FIELDS = {"temperature": 0.0, "seed": 1, "max_tokens": 512, "response_format": {}}
FULL = (
    "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 2048 tokens and "
    "your request has 1800 input tokens (512 > 2048 - 1800)."
)
NO_KEYS = "Sorry, temperature is not supported as a topic."


def openai(message: str, param: str | None = None, code: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (openai("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_tokens", "unsupported_parameter"), ["max_tokens"]),
        (openai("Unsupported value: 'temperature' does not support 0 with this model.", "temperature", "unsupported_value"), ["temperature"]),
        (openai("'temperature' is out", "temperature", "unsupported_value"), ["temperature"]),
        (openai("Unrecognized request argument supplied: seed"), ["seed"]),
        (openai("`temperature` is deprecated for this model."), ["temperature"]),
        (openai("This response_format type is unavailable now"), ["response_format"]),
        (openai("This model does not support response format `json_schema`. See https://x.y", "response_format"), ["response_format"]),
        (openai("Structured outputs are not available for this model."), ["response_format"]),
        (openai('Invalid JSON payload received. Unknown name "seed": Cannot find field.'), ["seed"]),
        (json.dumps({"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs", "input": 1}]}}), ["seed"]),
        (json.dumps({"detail": [{"type": "greater_than", "loc": ["body", "temperature"], "msg": "Input should be greater than 0"}]}), ["temperature"]),
        (json.dumps({"error": "Input validation error: `temperature` must be strictly positive"}), ["temperature"]),
        ("Argument not supported on this model: temperature, seed", ["temperature", "seed"]),
        ("max_tokens is too large: 512. This model supports at most 256 completion tokens, max_tokens was refused: 512 > 256 output tokens", ["max_tokens"]),
        (openai("property 'seed' is unsupported, did you mean 'temperature'?"), ["seed"]),
        ("unknown field `seed`, expected one of `model`, `temperature`, `max_tokens` at line 1 column 9", ["seed"]),
        ("Unknown parameter: seed. Supported parameters are temperature, max_tokens, which are not available", ["seed"]),
        # What names a setting, and does not refuse it.
        (openai("Content policy: max_tokens is not allowed as a topic"), []),
        (json.dumps({"message": FULL, "type": "BadRequestError", "param": "max_tokens", "code": 400}), []),
        (openai(FULL), []),
        ("max_tokens must be at least 1, got -1788", []),
        ("The prompt is too long: max_tokens is not supported then", []),
        (openai("The request with temperature 0.7 and max_tokens 512 was filtered.", code="content_filter"), []),
        (openai("Invalid request (temperature=0, seed=1). This model does not support system messages."), []),
        (openai("This model does not support tools.", "temperature"), ["temperature"]),
        (openai("temperature is not supported", "prompt"), []),
        (openai("max_completion_tokens is not supported"), []),
        (openai("reseed is unknown, seeds too"), []),
        ("seed", []),
        ("", []),
        ("[" * 5000, []),
    ],
)  # fmt: skip
def test_what_an_error_says(body: str, expected: list[str]) -> None:
    assert refused_settings(400, body, FIELDS, CHAT) == refused_settings(422, body, FIELDS, CHAT) == expected
    assert refused_settings(500, body, FIELDS, CHAT) == refused_settings(404, body, FIELDS, CHAT) == []


def test_what_an_error_quotes_it_does_not_say() -> None:
    said = [{"role": "user", "content": f"Ann: {NO_KEYS} My max_tokens are unknown, too."}]
    error = openai(
        f"The response was filtered: 'Ann: {NO_KEYS} My max_tokens are unknown, too.'", code="content_filter"
    )
    assert refused_settings(400, error, FIELDS, said) == []
    assert refused_settings(400, openai("'temperature' is not supported"), FIELDS, said) == ["temperature"]


@pytest.mark.parametrize(
    "quoted",
    [
        "temperature is not supported here, said the nurse",
        "...TEMPERATURE IS  NOT\tSUPPORTED HERE, said",
        json.dumps('The "temperature" is not supported.\nOk, Bo?'),
        repr('The "temperature" is not supported.\nOk, Bo?'),
        json.dumps(json.dumps('The "temperature" is not supported.\nOk, Bo?')),
    ],
)
def test_a_quote_is_known_however_it_is_written(quoted: str) -> None:
    said = [
        {"role": "user", "content": "You are Ann. The temperature is not supported here, said the nurse."},
        {"role": "assistant", "content": 'The "temperature" is not supported.\nOk, Bo?'},
    ]
    assert refused_settings(400, openai(f"Invalid messages: {quoted}"), FIELDS, said) == []
    assert refused_settings(400, openai(f"seed is unknown in {quoted}"), FIELDS, said) == ["seed"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        *((status, "No.", True) for status in (400, 404, 422)),
        *((status, "No.", False) for status in (401, 402, 403, 413, 429, 500)),
        (400, FULL, False),
        (400, openai("The response was filtered due to the prompt triggering a policy."), False),
        (400, openai("No.", code="content_filter"), False),
    ],
)
def test_an_error_without_a_reason(status: int, body: str, expected: bool) -> None:
    assert is_unexplained(status, body) == expected


def run(handler: Handler, *calls: tuple[Sampling, Chat], attempts: int = 4) -> tuple[list[Any], LLMClient]:
    """Make calls of one model, one after another; what fails is its error."""

    async def work(urls: list[str]) -> tuple[list[Any], LLMClient]:
        async with LLMClient(Limits(attempts=attempts)) as client:
            found: list[Any] = []
            for sampling, chat in calls:
                try:
                    found.append((await client.complete(parse_model(f"custom/m@{urls[0]}"), chat, sampling)).text)
                except CallError as err:
                    found.append(err)
            return found, client

    return asyncio.run(served([handler], work))


def picky(refuse: Any, bodies: list[dict[str, Any]]) -> Handler:
    """Answer well what is not refused."""

    async def handler(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        return refuse(body) or good()

    return handler


ACTION, JUDGE = PLAIN._replace(schema_name="action"), Sampling(0.0, None, 9, {"type": "object"}, "evaluation")


def test_a_refused_value_is_left_out_for_this_question_alone() -> None:
    """A server that refuses temperature 0 gets the agents' 0.5 as before; an episode can say what it went without."""
    bodies: list[dict[str, Any]] = []

    def refuse(body: dict[str, Any]) -> web.Response | None:
        error = {"error": "Input validation error: `temperature` must be strictly positive"}
        return web.json_response(error, status=422) if body.get("temperature") == 0 else None

    found, client = run(picky(refuse, bodies), (ACTION, CHAT), (JUDGE, CHAT), (JUDGE, CHAT), (ACTION, CHAT))
    assert found == ["Hello"] * 4
    assert [body.get("temperature") for body in bodies] == [0.5, 0, None, None, 0.5]
    (note,) = client.notes
    assert note.endswith("/v1, evaluation: the server refuses temperature 0.0; going on without")
    assert list(client.left_out.values()) == [{"evaluation": ["temperature 0.0"]}]


def test_a_full_context_is_this_calls_failure() -> None:
    bodies: list[dict[str, Any]] = []
    long = [{"role": "user", "content": "long"}]

    def refuse(body: dict[str, Any]) -> web.Response | None:
        error = {"message": FULL, "param": "max_tokens", "code": 400}
        return web.json_response(error, status=400) if body["messages"] == long else None

    found, client = run(picky(refuse, bodies), (ACTION, CHAT), (ACTION, long), (ACTION, CHAT))
    assert isinstance(found[1], Refused) and "maximum context length" in str(found[1]) and found[2] == "Hello"
    assert [body.get("max_tokens") for body in bodies] == [9, 9, 9] and not client.notes and not client.left_out


def test_a_length_is_sent_under_its_new_name() -> None:
    bodies: list[dict[str, Any]] = []
    error = openai("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens")

    def refuse(body: dict[str, Any]) -> web.Response | None:
        return web.Response(text=error, status=400) if "max_tokens" in body else None

    found, client = run(picky(refuse, bodies), (ACTION, CHAT), (ACTION, CHAT))
    assert found == ["Hello"] * 2 and [body.get("max_completion_tokens") for body in bodies] == [None, 9, 9]
    assert not client.notes


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, [True, False, False]), (404, [True, False, False]), (500, [True, True, False, False])],
)
def test_a_form_that_fails_without_a_word_is_tried_without(status: int, expected: list[bool]) -> None:
    bodies: list[dict[str, Any]] = []

    def refuse(body: dict[str, Any]) -> web.Response | None:
        return web.Response(text="No.", status=status) if "response_format" in body else None

    found, client = run(picky(refuse, bodies), (ACTION, CHAT), (ACTION, CHAT))
    assert found == ["Hello"] * 2 and ["response_format" in body for body in bodies] == expected
    assert len(client.notes) == 1 and "action: the server refuses response_format; going on without" in client.notes[0]


def test_a_form_that_works_is_not_given_up() -> None:
    """After one answer in the form, an error is no word against it; a request that fails without as well keeps it."""
    steps = [lambda _, status=status: web.Response(text="No.", status=status) for status in (400, 400, 400, 500, 500)]
    handler, bodies = scripted(*steps[:2], lambda _: good(), *steps[2:], lambda _: good())
    found, client = run(handler, *[(ACTION, CHAT)] * 4)
    assert isinstance(found[0], Refused) and isinstance(found[2], Refused) and found[1] == found[3] == "Hello"
    assert ["response_format" in body for body in bodies] == [True, False, True, True, True, True, True]
    assert not client.notes


@pytest.mark.parametrize("status", [400, 404])
def test_requests_at_once_all_go_on_without_a_form_that_fails(status: int) -> None:
    """The first answer without a form does not make the others' refusals, which are under way, theirs."""
    waiting: list[asyncio.Event] = []

    async def handler(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "response_format" not in body:
            return good()
        waiting.append(asyncio.Event())
        if len(waiting) > 1:
            await waiting[-1].wait()
        return web.Response(text="No.", status=status)

    async def work(urls: list[str]) -> list[str]:
        async with LLMClient(Limits(attempts=1)) as client:

            async def one() -> str:
                return (await client.complete(parse_model(f"custom/m@{urls[0]}"), CHAT, ACTION)).text

            calls = [asyncio.create_task(one()) for _ in range(3)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while len(waiting) < 3:
                await asyncio.sleep(0.01)
            for event in waiting:
                event.set()
            return await asyncio.gather(*calls)

    assert asyncio.run(served([handler], work)) == ["Hello"] * 3

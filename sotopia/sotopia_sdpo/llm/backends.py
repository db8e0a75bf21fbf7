"""Send one request, to an OpenAI-compatible server directly or through litellm, and sort what can go wrong.

Goes out: an Answer whose cost is not known yet, or one of three errors: Transient may pass, Unreachable is Transient
with nobody there, Refused will not pass. Error texts are one line and hold no key.
"""

import asyncio
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp

from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.completion import prompt_log_probs_of, text_of, usage_of
from sotopia_sdpo.llm.proxies import proxy_for
from sotopia_sdpo.llm.redact import redact
from sotopia_sdpo.llm.refusals import FORM
from sotopia_sdpo.llm.spec import ModelSpec


StatusKind = Literal["passing", "key", "not found", "refused"]
"""What an unsuccessful HTTP status stands for."""
SERVER_ERROR = 500
STATUSES: dict[int, StatusKind] = {
    **dict.fromkeys((408, 409, 425, 429), "passing"),
    **dict.fromkeys((401, 403), "key"),
    404: "not found",
}
MAX_LISTED_MODELS = 6
DETAIL_LENGTH = 200
TRACEBACK = "Traceback (most recent call last)"

SIMULATION_MARK = "sotopia-simulation"
"""How the scripted server's answers begin their `system_fingerprint`."""


class CallError(Exception):
    """A call failed for good."""


class Transient(CallError):
    """A call failed in a way that may pass."""

    def __init__(self, text: str, retry_after_s: float | None = None, status: int = 0) -> None:
        """Keep how long the server asks to wait, in seconds, and its status."""
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.status = status


class Unreachable(Transient):
    """Nobody answers at the address."""


class Refused(CallError):
    """The server will not do this, however often it is asked."""

    def __init__(self, text: str, status: int = 0, body: str = "") -> None:
        """Keep the status and what the server said."""
        super().__init__(text)
        self.status = status
        self.body = body


def kind_of(status: int) -> StatusKind:
    """Return what an unsuccessful status stands for: may it pass, and if not, what is wrong."""
    return "passing" if status >= SERVER_ERROR else STATUSES.get(status, "refused")


async def call_direct(
    session: aiohttp.ClientSession,
    model: ModelSpec,
    url: str,
    messages: list[dict[str, str]],
    fields: dict[str, Any],
) -> Answer:
    """Send one request to an OpenAI-compatible server."""
    headers = {"Authorization": f"Bearer {model.key}"}
    body = {"model": model.api_name, "messages": messages, **fields}
    proxy = proxy_for(url)
    try:
        async with session.post(f"{url}/chat/completions", json=body, headers=headers, proxy=proxy) as response:
            text = await response.text()
            if response.status != 200:
                await _raise_for(session, model, url, response, text)
    except aiohttp.ClientConnectorError as err:
        through = f" through the proxy {proxy}" if proxy else ""
        raise Unreachable(redact(f"no connection to {url}{through} ({err.os_error.strerror or err})")) from err
    except TimeoutError as err:
        raise Transient(f"no answer from {url} in time") from err
    except (aiohttp.ClientError, OSError, UnicodeDecodeError, LookupError) as err:  # the last: no such encoding
        raise Transient(redact(f"{url}: {type(err).__name__} {err}")) from err
    try:
        found = json.loads(text)
        said = text_of(found["choices"][0]["message"].get("content"))
        log_probs = prompt_log_probs_of(found)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise Transient(redact(f"{url}: the answer is no chat completion ({text[:80]!r})")) from err
    is_simulated = str(found.get("system_fingerprint") or "").startswith(SIMULATION_MARK)
    return Answer(said, usage_of(found.get("usage")), is_simulated, log_probs)


async def _raise_for(
    session: aiohttp.ClientSession, model: ModelSpec, url: str, response: aiohttp.ClientResponse, text: str
) -> None:
    """Raise the error of an unsuccessful status."""
    status, kind = response.status, kind_of(response.status)
    detail = redact(_detail(text), DETAIL_LENGTH)
    if kind == "passing":
        raise Transient(f"{url}: status {status} {detail}", retry_after_s(response.headers), status)
    if kind == "key":
        raise Refused(f"the key is refused (status {status}: {detail}); set {model.key_variable}", status, text)
    if kind == "not found":
        served = await _served_models(session, model, url)
        listed = f"the server has {', '.join(served)}" if served else f"status 404: {detail}"
        raise Refused(f"no model {model.api_name!r} there; {listed}; correct the name or the address", status, text)
    raise Refused(f"{url}: status {status}: {detail}", status, text)


async def _served_models(session: aiohttp.ClientSession, model: ModelSpec, url: str) -> list[str]:
    """Return what a server says it has, for an error text; an empty list where it does not."""
    try:
        headers = {"Authorization": f"Bearer {model.key}"}
        async with session.get(f"{url}/models", headers=headers, proxy=proxy_for(url)) as response:
            found = json.loads(await response.text())
            return [str(item["id"]) for item in found["data"]][:MAX_LISTED_MODELS]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return []


def _detail(text: str) -> str:
    """Return the message in an error body."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = found.get("error", found) if isinstance(found, dict) else found
    return str(error.get("message", error) if isinstance(error, dict) else error)


def retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """Read how long a server asks to wait, given as seconds or as a date, which is by its own clock."""
    value, now = ((headers or {}).get(name) or (headers or {}).get(name.title()) for name in ("retry-after", "date"))
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        since = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(value) - since).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


async def call_litellm(
    model: ModelSpec, messages: list[dict[str, str]], fields: dict[str, Any], timeout_s: float
) -> Answer:
    """Send one request wherever litellm routes the name; what `not_passed_on` names would be left out."""
    # Here: they take seconds, and most runs need neither.
    import litellm
    import openai

    litellm.suppress_debug_info = True
    try:
        response = await asyncio.wait_for(
            litellm.acompletion(
                model=model.api_name, messages=messages, drop_params=True, num_retries=0, max_retries=0, **fields
            ),
            timeout_s,
        )
        said = text_of(response.choices[0].message.content)
    except TimeoutError as err:
        raise Transient(f"no answer for {model.api_name} in {timeout_s:g} s") from err
    except openai.APIConnectionError as err:
        raise Transient(redact(f"{model.api_name}: {err}")) from err
    except openai.APIStatusError as err:
        raise _litellm_error(model, err) from err
    except (openai.OpenAIError, LookupError, AttributeError, TypeError) as err:
        text = str(err).split(TRACEBACK)[0]
        raise Transient(redact(f"{model.api_name}: {type(err).__name__} {text}")) from err
    usage = getattr(response, "usage", None)
    counts = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    fingerprint = str(getattr(response, "system_fingerprint", "") or "")
    return Answer(said, usage_of(counts), fingerprint.startswith(SIMULATION_MARK))


def not_passed_on(model: ModelSpec, fields: dict[str, Any]) -> list[str]:
    """Return the names of the fields that litellm leaves out of a request, since the provider does not take them."""
    import litellm
    import openai
    from litellm.litellm_core_utils.get_llm_provider_logic import get_llm_provider
    from litellm.utils import get_optional_params, supports_response_schema

    def passed(left_out: str = "") -> Any:
        chosen = {name: value for name, value in deepcopy(fields).items() if name != left_out}
        return get_optional_params(model=name, custom_llm_provider=provider, drop_params=True, **chosen)

    litellm.suppress_debug_info = True
    try:
        name, provider, _, _ = get_llm_provider(model.api_name)
        has_form = supports_response_schema(model=model.api_name)
        whole = passed()
        return [one for one in fields if (one == FORM and not has_form) or passed(one) == whole]
    except (openai.OpenAIError, ValueError, LookupError, TypeError, AttributeError):
        return []  # then the call itself says what is wrong


def _litellm_error(model: ModelSpec, err: Any) -> CallError:
    """Return our error for one of litellm's, by what the server said: litellm's own status and words may be others."""
    said = err
    while isinstance(getattr(behind := said.__cause__ or said.__context__, "status_code", None), int):
        if type(behind).__module__.startswith("httpx"):  # tells the status again, without the body
            break
        said = behind
    status, body = int(said.status_code or 0), getattr(said, "body", None)
    body = json.dumps(body) if isinstance(body, dict) else str(said).split(TRACEBACK)[0]
    text = redact(body if said is err else _detail(body))
    kind = kind_of(status)
    if kind == "key":
        return Refused(f"the key is refused or missing ({text})", status, body)
    if kind == "passing":
        headers = getattr(err, "litellm_response_headers", None) or getattr(err.response, "headers", None)
        return Transient(f"{model.api_name}: {text}", retry_after_s(headers), status)
    return Refused(f"{model.api_name}: status {status}: {text}", status, body)

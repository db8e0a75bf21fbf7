"""Call models: the one place where requests are sent, spread, repeated and counted.

Comes in: a chat and settings. Goes out: the text of the answer, or a CallError on one line without keys.
Faults that may pass (network, 408/409/425/429, 5xx, torn answers) are tried again with backoff, for as long as the
server asks (Retry-After); what will not pass (wrong key, unknown model) fails at once. Where the requests a minute are
limited, every attempt waits for its turn.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import aiohttp
from aiolimiter import AsyncLimiter

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer, AnswerError
from sotopia_sdpo.llm.backends import Refused, Transient, Unreachable, call_direct, call_litellm, not_passed_on
from sotopia_sdpo.llm.endpoints import Endpoints
from sotopia_sdpo.llm.limits import DEFAULTS, Limits
from sotopia_sdpo.llm.omissions import Omissions
from sotopia_sdpo.llm.refusals import FORM, is_of_this_request, is_unexplained, refused_settings
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Usage, cost_of


FIRST_WAIT_S = 0.5
"""The longest wait after the first attempt; it doubles with every further one."""
LONGEST_WAIT_S = 30.0
LONGEST_RETRY_AFTER_S = 300.0
RETRY_AFTER_JITTER_S = 0.25
"""So that calls that were told the same do not come back at once."""
PROBE_ATTEMPTS = 4
PROBE_CHAT = [{"role": "user", "content": "Reply with the word ready."}]
PROBE_MAX_TOKENS = 16
SERVER_ERRORS = (500, 501)
ERRORS_WITH_FORM = 2
"""Server errors of one call before it is tried without a form."""


class NotThere(UserError):
    """A server does not answer, and may later."""


Chat = list[dict[str, str]]
"""Turns with `role` and `content`."""
T = TypeVar("T")


class Sampling(NamedTuple):
    """How an answer is drawn."""

    temperature: float
    seed: int | None = None
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    """The JSON schema of the answer; asked for where the server can do it."""
    schema_name: str = "answer"
    top_p: float | None = None
    top_k: int | None = None
    of_prompt: bool = False
    """Ask for the log-probabilities of the prompt, which ends with the chat's last turn (a way of vLLM's)."""

    def parameters(self) -> dict[str, Any]:
        """Return it as request fields, without what is not set."""
        fields: dict[str, Any] = {"temperature": self.temperature, "seed": self.seed, "max_tokens": self.max_tokens}
        fields |= {"top_p": self.top_p, "top_k": self.top_k}
        if self.of_prompt:
            fields |= {"prompt_logprobs": 0, "add_generation_prompt": False}
        if self.schema is not None:
            form = {"name": self.schema_name, "schema": self.schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": form}
        return {name: value for name, value in fields.items() if value is not None}


class LLMClient:
    """A connection pool with counters; use it in an `async with`."""

    def __init__(self, limits: Limits = DEFAULTS) -> None:
        """Set the limits of its calls; how many are in flight is the caller's to decide."""
        self.limits = limits
        self.total = Usage()
        self.repeated = 0
        """Attempts that failed and were made again."""
        self.simulated: set[str] = set()
        """Models whose answers come from a scripted server."""
        self._omissions = Omissions()
        self._without_usage: dict[str, None] = {}
        self._read: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._endpoints: dict[ModelSpec, Endpoints] = {}
        # Evenly spaced: a bucket of N would let 2 N through within a minute of the provider's.
        self._limiters: dict[str, AsyncLimiter] = defaultdict(lambda: AsyncLimiter(1, limits.spacing_s))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "LLMClient":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=self.limits.timeout_s)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def notes(self) -> list[str]:
        """What users should know about a model, such as a setting that its server refuses."""
        unknown = [f"{name}: answers do not say how many tokens they took" for name in self._without_usage]
        unusable = [
            f"{name}: {count:,} of {self._read[name]:,} answers ({count / self._read[name]:.1%}) were not in the "
            "form that was asked for"
            for name, count in self._unusable.items()
        ]
        return [*self._omissions.notes, *unknown, *unusable]

    def counting(self, model: ModelSpec, read: Callable[[str], T]) -> Callable[[str], T]:
        """Return what reads a model's answers, so that those which it cannot use are counted for the notes."""

        def counted(text: str) -> T:
            self._read[model.name] += 1
            try:
                return read(text)
            except AnswerError:
                self._unusable[model.name] += 1
                raise

        return counted

    @property
    def left_out(self) -> dict[str, dict[str, list[str]]]:
        """Return the settings that were left out of requests, by model and kind of question."""
        return self._omissions.by_model

    async def complete(
        self,
        model: ModelSpec,
        messages: Chat,
        sampling: Sampling,
        affinity: str = "",
        attempts: int | None = None,
    ) -> Answer:
        """Return one answer.

        Args:
            model: who is asked.
            messages: the chat.
            sampling: how the answer is drawn.
            affinity: calls with the same one prefer the same endpoint, whose prefix cache knows the chat.
            attempts: of this call, instead of the client's number.

        Raises:
            CallError: when the attempts are used up, or at once when another attempt cannot help.
        """
        last = attempts or self.limits.attempts
        errors = 0
        for attempt in range(1, last + 1):
            try:
                if errors >= ERRORS_WITH_FORM and self._may_be_form(model, sampling):
                    return await self._without_form(model, messages, sampling, affinity)
                return await self._attempt(model, messages, sampling, affinity)
            except Transient as err:
                if attempt == last:
                    raise
                errors += err.status in SERVER_ERRORS
                self.repeated += 1
                await asyncio.sleep(_wait_s(err, attempt))
        raise AssertionError("an LLMClient makes at least one attempt")

    async def probe(self, models: Iterable[ModelSpec]) -> list[str]:
        """Ask every endpoint of every model for a word, so that what cannot work is found before anything starts.

        Returns:
            What is wrong with endpoints that are not there, of models that have another one which is.

        Raises:
            UserError: the first fault, on one line.
        """
        specs = list(dict.fromkeys(models))
        gone = await asyncio.gather(*map(self._probe_endpoints, specs))
        return [note for notes in gone for note in notes]

    async def _probe_endpoints(self, model: ModelSpec) -> list[str]:
        """Ask all endpoints of a model; those that are not there may be while others are."""
        single = [model._replace(endpoints=(endpoint,)) for endpoint in model.endpoints] or [model]
        found = await asyncio.gather(*map(self._probe_one, single), return_exceptions=True)
        errors = [error for error in found if error is not None]
        for error in errors:
            if len(errors) == len(single) or not isinstance(error, NotThere):
                raise error
        return [f"{error}; the other servers of {model.api_name} are used until it is there" for error in errors]

    async def _probe_one(self, model: ModelSpec) -> None:
        """Ask one endpoint for a word."""
        where = f"{model.api_name} at {model.endpoints[0]}" if model.endpoints else model.api_name
        for attempt in range(1, PROBE_ATTEMPTS + 1):
            try:
                await self._attempt(model, PROBE_CHAT, Sampling(0.0, max_tokens=PROBE_MAX_TOKENS), "")
                return
            except Unreachable as err:
                raise NotThere(f"{where}: {err}; start the server or correct the address") from err
            except Refused as err:
                if is_of_this_request(err.status, err.body):
                    return
                raise UserError(f"{where}: {err}") from err
            except Transient as err:
                if attempt == PROBE_ATTEMPTS:
                    raise NotThere(f"{where}: {err}; {PROBE_ATTEMPTS} attempts failed, try again later") from err
                await asyncio.sleep(min(err.retry_after_s or _longest_wait_s(attempt), LONGEST_WAIT_S))

    async def _attempt(self, model: ModelSpec, messages: Chat, sampling: Sampling, affinity: str) -> Answer:
        """Send one request; a setting that the server refuses is left out from then on."""
        name, question = model.name, sampling.schema_name
        while True:
            fields = self._fields(model, sampling)
            try:
                answer = await self._send(model, messages, fields, affinity)
            except Refused as err:
                if refused := refused_settings(err.status, err.body, fields, messages):
                    self._omissions.add(name, question, fields, refused, err.body)
                # By what was sent: another request may have given the form up meanwhile.
                elif is_unexplained(err.status, err.body) and self._omissions.may_be_form(name, question, fields):
                    return await self._after_refusal(err, model, messages, sampling, affinity)
                else:
                    raise
            else:
                self._omissions.works(name, question, fields)
                return answer

    def _fields(self, model: ModelSpec, sampling: Sampling) -> dict[str, Any]:
        """Return the request fields that reach the model, as far as is known."""
        name, question = model.name, sampling.schema_name
        fields = self._omissions.fields(name, question, sampling.parameters())
        if model.endpoints or not self._omissions.is_new(name, question, fields):
            return fields
        lost = not_passed_on(model, fields)
        self._omissions.add(name, question, fields, lost, why="litellm does not pass {} on to this provider")
        return {one: value for one, value in fields.items() if one not in lost}

    def _may_be_form(self, model: ModelSpec, sampling: Sampling) -> bool:
        """Return whether a fault may be due to the form of the answer, which the server has never given yet."""
        fields = self._omissions.fields(model.name, sampling.schema_name, sampling.parameters())
        return self._omissions.may_be_form(model.name, sampling.schema_name, fields)

    async def _after_refusal(
        self, refused: Refused, model: ModelSpec, messages: Chat, sampling: Sampling, affinity: str
    ) -> Answer:
        """Try a refused request without the form of its answer; if that does not help, the refusal stands."""
        try:
            return await self._without_form(model, messages, sampling, affinity)
        except Refused:
            raise refused from None

    async def _without_form(self, model: ModelSpec, messages: Chat, sampling: Sampling, affinity: str) -> Answer:
        """Send one request without the form of its answer, which is left out from then on if this works."""
        answer = await self._attempt(model, messages, sampling._replace(schema=None), affinity)
        if self._may_be_form(model, sampling):
            self._omissions.add(model.name, sampling.schema_name, sampling.parameters(), [FORM])
        return answer

    async def _send(self, model: ModelSpec, messages: Chat, fields: dict[str, Any], affinity: str) -> Answer:
        """Send one request when the model's pace lets it, and count what it took."""
        if self.limits.requests_per_minute:
            await self._limiters[model.name].acquire()
        if not model.endpoints:
            answer = await call_litellm(model, messages, fields, self.limits.timeout_s)
        else:
            assert self._session is not None, "an LLMClient is used in an `async with`"
            endpoints = self._endpoints.setdefault(model, Endpoints(model.endpoints))
            with endpoints.lease(affinity) as url:
                answer = await call_direct(self._session, model, url, messages, fields)
        if not model.is_custom:
            tokens = answer.usage.prompt_tokens, answer.usage.completion_tokens
            answer = answer._replace(usage=answer.usage._replace(cost=cost_of(model.api_name, *tokens)))
        self.total = self.total.plus(answer.usage)
        if answer.usage.tokens is None:
            self._without_usage[model.name] = None
        if answer.is_simulated:
            self.simulated.add(model.name)
        return answer


def _wait_s(error: Transient, attempt: int) -> float:
    """Return how long to wait: as the server asks, else a random time whose bound doubles with every attempt."""
    if error.retry_after_s is not None:
        return min(error.retry_after_s, LONGEST_RETRY_AFTER_S) + random.uniform(0, RETRY_AFTER_JITTER_S)
    longest = _longest_wait_s(attempt)
    return random.uniform(longest / 2, longest)


def _longest_wait_s(attempt: int) -> float:
    """Return the bound of the wait after an attempt, counted from 1."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1))

"""Model names as users type them, and what of them may be seen."""

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.redact import redact
from sotopia_sdpo.llm.spec import name_of, parse_model, short_name
from sotopia_sdpo.llm.usage import Usage, money


def test_one_address() -> None:
    spec = parse_model("custom/org/m@http://127.0.0.1:8000/v1/")
    assert (spec.api_name, spec.endpoints) == ("org/m", ("http://127.0.0.1:8000/v1",))
    assert spec.name == "custom/org/m@http://127.0.0.1:8000/v1/" and short_name(spec.name) == "m"


def test_several_addresses_are_not_part_of_the_name() -> None:
    spec = parse_model("custom/m@http://a:1/v1,http://b:2/v1/")
    assert spec.endpoints == ("http://a:1/v1", "http://b:2/v1") and spec.name == "custom/m"
    assert name_of("custom/m") == "custom/m"


def test_other_names_are_litellms_unless_a_base_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert parse_model("gpt-4o").endpoints == () and parse_model("together_ai/x").api_name == "together_ai/x"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://h/v1/")
    assert parse_model("gpt-4o").endpoints == ("http://h/v1",) and parse_model("together_ai/x").endpoints == ()


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUSTOM_API_KEY", raising=False)
    spec = parse_model("custom/m@http://a/v1")
    assert spec.key == "EMPTY"
    monkeypatch.setenv("CUSTOM_API_KEY", "k")
    assert spec.key == "k"


BROKEN = [f"custom/m@http://{host}/v1" for host in ("[::1", "h:99999", "u:secret@h:abc")]


@pytest.mark.parametrize(
    "typed", ["", " ", "custom/", "custom/m", "custom/@http://h", "custom/m@ftp://h", "custom/m@h:1", *BROKEN]
)
def test_what_is_no_model_is_refused(typed: str) -> None:
    with pytest.raises(UserError) as found:
        parse_model(typed)
    assert "secret" not in str(found.value)


def test_secrets_do_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_API_KEY", "abcd-1234-efgh")
    text = redact(
        "no\nway: abcd-1234-efgh, Bearer abcdef123456, sk-proj-0123456789, http://u:p@host/v1, api_key='zzzzzzzz'"
    )
    for secret in ("abcd-1234", "abcdef123456", "sk-proj", "u:p@", "zzzz"):
        assert secret not in text
    assert "\n" not in text and "host/v1" in text and len(redact("x" * 1000)) <= 400


def test_a_sum_with_an_unknown_price_is_unknown() -> None:
    assert Usage(1, 2, 3, 0.5).plus(Usage(1, 1, 1, 0.25)) == Usage(2, 3, 4, 0.75)
    assert money(Usage(cost=0.5).plus(Usage(cost=None)).cost) == "cost unknown" and money(0.5) == "$0.50"

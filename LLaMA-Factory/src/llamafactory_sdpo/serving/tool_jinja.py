"""Write as jinja what the host's python writes for tools and for calls.

The host writes them for two made-up tools and calls; what stands around the JSON of each is taken over. The form whose
tools are no JSON is written out here. What takes a loop over arguments, or any other way, has no jinja: `None`. The
probe compares what comes out with the host's own writing, so nothing here needs to be trusted.
"""

import json
from datetime import datetime
from typing import Any

from ..data.rendering import TemplateParts


DATE_FORMAT = "%d %b %Y"
"""Llama 3's tools begin with today's date."""

MADE_UP = [
    {"name": f'tool"{end}', "description": f"what {end}", "parameters": {"type": "object", "properties": {}}}
    for end in ("one", "two")
]
ARGUMENTS = [{"value": end} for end in ("first", "second")]


def literal(text: str) -> str:
    """Return a jinja string; its escapes are those of JSON for all that json.dumps writes."""
    return json.dumps(text, ensure_ascii=False)


def tools_jinja(parts: TemplateParts) -> str | None:
    """Return jinja that writes the list `tools`."""
    wrapped = [{"type": "function", "function": tool} for tool in MADE_UP]
    text = parts.write_tools(json.dumps(wrapped, ensure_ascii=False))
    for shape, name in ((wrapped, "tool"), (MADE_UP, "tool['function']")):
        for indent in (None, 4):
            dumped = [json.dumps(tool, ensure_ascii=False, indent=indent) for tool in shape]
            if all(text.count(each) == 1 for each in dumped):
                value = f"{name} | tojson(indent={indent or 'none'})"
                return _list("tool", "tools", _between(text, dumped), value, "tool['function']['name']")
    return _described(parts)


def calls_jinja(parts: TemplateParts) -> str | None:
    """Return jinja that writes the calls of `message`."""
    made_up = [{"name": tool["name"], "arguments": each} for tool, each in zip(MADE_UP, ARGUMENTS, strict=True)]
    calls, value, name = "message['tool_calls']", "call['function']['arguments'] | tojson", "call['function']['name']"

    def loop(count: int) -> str | None:
        texts = _between(parts.write_calls(json.dumps(made_up[:count])), list(map(json.dumps, ARGUMENTS[:count])))
        return _list("call", calls, texts, value, name)

    try:
        several = loop(2)
    except ValueError as err:  # the host's word for calls that a form cannot hold
        several = f"{{{{ raise_exception({literal(str(err))}) }}}}"
    one = loop(1)
    if one is None or several is None:
        return None
    return f"{{% if {calls} | length == 1 %}}{one}{{% else %}}{several}{{% endif %}}"


def _between(text: str, values: list[str]) -> list[str] | None:
    """Return what stands before, between and after values; None if one is not there exactly once."""
    found = []
    for value in values:
        before, there, text = text.partition(value)
        if not there or value in text:
            return None
        found.append(before)
    return [*found, text]


def _list(item: str, items: str, texts: list[str] | None, value: str, name: str) -> str | None:
    """Return a loop over items, in whose texts made-up names are the items' own."""
    if texts is None:
        return None
    pieces = [_named(text, str(tool["name"]), name) for text, tool in zip(texts, MADE_UP, strict=False)]
    begin = (
        f"{{% if loop.first %}}{{{{ {pieces[0]} }}}}{{% else %}}{{{{ {pieces[1]} }}}}{{% endif %}}"
        if len(texts) > 2
        else f"{{{{ {pieces[0]} }}}}"
    )
    return f"{{% for {item} in {items} %}}{begin}{{{{ {value} }}}}{{% endfor %}}{{{{ {literal(texts[-1])} }}}}"


def _named(text: str, made_up: str, name: str) -> str:
    """Return a jinja expression for a text in which a name, as it is or as JSON, and a date are filled in."""
    marks = {
        json.dumps(made_up): f"({name} | tojson)",
        made_up: name,
        datetime.now().strftime(DATE_FORMAT): f"strftime_now({literal(DATE_FORMAT)})",
    }
    for mark, expression in marks.items():
        if mark in text:
            before, _, after = text.partition(mark)
            return f"{_named(before, made_up, name)} ~ {expression} ~ {_named(after, made_up, name)}"
    return literal(text)


def _described(parts: TemplateParts) -> str | None:
    """Return jinja for the form that describes tools in words, or None if it is not the template's."""
    blank: list[dict[str, Any]] = [{**tool, "description": "", "parameters": {"properties": {}}} for tool in MADE_UP]
    text = parts.write_tools(json.dumps(blank))
    described = "".join(f"> Tool Name: {tool['name']}\nTool Description: \nTool Args:\n\n" for tool in blank)
    pieces = _between(text, [described, ", ".join(tool["name"] for tool in blank)])
    if pieces is None:
        return None
    before, middle, after = map(literal, pieces)
    return (
        f"{{{{ {before} }}}}{{% for tool in tools %}}{{% set function = tool['function'] %}}"
        "{% set parameters = function['parameters'] %}"
        '{{ "> Tool Name: " ~ function["name"] ~ "\\nTool Description: " ~ function.get("description", "") '
        '~ "\\nTool Args:\\n" }}'
        "{% for key, value in parameters['properties'].items() %}"
        '{{ "  - " ~ key ~ " (" ~ value.get("type", "") }}'
        "{% if key in parameters.get('required', []) %}{{ ', required' }}{% endif %}"
        '{{ "): " ~ value.get("description", "") }}'
        "{% if value.get('enum') %}{{ ', should be one of [' ~ value['enum'] | join(', ') ~ ']' }}{% endif %}"
        "{% if value.get('items') %}"
        "{{ ', where each item should be ' ~ value['items'].get('type', '') }}{% endif %}"
        '{{ "\\n" }}{% endfor %}{{ "\\n" }}{% endfor %}'
        f"{{{{ {middle} ~ tools | map(attribute='function.name') | join(', ') ~ {after} }}}}"
    )

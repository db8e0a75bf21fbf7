"""Write a template of the host as the jinja that a server renders.

The parts of a template (`host.serving.template_parts`) become one jinja text. Its rendering of a dialogue, up to the
agent's next turn, is the text that training encoded: the default system message, the numbers of the rounds, and the
empty thought of a reasoning template before every agent turn are where training had them. What training never saw (two
turns of one side, tools, an ending on an agent turn) is refused.
"""

import json
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # heavy
    from ..host.serving import TemplateParts

CONTENT, ROUND = "{{content}}", "{{idx}}"
"""The host's marks in the text of a turn."""


def render_jinja(parts: "TemplateParts") -> str:
    """Return the chat template."""
    system = _filled(parts.system, "system")
    before_turns, human = f"{{% if system %}}{{{{ {system} }}}}{{% endif %}}", "content"
    if parts.system_in_first_turn:
        before_turns, human = "", f"((({system}) if system and loop.first else '') ~ content)"
    lines = [
        "{% if tools %}{{ raise_exception('tools are not part of this template') }}{% endif %}",
        f"{{% set default_system = {_literal(parts.default_system)} %}}",
        "{% if messages and messages[0]['role'] == 'system' %}"
        "{% set system = messages[0]['content'] or default_system %}{% set turns = messages[1:] %}"
        "{% else %}{% set system = default_system %}{% set turns = messages %}{% endif %}",
        f"{{{{ {_literal(parts.prefix)} }}}}",
        before_turns,
        "{% for message in turns %}{% set content = message['content'] %}"
        "{% if message['role'] != ('assistant' if loop.index0 % 2 else 'user') %}"
        "{{ raise_exception('a dialogue alternates user, assistant, user, ...') }}"
        "{% elif content is not string %}{{ raise_exception('a turn is text') }}"
        "{% elif message['role'] == 'user' %}",
        f"{{{{ {_filled(parts.user, human)} }}}}",
        "{% else %}",
        _agent_turn(parts),
        "{% endif %}{% endfor %}",
        _ending(parts),
    ]
    return "".join(lines)


def _agent_turn(parts: "TemplateParts") -> str:
    """Return an agent turn of the history, with the thought that training put before it."""
    turn = f"{{{{ {_filled(parts.assistant, 'content')} }}}}"
    if not parts.thought:
        return turn
    start, end = (_literal(word.strip()) for word in parts.thought_words)
    return (
        (_without_thoughts(parts) if parts.strips_thoughts else "")
        + f"{{% if {start} not in content and {end} not in content %}}{{{{ {_literal(parts.thought)} }}}}{{% endif %}}"
        + turn
    )


def _without_thoughts(parts: "TemplateParts") -> str:
    """Return what takes whole thoughts out of `content`, and then its leading newlines, as the host does."""
    start, end = map(_literal, parts.thought_words)
    return (
        "{% set ns = namespace(kept='', rest=content) %}"
        f"{{% for _ in content.split({start}) %}}"
        f"{{% set before, mark, after = ns.rest.partition({start}) %}}"
        f"{{% if mark and {end} in after %}}"
        f"{{% set ns.kept = ns.kept ~ before %}}{{% set ns.rest = after.partition({end})[2] %}}"
        "{% endif %}{% endfor %}"
        "{% set content = (ns.kept ~ ns.rest).lstrip('\\n') %}"
    )


def _ending(parts: "TemplateParts") -> str:
    """Return what stands between the last human turn and the agent's next one; a chat that ends otherwise is refused.

    Without `add_generation_prompt` a client goes on with an agent turn that it has begun.
    """
    check = (
        "{% if not turns or (add_generation_prompt and turns[-1]['role'] != 'user') %}"
        "{{ raise_exception('a chat ends on a user turn') }}{% endif %}"
    )
    if not (parts.thought and parts.prompts_with_thought):
        return check
    return check + f"{{% if turns[-1]['role'] == 'user' %}}{{{{ {_literal(parts.thought)} }}}}{{% endif %}}"


def _filled(text: str, content: str) -> str:
    """Return a jinja expression for a text with its first CONTENT and ROUND filled in."""
    before, has_content, after = text.partition(CONTENT)
    pieces = [_numbered(before), *([f"({content})", _numbered(after)] if has_content else [])]
    return " ~ ".join(pieces)


def _numbered(text: str) -> str:
    before, has_round, after = text.partition(ROUND)
    return f"{_literal(before)} ~ (loop.index0 // 2) ~ {_literal(after)}" if has_round else _literal(before)


def _literal(text: str) -> str:
    """Return a jinja string; its escapes are those of JSON for all that json.dumps writes."""
    return json.dumps(text, ensure_ascii=False)

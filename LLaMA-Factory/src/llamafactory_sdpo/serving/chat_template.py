"""Write a template of the host as the jinja that a server renders.

The parts of a template become one jinja text. Its rendering of a dialogue, up to the agent's next turn, is the text
that training encoded: the default system message, tools and calls, what stands between several messages of the
partner's, and the empty thought of a reasoning template before every agent turn are where training had them. What
training never saw (two turns of one side, an ending on an agent turn) is refused, and so is what the template has no
form for, by its name.
"""

from ..data.rendering import (
    CONTENT,
    NO_OPENING,
    NO_RETURN,
    NO_ROW,
    NO_SYSTEM,
    NO_TEXT,
    TemplateParts,
)
from .tool_jinja import calls_jinja, literal, tools_jinja


def render_jinja(parts: TemplateParts, no_tools: str = "") -> str:
    """Return the chat template; with `no_tools`, tools, calls and results are refused with it as the reason."""
    no_tools = no_tools or no_jinja(parts)
    lines = [
        _tools(parts, no_tools),
        f"{{% set default_system = {literal(parts.default_system)} %}}",
        "{% if messages and messages[0]['role'] == 'system' %}"
        "{% set system = messages[0]['content'] or default_system %}{% set turns = messages[1:] %}"
        "{% else %}{% set system = default_system %}{% set turns = messages %}{% endif %}",
        f"{{{{ {literal(parts.prefix)} }}}}",
        f"{{% set system = ({_filled(parts.system, 'system ~ tool_text')}) if system or tools else '' %}}",
        _before_turns(parts),
        "{% set state = namespace(before='') %}",
        "{% for message in turns %}{% set role = message['role'] %}{% set content = message['content'] %}"
        "{% set follows = loop.nextitem['role'] if loop.nextitem else '' %}",
        _order(),
        "{% if role == 'user' %}",
        _human(parts),
        "{% elif role == 'tool' %}",
        _refused(no_tools) or _result(parts),
        "{% else %}",
        _agent_turn(parts, no_tools),
        "{% endif %}{% set state.before = role %}{% endfor %}",
        _ending(parts),
    ]
    return "".join(lines)


def no_jinja(parts: TemplateParts) -> str:
    """Return why a server that renders jinja takes no tools, '' if it can."""
    if tools_jinja(parts) is not None and calls_jinja(parts) is not None:
        return ""
    form = f"tools of the form {parts.tool_format} of template {parts.name}"
    return f"{form} are written by python alone; infer_backend=huggingface takes them"


def _refused(reason: str) -> str:
    return f"{{{{ raise_exception({literal(reason)}) }}}}" if reason else ""


def _tools(parts: TemplateParts, no_tools: str) -> str:
    """Return what writes `tools` into `tool_text`; a server adds nulls to them for what a request leaves out."""
    text = _refused(no_tools) or (
        "{% set ns = namespace(tools=[]) %}{% for tool in tools %}"
        "{% set function = dict(tool['function'].items() | rejectattr(1, 'none')) %}"
        "{% set ns.tools = ns.tools + [{'type': 'function', 'function': function}] %}{% endfor %}"
        f"{{% set tools = ns.tools %}}{tools_jinja(parts)}"
    )
    return f"{{% set tool_text %}}{{% if tools %}}{text}{{% endif %}}{{% endset %}}"


def _before_turns(parts: TemplateParts) -> str:
    """Return what writes the system message, unless it belongs into the first human turn, and opens the agent's."""
    if parts.system_in_first_turn:
        text = "{% if system and (not turns or turns[0]['role'] != 'user') %}"
        text += f"{_refused(parts.refusal(NO_SYSTEM))}{{% endif %}}"
    else:
        text = "{{ system }}"
    opening = f"{{{{ {literal(parts.header)} }}}}" if parts.header else _refused(parts.refusal(NO_OPENING))
    return f"{text}{{% if not turns or turns[0]['role'] == 'assistant' %}}{opening}{{% endif %}}"


def _order() -> str:
    """Return the check of a turn's place, as of `reading.FOLLOWERS`, and of its content."""
    return (
        "{% if role not in ('user', 'tool', 'assistant') or (role == 'user' and state.before == 'user') "
        "or (role == 'tool' and state.before == 'user') or (role == 'assistant' and state.before == 'assistant') %}"
        "{{ raise_exception('a dialogue alternates user, assistant, user, ...; results of tools may stand before') }}"
        "{% endif %}"
        "{% if content is none and message['tool_calls'] %}{% set content = '' %}{% endif %}"
        "{% if content is not string %}{{ raise_exception('a turn is text') }}{% endif %}"
    )


def _human(parts: TemplateParts) -> str:
    content = "((system if loop.first else '') ~ content)" if parts.system_in_first_turn else "content"
    returns = (
        f"{{% if state.before == 'tool' %}}{_refused(parts.refusal(NO_RETURN))}{{% endif %}}"
        if parts.result_ending is None
        else ""
    )
    return f"{returns}{{{{ {_filled(parts.user, content)} }}}}"


def _result(parts: TemplateParts) -> str:
    """Return a result of a tool: after the first of a row its beginning is part of what stands between."""
    before, _, after = parts.observation.partition(CONTENT)

    def text(known: str | None, what: str) -> str:
        return _refused(parts.refusal(what)) if known is None else f"{{{{ {literal(known)} }}}}"

    return (
        f"{{% if state.before != 'tool' %}}{{{{ {literal(before)} }}}}{{% endif %}}{{{{ content }}}}"
        f"{{% if follows == 'tool' %}}{text(parts.between_results, NO_ROW)}"
        f"{{% elif follows == 'user' %}}{text(parts.result_ending, NO_RETURN)}"
        f"{{% else %}}{{{{ {literal(after)} }}}}{{% endif %}}"
    )


def _agent_turn(parts: TemplateParts, no_tools: str) -> str:
    """Return an agent turn of the history, with the thought that training put before it."""
    end = literal(parts.thought_words[1])
    separate = (
        "{% set content = content if content.endswith(" + end + ") else content.rstrip('\\n') ~ '\\n' %}"
        "{% if content == '\\n' %}{% set content = '' %}{% endif %}"
    )
    refuse_text = (
        "" if parts.says_before_calls else f"{{% if content %}}{_refused(parts.refusal(NO_TEXT))}{{% endif %}}"
    )
    return (
        f"{{% if message['tool_calls'] %}}{_refused(no_tools) or separate + refuse_text}{{% endif %}}"
        f"{_thought(parts)}"
        "{% if message['tool_calls'] %}"
        f"{{% set calls %}}{calls_jinja(parts) or ''}{{% endset %}}"
        f"{{{{ {_filled(parts.function, 'content ~ calls')} }}}}"
        f"{{% else %}}{{{{ {_filled(parts.assistant, 'content')} }}}}{{% endif %}}"
    )


def _thought(parts: TemplateParts) -> str:
    if not parts.thought:
        return ""
    start, end = (literal(word.strip()) for word in parts.thought_words)
    return (
        _without_thoughts(parts) if parts.strips_thoughts else ""
    ) + f"{{% if {start} not in content and {end} not in content %}}{{{{ {literal(parts.thought)} }}}}{{% endif %}}"


def _without_thoughts(parts: TemplateParts) -> str:
    """Return what takes whole thoughts out of `content`, and then its leading newlines, as the host does."""
    start, end = map(literal, parts.thought_words)
    return (
        "{% set ns = namespace(kept='', rest=content) %}"
        f"{{% for _ in content.split({start}) %}}"
        f"{{% set before, mark, after = ns.rest.partition({start}) %}}"
        f"{{% if mark and {end} in after %}}"
        f"{{% set ns.kept = ns.kept ~ before %}}{{% set ns.rest = after.partition({end})[2] %}}"
        "{% endif %}{% endfor %}"
        "{% set content = (ns.kept ~ ns.rest).lstrip('\\n') %}"
    )


def _ending(parts: TemplateParts) -> str:
    """Return what stands before the agent's next turn; a chat that ends on one of its turns is refused.

    Without `add_generation_prompt` a client goes on with an agent turn that it has begun.
    """
    check = (
        "{% if add_generation_prompt and state.before == 'assistant' %}"
        "{{ raise_exception('a chat ends on a user turn') }}{% endif %}"
    )
    if not (parts.thought and parts.prompts_with_thought):
        return check
    return check + f"{{% if state.before != 'assistant' %}}{{{{ {literal(parts.thought)} }}}}{{% endif %}}"


def _filled(text: str, content: str) -> str:
    """Return a jinja expression for a text with its first CONTENT filled in."""
    before, has_content, after = text.partition(CONTENT)
    return f"{literal(before)} ~ ({content}) ~ {literal(after)}" if has_content else literal(before)

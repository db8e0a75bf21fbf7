"""The acts of the scripted world, the words for each, and how an act is heard in words.

Comes in: what somebody said or did. Goes out: one act. Invariant: every phrase here is heard as the act it stands
for, whatever fills its blanks (tests check each), and any other text is heard as some act by its key words.
"""

import re

from sotopia_sdpo.play.actions import Action


GREET, ASK, SHARE = "greet", "ask", "share"
FAIR, GREEDY, CONCEDE = "fair offer", "greedy offer", "concede"
RUDE, APOLOGISE = "rude", "apologise"
ACCEPT, DECLINE, LEAVE = "accept", "decline", "leave"
OTHER = "other"
OFFERS = (FAIR, GREEDY, CONCEDE)

PHRASES: dict[str, tuple[str, ...]] = {
    GREET: (
        "Hello {name}, good to see you here.",
        "Hi {name}! I am glad we found a moment for this.",
        "Good morning {name}, thank you for making the time.",
    ),
    ASK: (
        "Before we go on, what matters most to you about the {thing}?",
        "What do you need when it comes to the {thing}, {name}?",
        "Tell me, how do you see the {thing}, and what would help you?",
        "I would like to understand you first: what is on your mind about the {thing}?",
    ),
    SHARE: (
        "To be open with you, the {thing} matters to me more than I usually say.",
        "I care about the {thing} because I have waited a long time for it.",
        "I will be honest, {name}: the {thing} is important to me, the rest much less.",
    ),
    FAIR: (
        "How about we meet in the middle over the {thing}, so that we both win something?",
        "Let us split the {thing} evenly; that would be right for both of us.",
        "My proposal is that each of us gets half of the {thing}.",
    ),
    GREEDY: (
        "I want all of the {thing} for myself, nothing less.",
        "The {thing} goes my way entirely; I insist on it.",
        "Here is my offer: I take the whole {thing} and you take what is left over.",
    ),
    CONCEDE: (
        "Then I give in: you can have the {thing} the way you like it.",
        "I can live without the {thing}, so have it your way, {name}.",
        "I will step back on the {thing}; take it, with my good wishes.",
    ),
    RUDE: (
        "That is ridiculous, {name}, and you are wasting my time with the {thing}.",
        "Only a fool would talk about the {thing} like that.",
        "Your nonsense about the {thing} is selfish, as always.",
    ),
    APOLOGISE: (
        "I am sorry, {name}, I went too far just now.",
        "I apologise for my tone; you did not deserve it.",
        "Forgive me, that was out of line, {name}.",
    ),
    ACCEPT: (
        "Agreed, that works for me, {name}.",
        "I accept, and I am happy with how we settle the {thing}.",
        "It is a deal. We have settled the {thing}.",
    ),
    DECLINE: (
        "I have to say no to that, {name}.",
        "I cannot accept this about the {thing}, not the way things are between us.",
        "No deal; the {thing} does not work for me like that.",
    ),
}

# The first pattern that is found decides, so what could be mistaken for something else stands first.
HEARD: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (act, re.compile(pattern, re.IGNORECASE))
    for act, pattern in (
        (RUDE, r"ridiculous|wasting my time|\bfool\b|nonsense|selfish|\bstupid|\bidiot|shut up"),
        (APOLOGISE, r"\bsorry\b|apologi[sz]e|forgive me"),
        (DECLINE, r"\bno deal\b|say no to|can(?:not|'t) accept|can(?:not|'t) agree|won't (?:accept|agree)|i refuse"),
        (ACCEPT, r"\bagreed\b|\bi accept\b|(?:it is|it's) a deal|that works for me|you have a deal"),
        (CONCEDE, r"\bi give in\b|live without|have it your way|step back on|you can have"),
        (GREEDY, r"\bi want all\b|\bmy way\b|\bi insist\b|\bthe whole\b|nothing less|all for myself"),
        (FAIR, r"in the middle|\bsplit\b|\bevenly\b|\bhalf\b|each of us|both of us|compromise"),
        (ASK, r"\b(?:what|how|which|why|tell me)\b.*\?|\?\s*$"),
        (SHARE, r"matters to me|i care about|be honest|important to me|i need|i feel|because"),
        (GREET, r"^(?:hello|hi|hey|good (?:morning|evening|day))\b|good to see you"),
    )
)


def heard(action: Action) -> str:
    """Return the act that an action is."""
    if action.action_type == "leave":
        return LEAVE
    if action.action_type == "none":
        return OTHER
    return next((act for act, pattern in HEARD if pattern.search(action.argument)), OTHER)


def say(act: str, pick: float, name: str, thing: str) -> Action:
    """Return the words for an act; `pick` in [0, 1) chooses the phrase."""
    if act == LEAVE:
        return Action("leave")
    phrases = PHRASES[act]
    return Action("speak", phrases[int(pick * len(phrases))].format(name=name, thing=thing))

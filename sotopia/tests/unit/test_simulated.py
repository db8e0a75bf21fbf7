"""The scripted world: every phrase is heard as its act, the rules give the published figures, order changes nothing."""

import json
import random

import pytest

from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.play.actions import Action, parse_answer
from sotopia_sdpo.play.dialogue import Session, chat_of, load_template
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.draws import draws
from sotopia_sdpo.simulated.faults import Faults, Occasions, break_json, push_out_of_range
from sotopia_sdpo.simulated.policy import Character, next_act
from sotopia_sdpo.simulated.replies import ChatRequest, answer, request_of
from sotopia_sdpo.simulated.rules import Conduct, is_taken, scores, stand


BACKGROUND = (
    "Here is the context of this interaction:\nScenario: Two people talk about one blanket.\n"
    "Participants: Ann Lee and Bo Ray\nAnn Lee's background: a baker\nBo Ray's background: Unknown\n"
    "Ann Lee's goal: Get it\nBo Ray's goal: Unknown"
)
OTHER_SIDE = BACKGROUND.replace("Ann Lee's goal: Get it", "Ann Lee's goal: Unknown").replace(
    "Bo Ray's goal: Unknown", "Bo Ray's goal: Keep it"
)
SESSION = Session(("Ann Lee", "Bo Ray"), (BACKGROUND, OTHER_SIDE), ())


@pytest.mark.parametrize("act", acts.PHRASES)
def test_every_phrase_is_heard_as_its_act(act: str) -> None:
    for i in range(len(acts.PHRASES[act])):
        for thing in ("blanket", "camera", "harvest"):
            said = acts.say(act, (i + 0.5) / len(acts.PHRASES[act]), "Greta", thing)
            assert acts.heard(said) == act, said


def test_leaving_and_silence_are_acts() -> None:
    assert acts.heard(acts.say(acts.LEAVE, 0.0, "Bo", "x")) == acts.LEAVE
    assert acts.heard(Action("none")) == acts.OTHER


def test_trust_decides_about_offers() -> None:
    """Asked and shared: 2. A rude act costs 2 until the apology, a greedy offer costs 1 for good."""
    assert Conduct((acts.ASK, acts.SHARE)).trust == 2
    assert Conduct((acts.ASK, acts.SHARE, acts.RUDE)).trust == 0
    assert Conduct((acts.ASK, acts.RUDE, acts.APOLOGISE, acts.GREEDY)).trust == 0
    assert is_taken(acts.FAIR, Conduct((acts.ASK,))) and not is_taken(acts.FAIR, Conduct((acts.GREET,)))
    assert is_taken(acts.CONCEDE, Conduct()) and not is_taken(acts.CONCEDE, Conduct((acts.GREEDY,)))


def test_scores_of_a_good_session() -> None:
    """Ann asks, offers fairly, Bo accepts. Ann: 2 + 5 + 2 = 9; Bo, who did not ask: 2 + 5 = 7."""
    events = [(0, acts.ASK), (1, acts.SHARE), (0, acts.FAIR), (1, acts.ACCEPT)]
    assert stand(events).deal == (0, acts.FAIR, (True, False))
    assert (scores(events, 0)["goal"], scores(events, 1)["goal"]) == (9, 7)
    assert (scores(events, 0)["relationship"], scores(events, 1)["relationship"]) == (2, 2)


def test_scores_of_a_bad_session() -> None:
    """Rude twice, greedy once, no deal: goal 2 - 2 = 0, relationship -1 - 4 = -5, social rules -4."""
    events = [(0, acts.RUDE), (1, acts.DECLINE), (0, acts.GREEDY), (1, acts.DECLINE), (0, acts.RUDE), (1, acts.LEAVE)]
    found = scores(events, 0)
    assert (found["goal"], found["relationship"], found["social_rules"]) == (0, -5, -4)


def test_scores_stay_in_range() -> None:
    rng = random.Random(0)
    names = [*acts.PHRASES, acts.LEAVE, acts.OTHER]
    for _ in range(300):
        events = [(i % 2, rng.choice(names)) for i in range(20)]
        for dimension in DIMENSIONS:
            assert dimension.low <= scores(events, 0)[dimension.name] <= dimension.high


def test_a_careful_agent_asks_before_it_offers() -> None:
    def never(_: str) -> float:
        return 0.0

    careful, events, seen = Character(1.0, 0.0, 14), [], []
    for answer_of_other in (acts.ASK, acts.SHARE, acts.SHARE, acts.GREET):
        seen.append(next_act(events, 0, careful, never))
        events += [(0, seen[-1]), (1, answer_of_other)]
    assert seen == [acts.GREET, acts.SHARE, acts.ASK, acts.FAIR]


def ask(model: str, session: Session, position: int, seed: int = 0, drawn: int | None = None) -> str:
    """Ask the scripted agent for its next action."""
    return answer(ChatRequest(model, chat_of(session, position, load_template()), 0.7, drawn), seed)


def play(model: str, seed: int = 0) -> Session:
    """Let two scripted agents talk to each other."""
    session = SESSION
    while len(session.actions) < 20 and (not session.actions or session.actions[-1].action_type != "leave"):
        action = parse_answer(ask(model, session, len(session.actions) % 2, seed, len(session.actions)))
        session = session._replace(actions=(*session.actions, action))
    return session


def test_answers_depend_on_seed_model_and_content_only() -> None:
    first = play("alpha")
    assert play("alpha") == first
    assert len({play(f"model {i}").actions for i in range(5)}) > 3
    assert len({play("alpha", seed) for seed in range(5)}) > 3
    assert all(action.action_type in ("speak", "leave") for action in first.actions)


def test_the_seed_of_a_request_counts_above_temperature_zero() -> None:
    chat = chat_of(SESSION, 0, load_template())
    warm = {answer(ChatRequest("a", chat, 1.0, seed), 0) for seed in range(20)}
    cold = {answer(ChatRequest("a", chat, 0.0, seed), 0) for seed in range(20)}
    assert len(warm) > 1 and len(cold) == 1


def test_both_sides_know_who_they_are() -> None:
    assert "Bo" in ask("m", SESSION, 0) or "blanket" in ask("m", SESSION, 0)
    greeted = SESSION._replace(actions=(acts.say(acts.ASK, 0.5, "Bo", "blanket"),))
    reply = {acts.heard(parse_answer(ask("m", greeted, 1, drawn=i))) for i in range(40)}
    assert acts.SHARE in reply


def test_an_evaluator_scores_in_our_form_and_in_upstreams() -> None:
    history = 'Turn #1\nAnn Lee said: "What do you need, Bo?"\nTurn #2\nBo Ray said: "I need it, because\nit is cold."'
    prompt = f"{BACKGROUND}\n{history}\nRate believability, social_rules"
    found = json.loads(answer(ChatRequest("j", [{"role": "user", "content": prompt}], 0.0, None), 0))
    assert "Ann Lee: ask" in found["agent_1"]["goal"]["reasoning"]
    assert "Bo Ray: share" in found["agent_2"]["goal"]["reasoning"]
    upstream = answer(ChatRequest("j", [{"role": "user", "content": prompt + ' "evaluations"'}], 0.0, None), 0)
    assert json.loads(upstream)["evaluations"]["agent_1"]["goal"][1] == found["agent_1"]["goal"]["score"]


def test_faults_come_at_their_rates_and_anew_for_a_repeated_request() -> None:
    faults, occasions = Faults(rate_429=0.1, rate_500=0.2, rate_broken_json=0.1), Occasions()
    found = [faults.fault(occasions.draw_for(0, f"content {i}")) for i in range(4000)]
    assert 0.08 < found.count("429") / 4000 < 0.12 and 0.17 < found.count("500") / 4000 < 0.23
    again = Occasions()
    same = [faults.fault(again.draw_for(0, f"content {i}")) for i in reversed(range(4000))]
    assert same[::-1] == found
    assert len({faults.fault(occasions.draw_for(0, "one")) for _ in range(200)}) == 4


def test_latencies_have_their_mean() -> None:
    faults = Faults(latency_ms=50, exponential=True)
    drawn = [faults.latency_s(draws(0, i)) for i in range(4000)]
    assert 0.047 < sum(drawn) / 4000 < 0.053
    assert Faults(latency_ms=50).latency_s(draws(0)) == 0.05


def test_broken_answers_are_broken() -> None:
    text = Action("speak", "Hello there, how are you?").to_json()
    for i in range(30):
        with pytest.raises(ValueError):
            parse_answer(break_json(text, draws(i)))
    verdict = json.dumps({agent: {"goal": {"reasoning": "r", "score": 5}} for agent in ("agent_1", "agent_2")})
    assert all(push_out_of_range(verdict, draws(i)) != verdict for i in range(30))
    assert push_out_of_range(text, draws(0)) == text


@pytest.mark.parametrize("body", [{}, {"model": "m"}, {"model": "m", "messages": []}, {"messages": [{}]}])
def test_a_request_without_its_fields_is_refused(body: dict) -> None:
    with pytest.raises(ValueError, match="expected the fields"):
        request_of(body)

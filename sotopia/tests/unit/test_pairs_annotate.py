"""Many questions at once against an annotator that is no server: nothing is paid twice, and nothing is lost."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from annotator_double import MODEL, Annotator, run, run_and_finish

from sotopia_sdpo.account import ACCOUNT, Missed, read_account
from sotopia_sdpo.errors import EXIT_BUDGET, EXIT_DONE, EXIT_INCOMPLETE, UserError
from sotopia_sdpo.llm import budget
from sotopia_sdpo.llm.ask import ATTEMPTS
from sotopia_sdpo.llm.backends import Refused, Transient, Unreachable
from sotopia_sdpo.pairs.annotate import (
    NO_ANSWER,
    NO_USABLE_ANSWER,
    NOT_ASKED_AT_BUDGET,
    NOT_ASKED_SERVER_GONE,
    Annotation,
    Failure,
    finish,
)
from sotopia_sdpo.pairs.calls import ATTEMPTS_OF_THE_FIRST_CALL
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import read_list


NAMES = [f"q{number}" for number in range(12)]
ANSWERS = [f"to {name}" for name in NAMES]


def reasons(annotation: Annotation[str]) -> list[str]:
    """Say of every question how it ended, in order."""
    return [result.reason if isinstance(result, Failure) else "answered" for result in annotation.results]


@pytest.mark.parametrize("concurrency", [1, 3, 99])
def test_results_stay_in_the_order_of_the_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    annotator = Annotator(monkeypatch)
    annotator.delay_s = lambda text: 0.02 * (len(NAMES) - int(text[1:])) / len(NAMES)
    annotation, code = run_and_finish(tmp_path, *NAMES, concurrency=concurrency)
    assert annotation.results == ANSWERS == read_list(tmp_path / "out.json", "w.py") and code == EXIT_DONE
    assert annotation.paid[:3] == (12, 120, 60) and annotation.kept.calls == 0 and annotator.probes == 0
    assert max(annotator.seen_in_flight) <= concurrency
    again = run(tmp_path, *reversed(NAMES))
    assert again.results == ANSWERS[::-1] and again.paid.calls == 0 and again.kept.calls == 12
    assert len(annotator.asked) == 12


def test_the_first_call_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = Annotator(monkeypatch)
    annotator.delay_s = lambda _: 0.02
    done: list[int] = []
    annotator.answer = lambda text, number: done.append(len(annotator.asked)) or text  # type: ignore[func-returns-value]
    run(tmp_path, *NAMES, concurrency=5, attempts=7)
    assert annotator.attempts == [ATTEMPTS_OF_THE_FIRST_CALL] + [7] * 11
    assert done[0] == 1 and annotator.seen_in_flight[:2] == [1, 1] and 1 < max(annotator.seen_in_flight) <= 5


@pytest.mark.parametrize("concurrency", [1, 4])
def test_equal_questions_make_one_call_and_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    annotator = Annotator(monkeypatch)
    annotator.delay_s = lambda _: 0.005
    annotation = run(tmp_path, "a", "b", "a", "b", "a", concurrency=concurrency)
    assert sorted(annotator.asked) == ["a", "b"] and annotation.results == [f"to {name}" for name in "ababa"]
    assert (annotation.paid.calls, annotation.kept.calls) == (2, 0)
    again = run(tmp_path, "a", "a", "c", "c")
    assert (again.paid.calls, again.kept.calls) == (1, 1) and len(annotator.asked) == 3


@pytest.mark.parametrize("fault", [Refused("the key is refused"), Unreachable("no connection")])
def test_what_cannot_work_at_all_ends_it_before_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    annotator = Annotator(monkeypatch, lambda *_: throw(fault))
    annotator.probe_fault = "m at http://h/v1: the key is refused; set CUSTOM_API_KEY"
    with pytest.raises(UserError, match=f"^{annotator.probe_fault}$"):
        run(tmp_path, *NAMES, concurrency=5)
    assert len(annotator.asked) == 1 and annotator.probes == 1
    assert run(tmp_path, *NAMES[:0]).results == []
    Annotator(monkeypatch)
    assert run(tmp_path, *NAMES).results == ANSWERS


def throw(error: BaseException) -> str:
    raise error


def test_one_question_that_is_refused_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a filter dislikes a text; also where it is the first."""
    annotator = Annotator(
        monkeypatch, lambda text, _: throw(Refused("status 400: filtered")) if text == "q0" else text
    )
    annotation, code = run_and_finish(tmp_path, *NAMES, concurrency=3)
    assert annotation.results[0] == Failure(NO_ANSWER, "Refused: status 400: filtered")
    assert annotation.results[1:] == NAMES[1:] and annotator.probes == 1 and code == EXIT_INCOMPLETE
    assert "  no answer: Refused: status 400: filtered" in annotation.lines()


@pytest.mark.parametrize("fault", [Unreachable("gone"), Transient("no answer from http://h/v1 in time")])
@pytest.mark.parametrize(("concurrency", "failed"), [(1, 5), (4, 5), (7, 7)])
def test_a_server_that_goes_away_or_hangs_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int, failed: int, fault: Exception
) -> None:
    names = [f"q{number}" for number in range(40)]
    Annotator(monkeypatch, lambda text, number: text if number <= 3 else throw(fault))
    annotation, code = run_and_finish(tmp_path, *names, concurrency=concurrency)
    found = reasons(annotation)
    assert found.count("answered") == 3 and found.count(NOT_ASKED_SERVER_GONE) == 37 - found.count(NO_ANSWER)
    assert failed <= found.count(NO_ANSWER) < failed + concurrency and code == EXIT_INCOMPLETE
    Annotator(monkeypatch)
    again, code = run_and_finish(tmp_path, *names, concurrency=concurrency)
    assert (again.paid.calls, again.kept.calls, code) == (37, 3, EXIT_DONE)


def test_what_is_missed_after_the_answers_is_in_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuations that are to say whether an answer holds fail: the loop goes on only if few of all did."""
    monkeypatch.setenv(ACCOUNT, str(tmp_path / "account"))
    Annotator(monkeypatch)
    annotation = run(tmp_path, *NAMES)
    finished = annotation, Tally("questions"), tmp_path / "out.json", ANSWERS[:2], tmp_path
    assert finish(*finished, later=Missed(10, 12, "questions", "not played")) == EXIT_INCOMPLETE
    assert read_account(tmp_path / "account") == Missed(10, 12, "questions", "not played")
    assert finish(*finished, later=Missed(0, 12, "questions", "not played")) == EXIT_DONE
    assert read_account(tmp_path / "account") == Missed(0, 12, "questions")


def test_a_server_that_comes_and_goes_is_asked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Annotator(monkeypatch, lambda text, number: text if number % 5 == 1 else throw(Unreachable("gone")))
    annotation = run(tmp_path, *NAMES)
    assert reasons(annotation).count("answered") == 3 and NOT_ASKED_SERVER_GONE not in reasons(annotation)


def test_faults_of_the_network_are_counted_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    annotator = Annotator(
        monkeypatch, lambda text, _: throw(Transient("status 500")) if text in ("q2", "q5") else text
    )
    annotation, code = run_and_finish(tmp_path, *NAMES, concurrency=3)
    assert [number for number, reason in enumerate(reasons(annotation)) if reason == NO_ANSWER] == [2, 5]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"kept 10 of 12 questions (2 no answer) -> {tmp_path}/out.json" and code == EXIT_INCOMPLETE
    assert out[1] == "answers: 10 asked for now (150 tokens, cost unknown)"
    assert out[2:] == ["  no answer: Transient: status 500"]
    assert annotation.missed("questions") == Missed(2, 12, "questions", NO_ANSWER)
    annotator = Annotator(monkeypatch)
    again, code = run_and_finish(tmp_path, *NAMES)
    assert sorted(annotator.asked) == ["q2", "q5"] and annotator.seeds == [0, 0] and code == EXIT_DONE
    assert again.results[2] == "to q2" and again.results[3] == "q3"
    out = capsys.readouterr().out.splitlines()
    assert (
        out[1]
        == "answers: 2 asked for now (30 tokens, cost unknown); 10 were there already (paid before: 150 tokens, cost unknown)"
    )


def test_the_budget_leaves_the_rest_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call can cost 2 dollars at most, and costs 1."""
    monkeypatch.setattr(budget, "cost_of", lambda *_: 2.0)
    annotator = Annotator(monkeypatch)
    annotator.cost = 1.0
    annotation, code = run_and_finish(tmp_path, *NAMES, model="gpt", concurrency=4, budget=5.5)
    assert reasons(annotation).count("answered") == len(annotator.asked) == 4 and code == EXIT_BUDGET
    assert reasons(annotation).count(NOT_ASKED_AT_BUDGET) == 8 and annotation.paid.cost == 4.0
    assert "kept 4 of 12 questions (8 not asked: the budget is reached)" in capsys.readouterr().out
    annotation, code = run_and_finish(tmp_path, *NAMES, model="gpt", concurrency=4, budget=100.0)
    assert (annotation.paid.calls, annotation.kept.calls, code) == (8, 4, EXIT_DONE)
    assert run(tmp_path, *NAMES, model="gpt", budget=0.0).results == ANSWERS


def test_no_budget_at_all_asks_nothing_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "cost_of", lambda *_: 2.0)
    (tmp_path / "out.json").write_text('["old"]')
    annotator = Annotator(monkeypatch)
    annotation, code = run_and_finish(tmp_path, *NAMES, model="gpt", concurrency=4, budget=0.0)
    assert set(reasons(annotation)) == {NOT_ASKED_AT_BUDGET} and code == EXIT_BUDGET and not annotator.asked
    assert annotator.probes == 0 and read_list(tmp_path / "out.json", "w.py") == ["old"]


def test_where_no_record_is_left_whoever_goes_on_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loop takes exit code 3 for good, and would go on with the file of an earlier annotator."""
    (tmp_path / "out.json").write_text('["old"]')
    Annotator(monkeypatch, lambda *_: throw(Refused("status 400: filtered")))
    with pytest.raises(
        UserError, match=r"none is left: kept 0 of 2 questions \(2 no answer\); .*out.json is not written"
    ):
        run_and_finish(tmp_path, *NAMES[:2])
    assert "  no answer: Refused: status 400: filtered" in capsys.readouterr().out
    assert read_list(tmp_path / "out.json", "w.py") == ["old"]


def test_a_budget_without_a_price_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = Annotator(monkeypatch)
    with pytest.raises(UserError, match=f"^--budget 1: no price is known for {MODEL}; leave it out"):
        run(tmp_path, "a", budget=1.0)
    assert not annotator.asked


def test_a_question_is_given_up_by_a_finished_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    annotator = Annotator(monkeypatch, lambda text, _: "nonsense" if text == "bad" else text)
    for killed in range(3):
        annotation = run(tmp_path, "bad", "good", "bad")
        assert reasons(annotation) == [NO_USABLE_ANSWER, "answered", NO_USABLE_ANSWER]
        assert annotation.paid.calls == (0 if killed else ATTEMPTS + 1) and annotator.asked.count("bad") == ATTEMPTS
    assert run_and_finish(tmp_path, "bad", "good", "bad")[1] == EXIT_INCOMPLETE
    assert len(annotator.asked) == ATTEMPTS + 1
    assert "kept 1 of 3 questions (2 no usable answer)" in capsys.readouterr().out
    run(tmp_path, "bad", "good", "bad")
    assert annotator.asked[ATTEMPTS + 1 :] == ["bad"] * ATTEMPTS and set(annotator.seeds[ATTEMPTS + 1 :]) == {1}
    annotator.answer = lambda text, _: f"to {text}"
    assert reasons(run(tmp_path, "bad"))[0] == NO_USABLE_ANSWER and len(annotator.asked) == 2 * ATTEMPTS + 1
    with pytest.raises(UserError, match="1 no usable answer"):
        run_and_finish(tmp_path, "bad")
    annotation, code = run_and_finish(tmp_path, "bad")
    assert annotation.results == ["to bad"] and annotator.seeds[-1] == 2 and code == EXIT_DONE
    assert run(tmp_path, "bad").paid.calls == 0


def test_a_question_that_was_not_asked_or_has_no_answer_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answers are kept, and it goes on after them."""
    annotator = Annotator(monkeypatch, lambda _, number: "nonsense" if number == 1 else throw(Transient("500")))
    with pytest.raises(UserError, match="1 no answer"):
        run_and_finish(tmp_path, "a")
    annotator.answer = lambda text, _: text
    assert run(tmp_path, "a").results == ["a"] and [len(chat) for chat in annotator.chats] == [1, 3, 3]
    assert set(annotator.seeds) == {0}


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("stop_at", "concurrency"), [(1, 1), (1, 5), (6, 1), (7, 4), (12, 3)])
def test_a_run_that_is_stopped_keeps_what_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, concurrency: int, name: signal.Signals
) -> None:
    def delay_s(_: str) -> float:
        if len(annotator.asked) == stop_at:
            os.kill(os.getpid(), name)
        return 0.002

    before = signal.getsignal(name)
    annotator = Annotator(monkeypatch)
    annotator.delay_s = delay_s
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *NAMES, concurrency=concurrency)
    calls = len(annotator.asked)
    assert stop_at <= calls < stop_at + concurrency and signal.getsignal(name) == before
    again = run(tmp_path, *NAMES, concurrency=concurrency)
    assert again.results == ANSWERS and (again.kept.calls, again.paid.calls) == (calls, 12 - calls)
    assert len(set(annotator.asked)) == len(annotator.asked) == 12


def test_stopped_twice_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def delay_s(text: str) -> float:
        if text in ("q2", "q3"):
            asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)
        return 60.0 if text in ("q2", "q3") else 0.0

    annotator = Annotator(monkeypatch)
    annotator.delay_s = delay_s
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *NAMES, concurrency=2)
    assert "stopping: 2 answers in flight; Ctrl-C again to quit now" in capsys.readouterr().err
    assert annotator.asked == ["q0", "q1", "q2", "q3"]
    annotator.delay_s = lambda _: 0.0
    assert run(tmp_path, *NAMES).results == ANSWERS and annotator.asked[4:6] == ["q2", "q3"]


def test_what_users_should_know_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "note: answers of the scripted server are among these; they mean nothing"
    annotator = Annotator(monkeypatch)
    annotator.is_simulated = True
    assert note in run(tmp_path, "a").lines()
    annotator.is_simulated = False
    assert note in run(tmp_path, "a", "b").lines() and note not in run(tmp_path, "b").lines()
    many = Annotation([Failure(NO_ANSWER, f"e{number % 9}") for number in range(20)], notes=["n"])
    assert many.lines()[1:] == [*(f"  no answer: e{number}" for number in range(5)), "note: n"]


def test_a_fallback_takes_the_place_of_unusable_answers_only() -> None:
    annotation = Annotation(["a", Failure(NO_USABLE_ANSWER), Failure(NO_ANSWER), Failure(NOT_ASKED_AT_BUDGET)])
    assert annotation.fall_back(["1", "2", "3", "4"]) == 1 and annotation.exit_code == EXIT_BUDGET
    assert annotation.answered("wxyz") == [("w", "a"), ("x", "2")]
    tally = Tally("pairs")
    tally.drop("with no difference")
    annotation.count(tally)
    assert tally.line() == f"kept 2 of 5 pairs (1 with no difference, 1 {NO_ANSWER}, 1 {NOT_ASKED_AT_BUDGET})"


@pytest.mark.parametrize("model", ["", "custom/m"])
def test_a_wrong_name_leaves_nothing_behind(tmp_path: Path, model: str) -> None:
    with pytest.raises(UserError):
        run(tmp_path / "new", "a", model=model)
    assert not (tmp_path / "new").exists()

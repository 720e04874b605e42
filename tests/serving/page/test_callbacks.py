"""From the page's values to ways to pool, and what the page is given back."""

import base64
import json

import pytest

from ppl.serving.http.settings import Caps, Settings
from ppl.serving.line import FullError
from ppl.serving.page.callbacks import NUM_SUGGESTIONS, PLAIN, Callbacks, ways
from ppl.serving.page.exchanges import Way

QUESTION = "what colour is the square ?"
OWN = ("", 0, False, "average", 4)
BOTH = ("", 0, True, "average", 4)


@pytest.fixture
def callbacks(engine, store):
    return Callbacks(engine, store, Settings("tiny", caps=Caps(tokens=6)))


@pytest.fixture
def shown(callbacks, clip):
    return callbacks.open(str(clip), None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (OWN, [Way()]),
        (BOTH, [Way(), Way("average", 4)]),
        (("average", 7, True, "", 0), [Way("average", 7), Way()]),
        (("average", None, True, "max", 3.0), [Way("average"), Way("max", 3)]),
    ],
)
def test_what_is_set_becomes_ways(values, expected):
    assert ways(*values) == expected


def test_a_visit_begins_with_a_clip(callbacks, shown):
    assert shown.visit.clip.name == "clip.mp4"
    assert shown.frames.count("<img") == 4
    assert shown.problem == ""
    again = callbacks.open(None, shown.visit)
    assert again.visit is shown.visit, "clearing the upload changes nothing"
    assert "value" not in again.frames


def test_visitors_have_visits_of_their_own(callbacks, clip, shown):
    other = callbacks.open(str(clip), None)
    list(callbacks.ask(QUESTION, other.visit, *OWN))
    assert shown.visit.exchanges == []
    assert shown.visit is not other.visit


def test_frames_are_sent_once_an_answer(callbacks, shown):
    given = list(callbacks.ask(QUESTION, shown.visit, *OWN))
    assert " %</figcaption>" in given[0].frames
    assert given[0].picker["value"] == 0
    assert [label for label, _ in given[0].picker["choices"]] == ["the frames as they are", f"1. {QUESTION}"]
    assert all("value" not in later.frames for later in given[1:])
    assert "visual tokens" in given[-1].conversation


def test_the_same_question_under_another_way_takes_its_place(callbacks, shown):
    visit = shown.visit
    list(callbacks.ask(QUESTION, visit, *OWN))
    list(callbacks.ask_again(visit, "average", 4, False, "", 0))
    assert [(exchange.question, exchange.replies[0].way) for exchange in visit.exchanges] == [
        (QUESTION, Way("average", 4))
    ]


def test_a_question_that_cannot_be_asked_again_stays(callbacks, shown, monkeypatch):
    visit = shown.visit
    list(callbacks.ask(QUESTION, visit, *OWN))
    before = list(visit.exchanges)

    def full(*_):
        raise FullError("full")

    monkeypatch.setattr(callbacks.engine, "run", full)
    assert "ask again in a moment" in list(callbacks.ask_again(visit, *OWN))[-1].problem
    assert visit.exchanges == before


def test_mistakes_are_told_and_nothing_is_raised(callbacks, shown, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("nothing")
    told = [
        callbacks.open(str(bad), shown.visit).problem,
        list(callbacks.ask("", shown.visit, *OWN))[-1].problem,
        list(callbacks.ask(QUESTION, None, *OWN))[-1].problem,
        list(callbacks.ask_again(None, *OWN))[-1].problem,
        callbacks.json(None)[1],
        callbacks.heatmap(shown.visit, PLAIN)[1],
        callbacks.count(shown.visit, "no such", 0, False, "", 0),
    ]
    words = [
        "bad.mp4, which is no whole",
        "empty question",
        "got no clip",
        "got no clip",
        "got no clip",
        "got no question",
        "got pooler",
    ]
    assert all(expected in text for expected, text in zip(words, told, strict=True)), told
    assert not any(str(tmp_path) in text for text in told)


def test_tokens_are_counted_before_anything_is_asked(callbacks, shown):
    visit = shown.visit
    told = callbacks.count(visit, *BOTH)
    assert told.startswith(
        f"the model&#x27;s own pooler: {visit.num_tokens(Way())} visual tokens; average, at most 4 tokens: "
    )
    assert told.endswith("of 144 patches.")
    assert callbacks.count(None, *OWN) == ""


def test_an_example_comes_with_its_questions_and_the_clip_s_largest_budget(callbacks, shown):
    budget, other, told, *suggestions = callbacks.after_opening(["a ?"], shown.visit, *OWN)
    assert budget["maximum"] == other["maximum"] == 144
    assert "144 patches" in told
    assert (budget["value"], other["value"]) == (0, 4)
    assert [update["visible"] for update in suggestions] == [True, *[False] * (NUM_SUGGESTIONS - 1)]


def test_a_budget_beyond_a_smaller_clip_is_lowered(callbacks, shown):
    budget, other, told, *_ = callbacks.after_opening([], shown.visit, "average", 170, True, "", None)
    assert (budget["value"], other["value"]) == (144, 0)
    assert told.startswith("average, at most 144 tokens: 144 visual tokens; ")


def test_a_question_is_picked_and_starting_over_forgets_it(callbacks, shown):
    visit = shown.visit
    list(callbacks.ask(QUESTION, visit, *OWN))
    plain, heat = callbacks.pick(visit, PLAIN), callbacks.pick(visit, 0)
    assert plain == shown.frames != heat
    fresh = callbacks.start_again(visit)
    assert fresh.frames == plain
    assert fresh.picker["visible"] is False
    assert visit.exchanges == []


def test_files_are_offered_as_urls_that_hold_them(callbacks, shown):
    list(callbacks.ask(QUESTION, shown.visit, *OWN))
    for offered, kind in (
        (callbacks.markdown(shown.visit), b"# clip.mp4"),
        (callbacks.heatmap(shown.visit, 0), b"\x89PNG"),
    ):
        assert base64.b64decode(offered[0]["url"].partition(",")[2]).startswith(kind)
    file, problem = callbacks.json(shown.visit)
    assert json.loads(base64.b64decode(file["url"].partition(",")[2]))["model"] == "tiny"
    assert (file["name"], problem) == ("transcript.json", "")


def test_the_model_is_named(callbacks):
    assert callbacks.model_in_words().startswith("Model tiny, its own pooler WeightedPooler; relevance is")

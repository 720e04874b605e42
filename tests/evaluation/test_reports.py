import csv
import io
import json

from ppl.evaluation.judge import Request, prompt_digest
from ppl.evaluation.reports import to_csv, to_details, to_json, to_markdown
from ppl.evaluation.scoring import score
from tests.evaluation.made_up_runs import Choice, Open, SayingJudge, rows_of


def reports():
    judge = SayingJudge("{'pred': 'yes', 'score': 4}", "well", None)
    return [
        score(rows_of(["A", "B", "?"], model="m.ckpt", total=4))[0],
        score(rows_of(["x", "y", "z"], Open(), answers="x"), judge)[0],
    ]


def test_markdown_tells_all_that_must_be_known_to_read_a_score():
    choice, judged = reports()
    lines = to_markdown([choice]).splitlines()
    assert lines[0] == "## made-up, protocol official-1"
    assert lines[4].startswith("| accuracy | overall | 33.33 | ")
    assert lines[4].endswith(" | 3 |")
    assert lines[-2].startswith(
        "answered 3 of 4 (75.0 %) · incomplete 0 · unparsed 1 · unjudged 0 · malformed 0 · judge: none"
    )
    assert lines[-2].endswith("model: m.ckpt")
    assert lines[-1] == 'protocol from nowhere; arguments {"strict": true}'
    text = to_markdown([choice, judged])
    assert text.count("## ") == 2
    prompts = judged.judge["prompts"]
    assert f"unjudged 1 · malformed 1 · judge: model sayer, temperature 0.0, prompts {prompts}" in text
    assert "| score | duration=long | – |  | 0 |" in text


def test_csv_has_a_line_for_each_score_with_judge_coverage_and_counts():
    choice, judged = reports()
    lines = list(csv.DictReader(io.StringIO(to_csv([choice, judged]))))
    assert len(lines) == len(choice.scores) + len(judged.scores)
    assert lines[0]["coverage"] == "0.75"
    assert (lines[0]["judge"], lines[0]["unparsed"]) == ("", "1")
    last = lines[-1]
    assert (last["protocol"], last["judge"], last["judge_prompts"]) == ("paper-2", "sayer", judged.judge["prompts"])
    assert (last["unjudged"], last["malformed"], last["metric"], last["value"]) == ("1", "1", "units", "3.0")


def test_runs_by_one_protocol_with_other_arguments_are_told_apart():
    lenient = score(rows_of(["A"], Choice(strict=False)))[0]
    assert to_csv([lenient]).splitlines()[1].startswith("made-up,official-1 (strict=False),")
    assert to_markdown([lenient]).startswith("## made-up, protocol official-1 (strict=False)\n")


def test_json_holds_everything():
    choice, judged = reports()
    first, second = json.loads(to_json([choice, judged]))
    assert first["coverage"] == 0.75
    assert first["scores"][0]["metric"] == "accuracy"
    assert first["protocol"]["class_path"] == "tests.evaluation.made_up_runs.Choice"
    assert second["judge"]["model"] == "sayer"
    assert (second["unjudged"], second["malformed"]) == (1, 1)


def test_details_say_for_each_mark_where_it_comes_from():
    judge = SayingJudge("{'pred': 'yes', 'score': 4}", None)
    report, units = score(rows_of(["x", "y"], Open(), answers="x", model="m"), judge)
    first, second = (json.loads(line) for line in to_details(report, units).splitlines())
    assert first["values"] == {"judged": 1.0, "score": 4.0, "f1": 1.0}
    assert (first["judge"], first["model"], first["protocol"]) == ("sayer", "m", "paper-2")
    asked = prompt_digest(Request("Judge.", "q0? x x"))
    assert first["replies"] == [{"prompt": asked, "reply": "{'pred': 'yes', 'score': 4}"}]
    assert (second["parsed"], second["texts"], second["replies"][0]["reply"]) == (None, ["y"], None)

import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ppl.evaluation.benchmarks.mathvista import Lmms, MathVista, Official
from ppl.evaluation.items import Cell
from tests.evaluation.made_up_rows import answer, scores
from tests.evaluation.told_judge import ToldJudge

KINDS = [
    # question, choices, unit, precision, answer, question_type, answer_type
    ("Which?", ["three", "two"], None, None, "two", "multi_choice", "text"),
    ("How many?", None, "$", None, "7", "free_form", "integer"),
    ("How long?", None, None, 1.0, "1.5", "free_form", "float"),
    ("When?", None, None, None, "[1, 2]", "free_form", "list"),
]
LETTER = "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end."
INTEGER = (
    "Hint: Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end."
)
QUERY = "Hint: as it was.\nQuestion: {}"


@pytest.fixture
def root(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    names = ("question", "choices", "unit", "precision", "answer", "question_type", "answer_type")
    meta = {
        "category": "math",
        "context": "figure",
        "grade": "college",
        "language": "english",
        "source": "x",
        "task": "y",
    }
    rows = [
        {
            **dict(zip(names, kind, strict=True)),
            "pid": str(n),
            "query": QUERY.format(kind[0]),
            "metadata": {**meta, "skills": ["arithmetic"]},
            "decoded_image": {"bytes": stream.getvalue(), "path": "1.png"},
        }
        for n, kind in enumerate(KINDS, 1)
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data/testmini-00000-of-00001-72.parquet")
    hidden = pa.Table.from_pylist([{**row, "answer": ""} for row in rows])
    pq.write_table(hidden, tmp_path / "data/test-00000-of-00002-6.parquet")
    return tmp_path


def test_items(root):
    items = MathVista(str(root)).items()
    assert items[1].media[0].inside == Cell(1, "decoded_image")
    assert (items[0].options, items[0].answer, items[1].options) == (("three", "two"), "two", ())
    assert items[0].groups["grade"] == "college"
    assert items[2].facts["precision"] == 1.0
    assert MathVista(str(root), split="test").items()[0].answer is None


@pytest.mark.parametrize(
    ("hints", "texts"),
    [
        (
            "format",
            [
                "Which?\nA. three\nB. two\nAnswer with the option's letter from the given choices directly.",
                "How many? (Unit: $)\nAnswer the question using a single integer number.",
                "How long?\nAnswer the question using a single floating-point number with one decimal place.",
                "When?\nAnswer the question using a Python list.",
            ],
        ),
        (
            "solution",
            [
                f"Question: Which?\nChoices:\n(A) three\n(B) two\n{LETTER}\nSolution:",
                f"Question: How many? (Unit: $)\n{INTEGER}\nSolution:",
            ],
        ),
        ("cot", [f"Question: Which?\nChoices:\n(A) three\n(B) two\n{LETTER}"]),
    ],
)
def test_prompts(root, hints, texts):
    items = MathVista(str(root)).items()
    assert [Lmms(hints=hints).prompt(item, []) for item in items[: len(texts)]] == texts
    assert Official().prompt(items[0], []) == "Hint: as it was.\nQuestion: Which?"


def test_other_answers_are_refused(root):
    item = MathVista(str(root)).items()[2]
    item = replace(item, facts={**item.facts, "precision": 3.0})
    with pytest.raises(ValueError, match=r"got an answer of type 'float 3', expected one of \['text', 'integer'"):
        Lmms().prompt(item, [])


def test_what_is_an_answer_already_needs_no_judge(root):
    rows = answer(MathVista(str(root)), Lmms(float_precision=False), [" two", "7", "1.50", "[1, 2]"])
    judge = ToldJudge("[1, 2]")  # a list is always read out
    numbers, report = scores(rows, judge)
    assert judge.asked[0].user.endswith(
        "(D) 3/5\n\nModel response: The correct answer is (B) 8/11.\n\nExtracted answer: B\n\n"
        "Hint: as it was.\nQuestion: When?\n\n[1, 2]\n\nExtracted answer: "
    )
    assert judge.asked[0].user.startswith("Please read the following example. Then extract the answer")
    assert judge.asked[0].max_tokens == 256
    assert numbers["accuracy", "overall"] == 100
    assert report.malformed == report.unparsed == report.unjudged == 0


def test_a_judge_reads_the_answer_out(root):
    """lupantech/MathVista 0a520c4, ``evaluation/calculate_score.py``, ``normalize_extracted_answer``."""
    texts = ["it is (B)", "seven", "one and a half", "from 1 to 2"]
    judge = ToldJudge("(b)", "7.9", "1.46", "[1, 3]")
    numbers, _ = scores(answer(MathVista(str(root)), Official(), texts), judge)
    assert judge.asked[1].user.split("\n\n")[-3:] == ["How many?", "seven", "Extracted answer: "]
    assert numbers["accuracy", "overall"] == 75  # 7.9 is cut to 7, 1.46 rounded to 1.5; [1, 3] is wrong


@pytest.mark.parametrize(
    ("protocol", "right", "unread"),
    [
        (Lmms(), {"text"}, {"integer", "float"}),
        (Lmms(closest=False, float_precision=False), {"float"}, {"text", "integer"}),
    ],
)
def test_lmms_takes_the_closest_option_and_refuses_to_round_to_a_float(root, protocol, right, unread):
    """lmms-eval 0.7.3, ``tasks/mathvista/mathvista_evals.py``: ``extract_answer``, ``normalize_extracted_answer``."""
    # nothing said: "two" is the shortest option; "eight" is no integer; 1.5 is right but for round(1.5, 1.0)
    numbers, report = scores(answer(MathVista(str(root)), protocol, ["", "seven", "1.5", ""]), ToldJudge("eight"))
    kinds = ("text", "integer", "float", "list")
    assert {kind for kind in kinds if numbers["accuracy", f"answer_type={kind}"]} == right
    assert (report.malformed, report.unparsed) == (1, len(unread) - 1)


def test_without_a_judge_what_needs_one_does_not_count(root):
    numbers, report = scores(answer(MathVista(str(root)), Lmms(), ["B", "7", "two", "[1, 2]"]))
    assert numbers["accuracy", "overall"] == 100
    assert (report.scores[0].size, report.unjudged) == (1, 3)


def test_of_the_test_split_there_is_a_file_and_no_number(root):
    rows = answer(MathVista(str(root), split="test"), Lmms(), ["B", "7", "2", "x"])
    assert scores(rows)[0]["accuracy", "overall"] is None
    told = json.loads(Lmms().submission(rows)["mathvista-test.json"])
    assert told["1"]["response"] == "B"
    assert told["1"]["choices"] == ["three", "two"]
    assert told["3"]["precision"] == 1.0
    assert Lmms().submission(answer(MathVista(str(root)), Lmms(), ["B"])) == {}

import pytest

from ppl.evaluation.benchmarks.seedbench import Llava, Lmms, SeedBenchImage
from tests.evaluation.made_up_rows import answer, scores, write_json

ASKED = "What?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer with the option's letter from the given choices directly."


@pytest.fixture
def root(tmp_path):
    def row(number, kind, letter):
        options = {f"choice_{each}": f"{each}1" for each in "abcd"}
        ids = {"question_id": str(number), "data_id": f"pic{number}", "data_type": kind, "question_type_id": 1}
        return {**options, **ids, "question": "What?", "answer": letter}

    rows = [
        row(1, "image", "B"),
        row(2, "video", "A"),
        row(3, "image", "D"),
        row(4, "image", "C"),
        row(5, "image", "A"),
    ]
    write_json(tmp_path / "SEED-Bench.json", {"questions": rows, "question_type": {"Scene Understanding": 1}})
    return tmp_path


def test_only_images_are_asked_about(root):
    items = SeedBenchImage(str(root)).items()
    assert [item.id for item in items] == ["1", "3", "4", "5"]
    assert items[0].media[0].path == str(root / "SEED-Bench-image/pic1")
    assert items[0].groups == {"question_type": "Scene Understanding"}
    assert Lmms().prompt(items[0], []) == Llava().prompt(items[0], []) == ASKED
    assert Lmms().guide(items[0]) == "What?\nA. a1\nB. b1\nC. c1\nD. d1"


@pytest.mark.parametrize(
    ("protocol", "percent", "unparsed"),
    [(Lmms(), 50, 1), (Lmms(first_character=False), 75, 0), (Llava(), 25, 3)],
)
def test_the_first_character_the_best_place_or_the_letter_alone(root, protocol, percent, unparsed):
    """lmms-eval 0.7.3, ``tasks/seedbench/utils.py``, ``seed_process_result``; haotian-liu/LLaVA c121f04.

    (There ``scripts/convert_seed_for_submission.py``: all that was said is the letter.)
    """
    # B: all but LLaVA's; "The answer is D": T to lmms-eval; " C ": right; "B": wrong
    texts = ["b. b1", "The answer is D", " C ", "B"] if isinstance(protocol, Lmms) else ["B.", "d", "C\n", "a."]
    if isinstance(protocol, Lmms) and not protocol.first_character:
        texts[0] = "B. b1"
    numbers, report = scores(answer(SeedBenchImage(str(root)), protocol, texts))
    assert (numbers["accuracy", "overall"], report.unparsed) == (percent, unparsed)

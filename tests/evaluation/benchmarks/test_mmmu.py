import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ppl.evaluation.benchmarks.mmmu import MMMU, Lmms, Official
from ppl.evaluation.items import Cell
from ppl.evaluation.letters_lmms import guessed_letter
from tests.evaluation.made_up_rows import answer, scores

TAIL = "Answer with the option's letter from the given choices directly."
SHORT = "Answer the question using a single word or phrase."


@pytest.fixture
def root(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    image = {"bytes": stream.getvalue(), "path": "x.png"}
    rows = [
        ("validation_Art_Theory_1", "Left <image 1>, which? <image 2>", "['cup', '<image 1>']", "B", "multiple-choice"),
        ("validation_Art_Theory_2", "How many?<image 1>", "[]", "24", "open"),
        ("validation_Math_1", "<image 1> So?", "['x', 'y', 'z']", "A", "multiple-choice"),
    ]
    for subject in ("Art_Theory", "Math"):
        table = [
            {
                **dict(zip(("id", "question", "options", "answer", "question_type"), row, strict=True)),
                **{f"image_{n}": image if n < 3 else None for n in range(1, 8)},
            }
            for row in rows
            if subject in row[0]
        ]
        (tmp_path / subject).mkdir()
        pq.write_table(pa.Table.from_pylist(table), tmp_path / subject / "validation-00000-of-00001.parquet")
    return tmp_path


def test_items_show_the_images_their_text_names(root):
    first, second, third = MMMU(str(root)).items()
    assert [medium.inside for medium in first.media] == [Cell(0, "image_1"), Cell(0, "image_2")]
    assert first.media[0].path == str(root / "Art_Theory/validation-00000-of-00001.parquet")
    assert [medium.inside for medium in second.media] == [Cell(1, "image_1")]
    assert (first.options, first.answer) == (("cup", "<image 1>"), "B")
    assert (second.options, second.answer) == ((), "24")
    assert first.groups == {"domain": "Art and Design", "subject": "Art_Theory", "question_type": "multiple-choice"}
    assert third.groups["domain"] == "Science"


def test_prompts(root):
    first, second, _ = MMMU(str(root)).items()
    assert Lmms().prompt(first, []) == f"Left <image 1>, which? <image 2>\nA. cup\nB. <image 1>\n\n{TAIL}"
    assert Lmms().prompt(second, []) == f"How many?<image 1>\n\n{SHORT}"
    assert Official().prompt(first, []) == f"Left <image 1>, which? <image 2>\n(A) cup\n(B) <image 1>\n\n{TAIL}"
    assert Official().prompt(second, []) == f"How many?<image 1>\n{SHORT}"
    # as its chat models see them: two images for three places, the last piece of text behind both
    assert Lmms(interleaved=True).prompt(first, []) == f"Left\n<media>\n, which?\n<media>\n{TAIL}"
    assert Lmms(interleaved=True).prompt(second, []) == f"How many?\n<media>\n{SHORT}"
    assert Lmms().guide(first) == "Left , which? \nA. cup\nB."


def test_marks(root):
    rows = answer(MMMU(str(root)), Lmms(), ["The answer is (B)", "it is 24.001 metres", "**A**"])
    guess = guessed_letter(rows[2]) == "A"
    numbers, report = scores(rows)
    assert numbers["accuracy", "overall"] == pytest.approx(100 * (2 + guess) / 3)
    assert numbers["accuracy", "question_type=open"] == 100
    assert report.unparsed == 1
    sane, _ = scores(answer(MMMU(str(root)), Official(guess=False), ["(A)", "25", "x y z A"]))
    assert sane["accuracy", "overall"] == pytest.approx(100 / 3)
    assert sane["accuracy", "subject=Art_Theory"] == 0

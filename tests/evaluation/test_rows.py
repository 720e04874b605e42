import json

import pytest

from ppl.evaluation.rows import Row, from_line, merge, prompt_digest, read_rows, to_line

ROW = Row(
    benchmark="b",
    protocol={"class_path": "p", "init_args": {}, "version": "1"},
    total=2,
    id="1",
    cluster="v",
    groups={"duration": "short"},
    question="q?",
    options=["x", "y"],
    answer="A",
    answers=[],
    facts={},
    prompt="q?",
    prompt_hash="h",
    guide="q?",
    text="A – »x«\n",
)


def other(**values):
    return from_line(json.dumps(json.loads(to_line(ROW)) | values))


def test_a_row_comes_back_from_its_line():
    assert to_line(ROW).count("\n") == 1
    again = from_line(to_line(ROW))
    assert to_line(again) == to_line(ROW)
    assert again.text == ROW.text


def test_a_half_written_last_line_is_no_row_and_another_is_an_error(tmp_path):
    file = tmp_path / "rows-0.jsonl"
    file.write_text(to_line(ROW) + to_line(ROW)[:40])
    assert [row.id for row in read_rows(file)] == ["1"]
    file.write_text(to_line(ROW)[:40] + "\n" + to_line(ROW))
    with pytest.raises(ValueError, match=r"rows-0.jsonl:1: got a line that is no answered question"):
        list(read_rows(file))


def test_a_text_may_hold_any_character_and_a_file_may_end_inside_one(tmp_path):
    """Unicode knows more ends of lines than JSON lines do; a dash is three bytes long."""
    file = tmp_path / "rows-0.jsonl"
    odd = to_line(other(text="one\u2028two\x85three"))
    cut = to_line(ROW).encode()
    cut = cut[: cut.index("–".encode()) + 1]
    file.write_bytes(odd.encode() + cut)
    assert [row.text for row in read_rows(file)] == ["one\u2028two\x85three"]


def test_a_line_of_something_else_is_an_error_that_names_it(tmp_path):
    file = tmp_path / "rows-0.jsonl"
    for text in ('{"id": 1}\n', "[]\n", '{"surprise": 1}\n'):
        file.write_text(to_line(ROW) + text)
        with pytest.raises(ValueError, match=r":2: got a line that is no answered question"):
            list(read_rows(file))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"text": 5}, "(field text: got 5, expected text)"),
        ({"id": ["a", "b"]}, '(field id: got ["a", "b"], expected text)'),
        ({"total": True}, "(field total: got true, expected a whole number)"),
        ({"answer": 1.5}, "(field answer: got 1.5, expected text or null)"),
        ({"prompt": None}, "(field prompt: got null, expected text)"),
        ({"groups": {"task": 3}}, '(field groups: got {"task": 3}, expected an object of text)'),
        ({"protocol": "p"}, '(field protocol: got "p", expected an object of anything)'),
        ({"options": ["x", None]}, '(field options: got ["x", null], expected a list of text)'),
        ({"frames": [[0, "1"]]}, '(field frames: got [[0, "1"]], expected a list of a list of a whole number)'),
        (
            {"milliseconds": {"decode": "1"}},
            '(field milliseconds: got {"decode": "1"}, expected an object of a number)',
        ),
        ({"facts": "é" * 200}, f'(field facts: got "{"é" * 79}…, expected an object of anything)'),
        ({"surprise": 1}, "(it lacks [] and has ['surprise'] beside its own fields, expected ['benchmark', "),
    ],
)
def test_a_field_of_another_type_is_named_with_its_line(tmp_path, values, told):
    """Also in a last line without its end: what a killed run leaves of a line is no JSON at all."""
    file = tmp_path / "rows-0.jsonl"
    for end in ("\n", ""):
        file.write_text(to_line(ROW) + json.dumps(json.loads(to_line(ROW)) | values) + end)
        with pytest.raises(ValueError, match=r"rows-0.jsonl:2: got a line that is no answered question") as raised:
            list(read_rows(file))
        assert told in str(raised.value)
        assert "expected what `ppl predict` wrote: name another file, or" in str(raised.value)


def test_missing_fields_are_named_but_for_those_with_defaults(tmp_path):
    file = tmp_path / "rows-0.jsonl"
    values = json.loads(to_line(ROW))
    for name in ("model", "frames", "visual_tokens", "milliseconds"):
        del values[name]
    file.write_text(json.dumps(values) + "\n")
    assert list(read_rows(file)) == [ROW]
    del values["id"], values["text"]
    file.write_text(json.dumps(values) + "\n")
    with pytest.raises(ValueError, match=r"rows-0.jsonl:1: got .* \(it lacks \['id', 'text'\] and has \[\] beside"):
        list(read_rows(file))


def test_a_number_that_python_does_not_read_is_no_row(tmp_path):
    file = tmp_path / "rows-0.jsonl"
    file.write_text("1" * 5000 + "\n")
    with pytest.raises(
        ValueError, match=r"rows-0.jsonl:1: got a line that is no answered question \(Exceeds the limit"
    ):
        list(read_rows(file))


def test_shards_join_and_two_answers_to_one_question_do_not():
    assert [row.id for row in merge([ROW, other(id="2"), ROW])] == ["1", "2"]
    with pytest.raises(ValueError, match=r"got two answers to question '1' of b, .* expected the shards of one run"):
        merge([ROW, other(text="B")])


def test_a_digest_tells_what_was_said_apart():
    said = [("", "q", "", "q"), ("s", "q", "", "q"), ("", "q", "p", "q"), ("", "q", "", "g"), ("", "qp", "", "q")]
    assert len({prompt_digest(*each) for each in said}) == len(said)

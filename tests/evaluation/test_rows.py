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


def test_shards_join_and_two_answers_to_one_question_do_not():
    assert [row.id for row in merge([ROW, other(id="2"), ROW])] == ["1", "2"]
    with pytest.raises(ValueError, match=r"got two answers to question '1' of b, .* expected the shards of one run"):
        merge([ROW, other(text="B")])


def test_a_digest_tells_what_was_said_apart():
    said = [("", "q", "", "q"), ("s", "q", "", "q"), ("", "q", "p", "q"), ("", "q", "", "g"), ("", "qp", "", "q")]
    assert len({prompt_digest(*each) for each in said}) == len(said)

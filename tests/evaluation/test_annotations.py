import pytest

from ppl.evaluation.annotations import find_video, read_csv, read_json_list


def test_tables_are_read_and_lacking_fields_named(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('video,question\n007,"why, then"\n')
    assert read_csv(file, "questions", ("video",)) == [{"video": "007", "question": "why, then"}]
    with pytest.raises(ValueError, match=r"a.csv whose entry 0 lacks \['qid'\], expected \['video', 'qid'\]"):
        read_csv(file, "questions", ("video", "qid"))


def test_another_json_is_an_error(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"with a JSON dict, expected a list"):
        read_json_list(file, "questions", ())
    file.write_text("[1]")
    with pytest.raises(ValueError, match=r"entry 0 lacks \['q'\]"):
        read_json_list(file, "questions", ("q",))
    with pytest.raises(FileNotFoundError, match=r"expected the questions: set the benchmark's root"):
        read_json_list(tmp_path / "b.json", "the questions", ())


def test_a_file_that_is_cut_off_or_no_such_file_is_named(tmp_path):
    file = tmp_path / "a.json"
    for content in (b"", b'[{"q": 1}, {"q', bytes(range(256))):
        file.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"got .*a.json, which cannot be read \(.*\), expected questions: fetch it"
        ):
            read_json_list(file, "questions", ("q",))
    file.write_bytes(b"video,question\n\xff\n")
    with pytest.raises(ValueError, match=r"got .*a.json, which cannot be read \('utf-8' codec"):
        read_csv(file, "questions", ("video",))
    file.write_text(f'video\n"{"x" * 200_000}"\n')
    with pytest.raises(ValueError, match=r"got .*a.json, which cannot be read \(field larger than"):
        read_csv(file, "questions", ("video",))


def test_a_video_is_found_by_any_ending_or_as_a_folder(tmp_path):
    for name in ("a.mkv", "b.avi"):
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    found = [find_video(tmp_path, name) for name in ("a", "b.avi", "c", "d")]
    assert found == [str(tmp_path / name) for name in ("a.mkv", "b.avi", "c", "d.mp4")]

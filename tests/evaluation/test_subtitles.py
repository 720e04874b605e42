import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.subtitles import Subtitle, read_subtitles, spoken_at, tagged_at

FONT = '<font color="white" size=".72c">{}</font>'


def test_a_file_is_read_whatever_its_line_ends(tmp_path):
    file = tmp_path / "a.srt"
    text = "1\n00:00:01,250 --> 00:00:02,500\n<i>one</i>\nline\n\n2\n01:00:00,000 --> 01:00:01,000\n" + FONT.format(
        "two"
    )
    for name, written in (("a", text), ("b", text.replace("\n", "\r\n")), ("c", "\ufeff" + text + "\n\n")):
        file = tmp_path / f"{name}.srt"
        file.write_bytes(written.encode())
        first, second = read_subtitles(str(file))
        assert first == Subtitle(1.25, 2.5, "<i>one</i> line")
        assert (first.plain, first.tagged) == ("one line", None)
        assert (second.start, second.plain, second.tagged) == (3600.0, "two", "two")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_subtitles(str(tmp_path / "none.srt"))


def test_each_is_said_once_and_its_end_is_not_part_of_it():
    said = [Subtitle(0, 1, "a"), Subtitle(1, 2, "b"), Subtitle(1, 3, ""), Subtitle(5, 6, "c")]
    assert spoken_at(said, [0.5, 0.9, 1.0]) == ["a", "b"]
    assert spoken_at(said, [2.0, 4.0]) == []
    assert spoken_at(said, [5.5, 0.0]) == ["a", "c"]


def test_of_the_same_times_the_last_is_taken_and_untagged_ones_are_passed_over():
    said = [Subtitle(0, 1, FONT.format("a")), Subtitle(0, 1, FONT.format("b")), Subtitle(0, 1.5, "plain")]
    assert tagged_at(said, [0], 10.0, shuffled=True) == ["b"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=12), st.lists(st.integers(0, 700), max_size=9)
)
def test_numbered_frames_agree_with_times(spans, frames):
    """At ten frames a second whole seconds are whole frames; each text its own, so that equal times stay apart."""
    said = [Subtitle(start, start + length + i / 1000, FONT.format(i)) for i, (start, length) in enumerate(spans)]
    whole = [Subtitle(each.start, int(each.end * 10) / 10, each.text) for each in said]
    found = tagged_at(said, frames, 10.0, shuffled=False)
    assert found == spoken_at(whole, [frame / 10 for frame in frames])
    assert sorted(tagged_at(said, frames, 10.0, shuffled=True)) == sorted(found)

"""Clips to try the page with."""

import av

from ppl.datamodules.synthetic.questions import vocabulary
from ppl.serving.page.callbacks import NUM_SUGGESTIONS
from ppl.serving.page.examples import write_examples


def test_examples_are_videos_with_questions_in_words_of_the_world(tmp_path):
    examples = write_examples(tmp_path / "examples")
    assert len({example.path.read_bytes() for example in examples}) == len(examples) == 4
    for example in examples:
        with av.open(str(example.path)) as container:
            assert container.streams.video[0].frames == 8
        assert example.picture.size == (48, 48)
        assert 0 < len(example.questions) <= NUM_SUGGESTIONS
        assert {word for question in example.questions for word in question.split()} <= set(vocabulary())


def test_examples_are_the_same_each_time(tmp_path):
    first, second = (write_examples(tmp_path / name) for name in ("a", "b"))
    assert [example.questions for example in first] == [example.questions for example in second]
    assert [example.picture.tobytes() for example in first] == [example.picture.tobytes() for example in second]

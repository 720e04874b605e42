"""lmms-eval's questions in our terms."""

import numpy as np
import pytest
import torch
from PIL import Image

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import Turn
from ppl.integrations.lmms_requests import Visual, asked_in_messages, asked_simply, generation, guide
from ppl.modules.generation import Generation
from tests.modules.tiny import plain_model


def test_marks_of_a_prompt_stand_for_its_images():
    images = [Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2))]
    assert asked_simply("see <image> and <image>", images).turns == [Turn("user", "see <media> and <media>")]
    assert asked_simply("why ?", images).turns == [Turn("user", "<media>\n<media>\nwhy ?")]
    assert asked_simply("why ?", []).turns == [Turn("user", "why ?")]


def test_a_path_is_what_its_file_holds(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "picture.bin", "PNG")
    paths = [str(tmp_path / "picture.bin"), str(tmp_path / "clip.mp4")]
    clip = {"type": "video", "path": paths[1], "video_start": 1.0, "video_end": 2.5}
    visuals = asked_simply("", [*paths, clip]).visuals
    assert visuals == [Visual("image", paths[0]), Visual("video", paths[1]), Visual("video", paths[1], 1.0, 2.5)]


def test_messages_keep_text_between_images():
    image = Image.new("RGB", (2, 2))
    parts = [
        {"type": "video", "url": "v.mp4", "start_time": 1.0},
        {"type": "image", "url": image},
        {"type": "text", "text": "is "},
        {"type": "image", "url": image},
        {"type": "text", "text": " in it ?"},
    ]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}]
    asked = asked_in_messages(messages)
    assert asked.turns == [Turn("system", "be brief"), Turn("user", "<media>\n<media>\nis <media> in it ?")]
    assert asked.visuals == [Visual("video", "v.mp4", 1.0), Visual("image", image), Visual("image", image)]


def test_a_sound_is_refused():
    with pytest.raises(ValueError, match=r"got a part 'audio' with a str, expected an image or a video: choose"):
        asked_in_messages([{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}])
    with pytest.raises(ValueError, match=r"got a ndarray to look at, expected an image or a file's path"):
        asked_simply("", [np.zeros(3)])


def test_the_question_and_its_options_guide():
    doc = {"question": "Why ?", "options": ["A. x", "B. y"], "videoID": "v"}
    assert guide("videomme_w_subtitle", doc, "Select … Why ? …") == "Why ?\nA. x\nB. y"
    assert guide("unknown_task", doc, "Select … Why ? …") == "Why ?"
    pair = {"question_1": "None", "question_2": "What is it ?"}
    assert guide("videochatgpt_consistency", pair, "") == "What is it ?"
    with pytest.warns(UserWarning, match=r"task other has none of the columns .* so its whole prompt guides"):
        assert guide("other", {"text": "Why ?"}, "<media>\nSay why") == "Say why"


def test_how_tasks_want_their_answers():
    greedy = {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}
    assert generation({**greedy, "until": ["\n\n"]}, 64) == Generation(16)
    assert generation({"until": ["ASSISTANT:"], "image_aspect_ratio": "original"}, 64) == Generation(
        64, stop_strings=("ASSISTANT:",)
    )
    assert generation({"temperature": 0.7, "top_p": 0.9, "do_sample": True}, 64) == Generation(
        64, temperature=0.7, top_p=0.9
    )
    assert generation({"temperature": 0.7, "top_p": 0.9, "do_sample": False}, 64) == Generation(64)
    assert generation({"temperature": 0, "top_p": None, "num_beams": 3}, 64) == Generation(64, num_beams=3)


def test_images_in_memory_are_read_as_they_are():
    processor = Processor(plain_model().input_spec)
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    opaque = Visual("image", Image.fromarray(pixels)).read(processor)
    clear = Visual("image", Image.fromarray(np.dstack([pixels, np.full((4, 6), 255, np.uint8)]))).read(processor)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(opaque.frames, expected)
    assert torch.equal(clear.frames, expected)
    assert opaque.key == clear.key
    other = Visual("image", Image.fromarray(255 - pixels)).read(processor)
    assert opaque.key != other.key

"""The command: questions in, one file out, the video encoded once."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ppl.cli import build_parser, main
from ppl.datamodules.images import resize_frames
from ppl.datamodules.processing import Processor
from ppl.functional.relevance import relevance_distribution
from ppl.modules.aligners.learned import LearnedAligner
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving import heatmap
from ppl.serving.overlays import heatmap_pictures, heatmap_sheet, heatmap_strip
from ppl.serving.session import ChatSession
from tests.modules.test_generation import BACKBONES
from tests.modules.tiny import CLIP_FOLDER, ROOT, inputs_seen
from tests.parity.native import template_of
from tests.serving.small_gpu import short_of_memory

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"
WIDTH, HEIGHT = 96 + 2 * (4 + 192), 22 + 192
"""Of a picture of the animation: half a frame, two columns; a caption of one line."""


@pytest.fixture
def session(model, processor, clip, monkeypatch):
    """What the command asks, in place of the one that a checkpoint would give."""
    opened = ChatSession(model, processor, clip)
    monkeypatch.setattr(heatmap, "open_session", lambda options: opened)
    return opened


@pytest.fixture
def never_opened(monkeypatch):
    """Loading a model takes minutes; mistakes that can be told before are."""

    def fail(options):
        raise AssertionError("it opened a session first")

    monkeypatch.setattr(heatmap, "open_session", fail)


def message(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["heatmap", *map(str, words)])
    return str(stopped.value.code)


def test_too_little_memory_ends_in_a_line(session):
    short_of_memory(session.model.aligner.text_tower, at=0)
    assert message("clip.mp4", FIRST).startswith("ppl heatmap: got less memory than this takes (CUDA out of memory. ")


def parsed(*words):
    return build_parser().parse_args(["heatmap", "clip.mp4", *words])


def test_the_command_line_takes_several_questions_and_a_format():
    options = parsed(FIRST)
    assert (options.questions, options.format, options.fps, options.output) == ([FIRST], "png", 2.0, None)
    options = parsed(FIRST, SECOND, "--format", "gif", "--fps", "4")
    assert (options.questions, options.format, options.fps) == ([FIRST, SECOND], "gif", 4.0)


def test_an_unknown_format_and_no_question_are_refused(capsys):
    with pytest.raises(SystemExit):
        parsed(FIRST, "--format", "webm")
    assert "invalid choice: 'webm'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parsed()
    assert "QUESTION" in capsys.readouterr().err


def test_several_questions_are_stacked_strips_of_one_encoding(model, processor, clip, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(heatmap, "open_session", lambda options: ChatSession(model, processor, clip))
    output = tmp_path / "new" / "sheet.png"
    with inputs_seen(model.backbone.vision_tower) as seen:
        main(["heatmap", str(clip), FIRST, SECOND, "-o", str(output)])
    assert [len(frames) for frames in seen] == [4]
    printed = capsys.readouterr().out
    assert all(word in printed for word in (str(output), "4 frame(s)", FIRST, SECOND))
    opened = ChatSession(model, processor, clip)
    expected = heatmap_sheet(opened.frames, [opened.relevance(q) for q in (FIRST, SECOND)], [FIRST, SECOND])
    with Image.open(output) as picture:
        assert (picture.format, picture.size) == ("PNG", (4 * 192, 2 * (22 + 192)))
        assert np.array_equal(np.asarray(picture), np.asarray(expected))


def test_questions_give_different_strips(session, clip, tmp_path):
    output = tmp_path / "sheet.png"
    main(["heatmap", str(clip), FIRST, SECOND, FIRST, "-o", str(output)])
    with Image.open(output) as picture:
        first, second, third = np.asarray(picture).reshape(3, 22 + 192, 4 * 192, 3)[:, 22:]
    assert (first != second).any()
    assert (first == third).all()


def test_a_gif_has_a_picture_for_each_frame(session, clip, in_tmp_path):
    main(["heatmap", str(clip), FIRST, SECOND, "--format", "gif", "--fps", "4"])
    with Image.open(in_tmp_path / "heatmap.gif") as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 4, (WIDTH, HEIGHT))
        assert gif.info["duration"] == 250
        shown = np.asarray(gif.convert("RGB"))
    assert (shown[22:, 100:292] != shown[22:, 296:488]).any(), "the questions' columns"


def test_an_mp4_has_a_picture_for_each_frame(session, clip, tmp_path):
    output = tmp_path / "no_suffix"
    main(["heatmap", str(clip), FIRST, SECOND, "--format", "mp4", "-o", str(output)])
    with av.open(output) as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert [time for time, _ in shown] == [0, 0.5, 1, 1.5]
    relevances = [session.relevance(q) for q in (FIRST, SECOND)]
    expected = heatmap_pictures(session.frames, relevances, [FIRST, SECOND])
    for (_, decoded), picture in zip(shown, expected, strict=True):
        assert decoded.shape == (HEIGHT, WIDTH, 3)
        found, drawn = (np.asarray(pixels).astype(int)[22:] for pixels in (decoded, picture))
        for own, others in (slice(100, 292), slice(296, 488)), (slice(296, 488), slice(100, 292)):
            # H.264, with colours at half resolution, costs less than the questions differ
            error, difference = (np.abs(found[:, own] - drawn[:, column]).mean() for column in (own, others))
            assert error < min(4, difference / 2)


@pytest.mark.parametrize(("name", "file_format"), [("a.png", "gif"), ("a.gif", "mp4"), ("a.jpg", "png")])
def test_a_suffix_of_another_format_is_refused(never_opened, name, file_format):
    expected = f"got {name} to write {file_format} to, expected a name that ends in .{file_format}; rename it or"
    assert expected in message("clip.mp4", FIRST, "--format", file_format, "-o", name)


def test_any_empty_question_is_refused(never_opened):
    assert "got an empty question" in message("clip.mp4", FIRST, " ")


@pytest.mark.parametrize("fps", ["0", "-1", "60", "nan", "inf"])
def test_a_rate_out_of_range_is_refused(never_opened, fps):
    assert f"got --fps {fps}, expected 0.1 to 50 pictures a second for gif" in message(
        "clip.mp4", FIRST, "--format", "gif", f"--fps={fps}"
    )


def anyres_model(name):
    """A backbone that tiles images, and an aligner that fits its tower."""
    backbone = BACKBONES[name](str(ROOT / "recipes/parts/backbones" / name), initialize="random")
    width = backbone.hf.config.vision_config.hidden_size
    aligner = LearnedAligner(width, f"local-dir:{CLIP_FOLDER}", None, load_weights=False)
    return VideoLLM(backbone, NoPooler(), aligner).eval()


@pytest.mark.parametrize("size", [(96, 48), (40, 90)], ids=str)
@pytest.mark.parametrize("name", ["tiny_llava_next", "tiny_internvl"])
def test_an_image_in_tiles_is_drawn_with_what_lies_in_the_view_of_the_whole(name, size, tmp_path, monkeypatch):
    """LLaVA-NeXT's first view, InternVL's last. Alone, it has the same relevance but for the sum."""
    model = anyres_model(name)
    path, output = tmp_path / "picture.png", tmp_path / "map.png"
    pixels = torch.randint(256, (1, 3, *reversed(size)), dtype=torch.uint8)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(path)
    session = ChatSession(model, Processor(model.input_spec, template_of(model)), path)
    monkeypatch.setattr(heatmap, "open_session", lambda options: session)
    main(["heatmap", str(path), FIRST, "-o", str(output)])
    assert len(session.media[0].grid) > 2, "the picture is in tiles"
    with torch.no_grad():
        whole = model.backbone.encode_frames(resize_frames(pixels, model.backbone.image_size), "image")
        prompt = model.aligner.embed_prompts(model.aligner.tokenize([FIRST]))[0]
        relevance = relevance_distribution(model.relevance(whole, prompt))
    expected = np.asarray(heatmap_strip(pixels, relevance, FIRST)).astype(int)
    with Image.open(output) as picture:
        assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1  # brightness is rounded

"""Commands of a conversation: what they do to it, what they tell, and how they refuse."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ppl.modules.generation import Generation
from ppl.modules.poolers.average import AveragePooler
from ppl.serving.chat_commands import COMMANDS, run_command
from ppl.serving.dialogue import Dialogue
from ppl.serving.overlays import heatmap_strip
from ppl.serving.session import ChatSession
from tests.modules.tiny import ROOT

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"


@pytest.fixture
def dialogue(model, processor, clip):
    return Dialogue(ChatSession(model, processor, clip), Generation(max_new_tokens=3), "some.ckpt")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "my picture.png"
    Image.fromarray(torch.randint(256, (48, 96, 3), dtype=torch.uint8).numpy()).save(path)
    return path


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture).copy()


def test_help_names_every_command(dialogue):
    told = run_command(dialogue, "/help")
    assert [line.split()[0] for line in told.splitlines()][: len(COMMANDS)] == [f"/{c.name}" for c in COMMANDS]
    wanted = {"add", "frames", "heatmap", "pooler", "budget", "save", "undo", "reset", "help"}
    assert wanted == {command.name for command in COMMANDS}
    assert "/add PATH [START] [END]" in told


@pytest.mark.parametrize(("typed", "meant"), [("/heatmp", "/heatmap [FILE]"), ("/bugdet 3", "/budget N"), ("/", "/")])
def test_an_unknown_command_brings_the_nearest(dialogue, typed, meant):
    with pytest.raises(ValueError, match="which is no command; perhaps /") as refused:
        run_command(dialogue, typed)
    assert f"perhaps {meant}" in str(refused.value)


@pytest.mark.parametrize("line", ["/add", "/add a 1 2 3", "/budget", "/undo it", "/save", "/pooler"])
def test_other_numbers_of_arguments_are_refused(dialogue, line):
    command = next(command for command in COMMANDS if command.name == line.split()[0][1:])
    with pytest.raises(ValueError, match=r"argument\(s\) for /\w+, expected /") as refused:
        run_command(dialogue, line)
    assert command.usage in str(refused.value)


def test_a_quote_that_does_not_end(dialogue):
    with pytest.raises(ValueError, match=r"got /add it's.mp4 with a quote that does not end"):
        run_command(dialogue, "/add it's.mp4")


def test_a_picture_is_added_in_the_middle(dialogue, picture, clip):
    list(dialogue.ask(FIRST))
    told = run_command(dialogue, f"/add '{picture}'")
    session = dialogue.session
    assert told == f"image of 1 frame(s); visual tokens: 12 -> {session.num_visual_tokens}"
    assert session.num_visual_tokens > 12
    list(dialogue.ask(SECOND))
    assert [medium["path"] for medium in dialogue.rows[1]["media"]] == [str(clip), str(picture)]
    assert len(dialogue.rows[0]["media"]) == 1


def test_a_clip_of_a_video_is_added(dialogue, clip):
    run_command(dialogue, f"/add {clip} 1.0 2")
    ref = dialogue.session.media[1].ref
    assert (ref.kind, ref.start, ref.end) == ("video", 1.0, 2.0)
    assert min(dialogue.session.media[1].decoded.times) >= 1.0
    with pytest.raises(ValueError, match=r"got 'soon' as a time, expected seconds: /add clip\.mp4 2\.5 10"):
        run_command(dialogue, f"/add {clip} soon")


def test_what_cannot_be_added_changes_nothing(dialogue, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(bytes(999))
    for name in ("none.mp4", "noise.mp4"):
        with pytest.raises((ValueError, OSError), match=name):
            run_command(dialogue, f"/add {tmp_path / name}")
    assert len(dialogue.session.media) == 1


def test_frames_are_listed_and_drawn(dialogue, picture, in_tmp_path):
    run_command(dialogue, f"/add '{picture}'")
    *listed, wrote = run_command(dialogue, "/frames").splitlines()
    times = dialogue.session.media[0].decoded.times
    assert listed[0].endswith(", ".join(f"{seconds:.2f} s" for seconds in times))
    assert listed[1] == f"{picture}: frame 1"
    assert wrote == "wrote frames.png"
    sheet = pixels(in_tmp_path / "frames.png")
    assert sheet.shape == (2 * 144, 4 * 128, 3)
    frame = Image.fromarray(dialogue.session.media[0].frames[2].permute(1, 2, 0).numpy()).resize((128, 128), 3)
    assert np.array_equal(sheet[:128, 256:384], np.asarray(frame))


def test_the_last_question_is_drawn_over_all_media(dialogue, picture, in_tmp_path):
    with pytest.raises(ValueError, match="got no answered question yet"):
        run_command(dialogue, "/heatmap")
    for question in (FIRST, SECOND):
        list(dialogue.ask(question))
    session = dialogue.session
    expected = np.asarray(heatmap_strip(session.frames, session.relevance(SECOND), SECOND))
    assert run_command(dialogue, "/heatmap") == f"wrote heatmap.png: {SECOND}"
    assert np.array_equal(pixels(in_tmp_path / "heatmap.png"), expected)
    run_command(dialogue, f"/add '{picture}'")
    run_command(dialogue, "/heatmap new/both.png")
    both = pixels(in_tmp_path / "new/both.png")
    assert np.array_equal(both[: len(expected)], expected)
    below = heatmap_strip(session.frames, session.relevance(SECOND)[:1], SECOND)
    assert np.array_equal(both[len(expected) :, : below.width], np.asarray(below)), "of the view of the whole"


@pytest.mark.parametrize("command", ["frames", "heatmap"])
def test_pictures_are_png_and_of_something(dialogue, command, clip, model, processor):
    before = clip.read_bytes()
    with pytest.raises(ValueError, match=r"clip\.mp4 to draw to, expected a name that ends in \.png"):
        run_command(dialogue, f"/{command} {clip}")
    assert clip.read_bytes() == before
    nothing = Dialogue(ChatSession(model, processor), Generation(), "some.ckpt")
    with pytest.raises(ValueError, match="without a video or image, expected one; /add PATH first"):
        run_command(nothing, f"/{command}")


def test_the_pooler_is_switched_by_name_or_path(dialogue, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("class_path: ppl.modules.poolers.average.AveragePooler\ninit_args: {kernel_size: [4, 3, 3]}\n")
    assert run_command(dialogue, f"/pooler {path}") == "visual tokens: 12 -> 4"
    assert isinstance(dialogue.session.model.pooler, AveragePooler)
    assert run_command(dialogue, "/pooler none") == "visual tokens: 4 -> 144"
    list(dialogue.ask(FIRST))
    assert (dialogue.rows[0]["pooler"], dialogue.rows[0]["visual_tokens"]) == ("none", 144)
    with pytest.raises(ValueError, match="perhaps none"):
        run_command(dialogue, "/pooler nono")
    with pytest.raises(ValueError, match="which describes no pooler"):
        run_command(dialogue, f"/pooler {ROOT / 'recipes/overlays/debug.yaml'}")
    assert dialogue.pooler_name == "none"


def test_a_budget_is_kept_and_taken_off(dialogue):
    assert run_command(dialogue, "/budget 3") == f"visual tokens: 12 -> {dialogue.session.num_visual_tokens}"
    assert dialogue.session.num_visual_tokens <= 3
    assert run_command(dialogue, "/budget off").endswith("-> 12")
    for wrong in ("-1", "many", "1.5"):
        with pytest.raises(ValueError, match=f"got /budget {wrong}, expected the most visual tokens"):
            run_command(dialogue, f"/budget {wrong}")


def test_the_conversation_is_saved_forgotten_and_begun_anew(dialogue, tmp_path):
    for question in (FIRST, SECOND):
        list(dialogue.ask(question))
    path = tmp_path / "talk.json"
    assert run_command(dialogue, f"/save {path}") == f"wrote {path}: 2 answer(s)"
    assert len(json.loads(path.read_text())["turns"]) == 2
    assert run_command(dialogue, "/undo") == f"forgot {SECOND!r} and its answer"
    assert len(dialogue.session.history) == 2
    assert "1 video(s) or image(s) stay" in run_command(dialogue, "/reset")
    assert (dialogue.session.history, dialogue.rows, dialogue.session.num_visual_tokens) == ([], [], 12)
    list(dialogue.ask(FIRST))
    assert len(dialogue.session.history) == 2

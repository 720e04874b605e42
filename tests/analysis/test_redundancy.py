"""The command on real files; open_clip's own functions on PIL pictures are the oracle of its similarities."""

import json
import os
import subprocess
import sys

import open_clip
import pytest
import torch
from PIL import Image

from ppl.analysis import clip_encoder, redundancy
from ppl.cli import build_parser, main
from tests.analysis.blotches import blotches, write_video
from tests.modules.tiny import ROOT

FIRST, SECOND, LONG = ("what is red ?", "the square"), ("who ?", "nobody"), ("a " * 60, "b " * 60)
CLOSE = 6e-5
"""Similarities are written with four digits; sums in fp32 add less than 1e-5."""


def item(name, video, *pairs, **times):
    content = [{"type": "video", "video": video, **times}]
    messages = []
    for question, answer in pairs:
        messages += [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        messages += [{"role": "assistant", "content": answer}]
        content = []
    return {"id": name, "messages": messages}


@pytest.fixture(scope="module")
def frames():
    """3 s at 4 frames a second, and 1.5 s: at 2 a second the middles are frames 1, 3, 5 and so on."""
    return {"long.mkv": blotches(12, seed=1), "short.mkv": blotches(6, seed=2)}


@pytest.fixture(scope="module")
def videos(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, pictures in frames.items():
        write_video(folder / name, pictures, 4)
    return folder


@pytest.fixture
def measure(videos, clip_folder, tmp_path):
    """Run the command on items; returns the lines that it wrote."""

    def run(*items, words=(), name="out.jsonl"):
        annotations = tmp_path / "data.jsonl"
        annotations.write_text("".join(json.dumps(item) + "\n" for item in items))
        options = ["--media-root", videos, "--architecture", f"local-dir:{clip_folder}", "-o", tmp_path / name]
        main(["redundancy", str(annotations), *map(str, options), "--device", "cpu", *words])
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    return run


@pytest.fixture(scope="module")
def cosines(frames, clip_folder):
    """What open_clip itself says of every second frame and a text."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")

    @torch.no_grad()
    def compare(video, pair, places=slice(1, None, 2)):
        pixels = torch.stack([transform(Image.fromarray(picture)) for picture in frames[video][places]])
        features, text = model.eval().encode_image(pixels), model.encode_text(tokenizer([" ".join(pair)]))
        return torch.cosine_similarity(features, text).tolist()

    return compare


def failure(capsys, measure, *items, **options):
    with pytest.raises(SystemExit) as stopped:
        measure(*items, **options)
    assert str(stopped.value.code).startswith("ppl redundancy: ")
    return str(stopped.value.code), capsys.readouterr()


def test_similarities_are_those_of_open_clip(measure, cosines, videos):
    lines = measure(item("x", "long.mkv", FIRST, SECOND), item("y", "short.mkv", FIRST), words=["--batch-size", "4"])
    expected = [("x", *FIRST, "long.mkv"), ("x", *SECOND, "long.mkv"), ("y", *FIRST, "short.mkv")]
    for line, (name, question, answer, video) in zip(lines, expected, strict=True):
        assert (line["id"], line["question"], line["answer"]) == (name, question, answer)
        assert line["video"] == str(videos / video)
        oracle = cosines(video, (question, answer))
        assert line["similarities"] == pytest.approx(oracle, abs=CLOSE)
        assert max(oracle) - min(oracle) > 100 * CLOSE, "frames that hardly differ prove nothing"
        assert line["num_frames"] == len(oracle) == (6 if video == "long.mkv" else 3)


def test_certificates_count_what_exceeds_the_threshold(measure, cosines):
    middle = sorted(cosines("long.mkv", FIRST))
    threshold = (middle[3] + middle[4]) / 2  # two of six frames lie above
    (line,) = measure(item("x", "long.mkv", FIRST), words=[f"--threshold={threshold}"])
    assert (line["num_relevant"], line["certificate"]) == (2, pytest.approx(1 / 3))
    assert line["certificate_seconds"] == pytest.approx(1.0, abs=1e-3)  # of three


def test_relative_similarities_are_compared_with_the_threshold(measure, cosines):
    (line,) = measure(item("x", "long.mkv", FIRST), words=["--relative", "--threshold", "0.5"])
    oracle = cosines("long.mkv", FIRST)
    middle = (min(oracle) + max(oracle)) / 2
    assert min(abs(value - middle) for value in oracle) > CLOSE
    assert line["num_relevant"] == sum(value > middle for value in oracle)
    assert line["similarities"] == pytest.approx(oracle, abs=CLOSE), "the file holds cosines all the same"


def test_a_clip_is_measured_for_itself(measure, cosines):
    """From 1 s to 2.5 s: the middles are at 1.25, 1.75 and 2.25 s, frames 5, 7 and 9."""
    whole, part = measure(item("x", "long.mkv", FIRST), item("y", "long.mkv", FIRST, start=1.0, end=2.5))
    assert part["similarities"] == pytest.approx(cosines("long.mkv", FIRST, slice(5, 10, 2)), abs=CLOSE)
    assert (part["start"], part["end"], whole["start"], whole["end"]) == (1.0, 2.5, None, None)


def test_a_video_is_embedded_once_in_small_batches(measure, monkeypatch):
    sizes = []
    embed = clip_encoder.CLIPEncoder.embed_frames

    def counting(self, frames):
        sizes.append(len(frames))
        return embed(self, frames)

    monkeypatch.setattr(clip_encoder.CLIPEncoder, "embed_frames", counting)
    words = ["--batch-size", "4", "--fps", "4"]
    lines = measure(
        item("x", "long.mkv", FIRST), item("y", "short.mkv", FIRST), item("z", "long.mkv", SECOND), words=words
    )
    assert sizes == [4, 4, 4, 4, 2]
    assert [line["id"] for line in lines] == ["x", "z", "y"], "a video's pairs stand together"


def test_broken_videos_are_told_and_the_others_measured(measure, videos, capsys, tmp_path):
    (videos / "noise.mkv").write_bytes(bytes(range(256)) * 20)
    content = (videos / "long.mkv").read_bytes()
    (videos / "short_file.mkv").write_bytes(content[: len(content) // 2])
    items = [item(name, f"{name}.mkv", FIRST) for name in ("noise", "none", "short_file", "short")]
    message, output = failure(capsys, measure, *items)
    assert "got 3 of 4 videos (or clips of them) that cannot be read" in message
    assert f"the 1 pairs about the others are in {tmp_path / 'out.jsonl'}" in message
    for name in ("noise", "none", "short_file"):
        assert f"failed: {videos / name}.mkv: " in output.err
    assert "decoding stopped" in output.err
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["short"]
    assert "most redundant of 1 question-answer pairs" in output.out


def test_an_interrupted_run_leaves_no_file_that_looks_complete(measure, monkeypatch, tmp_path):
    measure_clip = redundancy.measure_clip

    def interrupted(clip, *others):
        if "short" in clip.video:
            raise KeyboardInterrupt
        return measure_clip(clip, *others)

    monkeypatch.setattr(redundancy, "measure_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(item("x", "long.mkv", FIRST), item("y", "short.mkv", FIRST))
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / "out.jsonl.part").read_text().splitlines()) == 1


def test_what_is_left_out_or_cut_is_counted(measure, capsys):
    image = {"id": "i", "conversations": [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "a"}]}
    lines = measure(item("x", "long.mkv", FIRST, LONG), image | {"image": "a.png"}, image)
    assert len(lines) == 2
    told = capsys.readouterr().err
    assert "left out: 1 records with images" in told
    assert "left out: 1 records without a video" in told
    assert "cut: 1 of 2 texts are longer than 77 tokens; their end is lost" in told


def test_a_threshold_that_nothing_exceeds_is_told(measure, capsys):
    (line,) = measure(item("x", "long.mkv", FIRST), words=["--threshold", "0.99"])
    output = capsys.readouterr()
    assert line["certificate"] == 0
    assert "warning: no frame of any video exceeds the threshold 0.99" in output.err
    assert f"median {sorted(line['similarities'])[2]:.1f}"[:9] in output.err
    assert "1 without a relevant frame" in output.out
    measure(item("x", "long.mkv", FIRST), words=["--threshold=-1"], name="other.jsonl")
    assert "warning" not in capsys.readouterr().err


def test_results_are_not_overwritten_unasked(measure, capsys, tmp_path):
    measure(item("x", "long.mkv", FIRST), words=["--histogram", str(tmp_path / "new" / "h.png")])
    with Image.open(tmp_path / "new" / "h.png") as picture:
        assert picture.format == "PNG"
    before = (tmp_path / "out.jsonl").read_text()
    message, _ = failure(capsys, measure, item("x", "short.mkv", FIRST))
    assert (
        f"got {tmp_path / 'out.jsonl'}, which exists, expected a new file; name another or add --overwrite" in message
    )
    words = ["--histogram", str(tmp_path / "new" / "h.png")]
    assert "h.png, which exists" in failure(capsys, measure, item("x", "short.mkv", FIRST), words=words, name="b")[0]
    assert (tmp_path / "out.jsonl").read_text() == before
    (line,) = measure(item("x", "short.mkv", FIRST), words=["--overwrite"])
    assert line["num_frames"] == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--fps", "0"], "got --fps 0, expected more than 0 frames a second"),
        (["--threshold", "1.5"], "got --threshold 1.5, expected a similarity from -1 to 1"),
        (["--batch-size", "0"], "got --batch-size 0 and --top 100, expected at least 1 and at least 0"),
        (["--top=-1"], "and --top -1, expected"),
        (["--histogram", "a.jpg"], "got --histogram a.jpg, expected a name that ends in .png"),
        (["--pretrained", "openai"], "expected one source of weights"),
        (["--device", "gpu"], "got --device gpu, which cannot be used here"),
    ],
)
def test_mistakes_in_the_options(measure, capsys, words, expected):
    assert expected in failure(capsys, measure, item("x", "long.mkv", FIRST), words=words)[0]


def test_no_pair_at_all(measure, capsys):
    unanswered = {"id": "x", "messages": item("x", "long.mkv", FIRST)["messages"][:1]}
    message, output = failure(capsys, measure, unanswered)
    assert "got no answered question about a single video, expected at least one" in message
    assert "left out: 1 questions without an answer" in output.err


def test_the_defaults_are_the_papers():
    options = build_parser().parse_args(["redundancy", "data.jsonl"])
    assert (options.architecture, options.fps, options.threshold, options.top) == ("ViT-L-14-336", 2.0, 0.5, 100)
    assert (options.relative, options.output, options.overwrite) == (False, "redundancy.jsonl", False)


def test_the_program_as_a_user_starts_it(videos, clip_folder, tmp_path):
    annotations = tmp_path / "data.json"
    items = [item("x", str(videos / "long.mkv"), FIRST), item("y", str(videos / "short.mkv"), SECOND)]
    annotations.write_text(json.dumps(items))
    model = f"local-dir:{clip_folder}"
    command = [sys.executable, "-m", "ppl", "redundancy", annotations, "--architecture", model, "--threshold=-1"]
    environment = os.environ | {"COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "the 2 most redundant of 2 question-answer pairs" in result.stdout
    assert "wrote redundancy.jsonl: 2 pairs at 2 frames a second, relevant above a cosine of -1" in result.stdout
    assert "2/2" in result.stderr, "the progress bar"
    lines = [json.loads(line) for line in (tmp_path / "redundancy.jsonl").read_text().splitlines()]
    assert [(line["id"], line["certificate"], line["certificate_seconds"]) for line in lines] == [
        ("x", 1.0, pytest.approx(3.0)),
        ("y", 1.0, pytest.approx(1.5)),
    ]

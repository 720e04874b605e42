"""The program as a user meets it: what it prints, what it writes, and one clear line for every mistake."""

import io
import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ppl.cli import LIGHTNING_SUBCOMMANDS, main
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT
from tests.recipes.discovery import SMALL_QUESTIONS

RECIPE = ["-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"]
SMALL = ["--model.alignment=null", *SMALL_QUESTIONS]
QUESTION = "what colour is the square ?"


def ppl(*words, stdin=""):
    """Run the program in a process of its own."""
    command = [sys.executable, "-m", "ppl", *map(str, words)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Recipes name folders relative to the root of the checkout."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    result = ppl("fit", *RECIPE, *SMALL, f"--trainer.default_root_dir={folder}")
    assert result.returncode == 0, result.stderr
    assert "what trains" in result.stdout
    assert "frozen" in result.stdout
    assert "args parameter" not in result.stderr, "Lightning's warning of arguments beside the command line's"
    return folder


@pytest.fixture(scope="session")
def checkpoint(run):
    """The run's checkpoint, made to talk: a model of two steps ends its answers at once."""
    path = run / "talkative.ckpt"
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["model.backbone.hf.lm_head.weight"][:5] = 0  # <pad> <s> </s> <unk> <image>
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_video(path, render(random_scene(np.random.default_rng(0))))
    return path


@pytest.fixture
def mistake(capsys):
    """Run in this process what must fail, and return the message; an exception that gets through is a traceback."""

    def expect(*words):
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        message = str(stopped.value.code)
        assert message.startswith(f"ppl {words[0]}: ")
        assert capsys.readouterr().out == ""
        return message

    return expect


def test_help_names_every_subcommand_and_loads_nothing():
    probe = (
        "import sys; from ppl.cli import main\n"
        "heavy = {'torch', 'lightning', 'transformers', 'av', 'rich'}\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "[]")
    for name in ("fit", "validate", "test", "predict", "chat", "heatmap", "ablate", "plan", "convert", "redundancy"):
        assert f"    {name}" in result.stdout
    assert "PPL_TRACEBACK=1" in result.stdout


@pytest.mark.parametrize("command", LIGHTNING_SUBCOMMANDS)
def test_help_begins_with_an_example(command, capsys):
    with pytest.raises(SystemExit):
        run_training_cli([command, "--help"])
    usage, _, description = capsys.readouterr().out.partition("\n\n")
    assert usage == f"usage: ppl {command} [-c RECIPE]... [--KEY=VALUE]..."
    example = " ".join(description.partition("\n\n")[0].split()).partition("Example: ")[2].split()
    assert example[:3] == ["ppl", command, "-c"]
    assert all((ROOT / word).is_file() for word in example if word.startswith("recipes/"))


def test_version():
    from ppl import __version__

    result = ppl("--version")
    assert (result.returncode, result.stdout) == (0, f"ppl {__version__}\n")


def test_a_run_leaves_what_it_needs_to_be_repeated(run):
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    (config,) = run.rglob("config.yaml")
    assert "WeightedPooler" in config.read_text()


def test_chat_answers_one_question_about_a_video(checkpoint, clip):
    result = ppl("chat", clip, QUESTION, "--checkpoint", checkpoint, "--max-new-tokens", 5)
    assert result.returncode == 0, result.stderr
    assert "4 frame(s), 8 visual tokens" in result.stderr
    assert result.stdout.endswith("\n")
    assert len(result.stdout.split()) == 5


def test_chat_holds_a_conversation_over_one_encoding(checkpoint, clip, monkeypatch, capsys):
    from ppl.serving import chat

    sessions = []

    def opened(options):
        session = open_session(options)
        sessions.append(session)
        return session

    open_session = chat.open_session
    monkeypatch.setattr(chat, "open_session", opened)
    monkeypatch.setattr("sys.stdin", io.StringIO("what colour is the square ?\nis there a red ring ?\n\nnot asked ?\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    main(["chat", str(clip), "--checkpoint", str(checkpoint), "--max-new-tokens", "3", "--no-history"])
    (session,) = sessions
    assert [turn.text.split("\n")[-1] for turn in session.history[::2]] == [QUESTION, "is there a red ring ?"]
    answers = [turn.text for turn in session.history[1::2]]
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == answers


def test_chat_goes_on_after_a_question_it_cannot_take(checkpoint, clip, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("red " * 300 + f"\n{QUESTION}\n"))
    with pytest.raises(SystemExit) as stopped:
        main(["chat", str(clip), "--checkpoint", str(checkpoint), "--max-new-tokens", "3"])
    assert stopped.value.code == 1
    output = capsys.readouterr()
    assert "302 tokens" in output.err
    assert output.out.strip(), "no answer to the second question"


def test_chat_answers_a_pipe_in_json(checkpoint, clip):
    said = f"{QUESTION}\n\nis there a red ring ?\n"
    options = ["--checkpoint", checkpoint, "--device", "cpu", "--max-new-tokens", 3, "--budget", 4]
    result = ppl("chat", clip, "--json", *options, stdin=said)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["question"] for row in rows] == [QUESTION, "is there a red ring ?"]
    assert all(len(row["answer"].split()) == 3 and row["visual_tokens"] <= 4 for row in rows)
    assert rows[0]["prompt_tokens"] < rows[1]["prompt_tokens"]


def test_chat_answers_a_file_and_goes_on_where_it_ended(checkpoint, clip, tmp_path, capsys):
    file, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    rows = [{"id": "a", "video": str(clip), "question": QUESTION}, {"id": "b", "video": "b.mp4", "question": QUESTION}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["chat", "--questions", file, "-o", answers, "--checkpoint", checkpoint, "--max-new-tokens", 3]
    result = ppl(*words)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert (result.stdout, "1 answered, 0 there already, 1 failed" in result.stderr) == ("", True)
    first, bad = map(json.loads, answers.read_text().splitlines())
    assert (first["id"], len(first["answer"].split()), first["model"]) == ("a", 3, str(checkpoint))
    assert str(tmp_path / "b.mp4") in bad["error"]
    (tmp_path / "b.mp4").symlink_to(clip)
    main([str(word) for word in words])
    assert "1 answered, 1 there already, 0 failed" in capsys.readouterr().err
    again = [json.loads(line) for line in answers.read_text().splitlines()]
    assert again[0] == first
    assert again[1]["answer"] == first["answer"]


def test_chat_about_an_image(checkpoint, tmp_path, capsys):
    """48 x 96 pixels: a base view and two tiles on LLaVA-NeXT's canvas."""
    picture = tmp_path / "picture.png"
    Image.new("RGB", (96, 48), "red").save(picture)
    main(["chat", str(picture), QUESTION, "--checkpoint", str(checkpoint), "--max-new-tokens", "3"])
    output = capsys.readouterr()
    assert "1 frame(s), 14 visual tokens" in output.err  # 2 x 2, and 2 rows of 4 with a newline each
    assert output.out.strip()


def test_heatmap_writes_a_strip(checkpoint, clip, tmp_path, capsys):
    output = tmp_path / "new" / "strip.png"
    main(["heatmap", str(clip), QUESTION, "--checkpoint", str(checkpoint), "-o", str(output), "--num-frames", "3"])
    assert str(output) in capsys.readouterr().out
    with Image.open(output) as picture:
        assert (picture.format, picture.size) == ("PNG", (3 * 192, 192 + 22))


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")  # its output goes elsewhere on purpose
def test_predict_writes_a_row_a_question(checkpoint, tmp_path):
    from ppl.datamodules.synthetic.instruction import SyntheticInstructionDataModule

    main(["predict", *RECIPE, *SMALL, f"--ckpt_path={checkpoint}", f"--trainer.default_root_dir={tmp_path}"])
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    from ppl import checkpoints

    data = SyntheticInstructionDataModule(num_held_out_videos=2, num_held_out_questions=4, num_frames=4)
    data.attach(checkpoints.load(checkpoint).input_spec)
    asked = [data.dataset("predict").example(i).question for i in range(4)]
    assert [(row["prompt"], row["answer"], row["category"]) for row in rows] == [
        (question.text, question.answer, question.type) for question in asked
    ]
    assert all(isinstance(row["prediction"], str) for row in rows)


# Mistakes about media and questions


def test_a_missing_video(mistake, checkpoint):
    assert "none.mp4" in mistake("chat", "none.mp4", QUESTION, "--checkpoint", checkpoint)


def test_a_file_that_is_no_video(mistake, checkpoint, tmp_path):
    path = tmp_path / "noise.mp4"
    path.write_bytes(bytes(range(256)) * 40)
    assert str(path) in mistake("heatmap", path, QUESTION, "--checkpoint", checkpoint)


def test_a_file_with_sound_only(mistake, checkpoint, tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    message = mistake("chat", path, QUESTION, "--checkpoint", checkpoint)
    assert str(path) in message
    assert "no video stream" in message


@pytest.mark.parametrize("command", ["chat", "heatmap"])
def test_an_empty_question(mistake, checkpoint, clip, command):
    assert "got an empty question" in mistake(command, clip, "  ", "--checkpoint", checkpoint)


def test_a_question_longer_than_the_context(mistake, checkpoint, clip):
    message = mistake("chat", clip, "red " * 300, "--checkpoint", checkpoint)
    assert "has 302 tokens, the text tower's context holds 248: 54 tokens would be cut" in message


def test_a_missing_checkpoint(mistake, clip):
    message = mistake("chat", clip, QUESTION, "--checkpoint", "none.ckpt")
    assert "'none.ckpt', which does not exist" in message
    assert "make demo" in message


@pytest.mark.parametrize("words", [("chat", "clip.mp4", QUESTION), ("heatmap", "clip.mp4", QUESTION), ("export",)])
def test_a_checkpoint_that_names_a_class_of_an_earlier_version(mistake, checkpoint, tmp_path, words):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["aligner"]["class_path"] = "ppl.modules.aligner.CLIPAligner"
    path = tmp_path / "old.ckpt"
    torch.save(content, path)
    place = [path, "-o", tmp_path / "exported"] if words == ("export",) else ["--checkpoint", path]
    message = mistake(*words, *place)
    assert f"got checkpoint {path}, whose recipe names the class ppl.modules.aligner.CLIPAligner, expected" in message
    assert "\n" not in message


def test_a_folder_in_place_of_a_file(mistake, checkpoint, tmp_path):
    words = ["chat", "--questions", tmp_path, "--checkpoint", checkpoint]
    assert f"Is a directory: '{tmp_path}'" in mistake(*words)


# Mistakes about training


def test_a_kernel_larger_than_the_grid(tmp_path):
    result = ppl("fit", *RECIPE, *SMALL, "--model.pooler.kernel_size=[9,3,3]", f"--trainer.default_root_dir={tmp_path}")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ppl fit: kernel_size=(9, 3, 3) does not fit a grid of (t, h, w)=(4, 6, 6)")
    assert not list(tmp_path.rglob("*.ckpt")), "it trained first"


def small_fit(tmp_path, *words):
    return ["fit", *RECIPE, *SMALL, f"--trainer.default_root_dir={tmp_path}", *words]


def test_a_missing_annotation_file(mistake, tmp_path):
    recipe = ["fit", *RECIPE, "--model.alignment=null", f"--trainer.default_root_dir={tmp_path}"]
    data = ["--data=ppl.datamodules.instruction.InstructionDataModule", "--data.train_files=[none.jsonl]"]
    assert "none.jsonl" in mistake(*recipe, *data)


def test_an_alignment_of_another_model(mistake, tmp_path):
    path = tmp_path / "alignment.safetensors"
    save_file({"vision_tower.strange": torch.zeros(1), "aligner.logit_scale": torch.zeros(3)}, path)
    message = mistake(*small_fit(tmp_path, f"--model.alignment={path}"))
    assert f"the tensors of {path} are not those of this model's vision tower and aligner" in message
    assert "unknown to the model: vision_tower.strange" in message
    assert "aligner.logit_scale: the file has shape (3,), the model ()" in message
    assert "missing from the file: aligner.visual_projection.weight" in message


def test_an_alignment_that_was_never_run(mistake, tmp_path):
    assert "run it first" in mistake(*small_fit(tmp_path, f"--model.alignment={tmp_path}/none.safetensors"))


def test_a_run_to_go_on_from_that_is_no_checkpoint(mistake, tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(bytes(range(256)))
    assert f"{path} is no checkpoint, or one that is damaged" in mistake(*small_fit(tmp_path, f"--ckpt_path={path}"))


def test_the_traceback_is_there_for_who_asks(tmp_path, monkeypatch):
    monkeypatch.setenv("PPL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="run it first"):
        main(small_fit(tmp_path, f"--model.alignment={tmp_path}/none.safetensors"))


def test_an_error_that_is_not_ours_keeps_its_traceback(monkeypatch):
    from ppl.serving import chat

    monkeypatch.setattr(chat, "run_chat", lambda options: int("no number"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["chat", "clip.mp4", QUESTION])


def test_a_cause_that_was_never_raised_is_no_message_of_ours():
    from ppl.cli import _told_to_the_user

    foreign = ValueError("of another library")
    foreign.__cause__ = KeyError("made, but not raised")
    assert _told_to_the_user(foreign) is None

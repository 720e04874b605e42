"""Options of ``ppl chat`` and what becomes of them."""

import io
import json
import os

import pytest
from PIL import Image

from ppl.cli import build_parser, main
from ppl.datamodules.records import PLACEHOLDER
from ppl.modules.generation import Generation
from ppl.serving import chat, chat_terminal
from ppl.serving.session import ChatSession
from tests.serving.small_gpu import short_of_memory

QUESTION, OTHER = "what colour is the square ?", "which way does the ring move ?"


@pytest.fixture
def session(model, processor, clip, monkeypatch):
    session = ChatSession(model, processor, clip)
    monkeypatch.setattr(chat, "open_session", lambda options: session)
    return session


@pytest.fixture
def asked(session, monkeypatch):
    """What the session is asked, in place of an answer."""
    calls = []

    def ask(question, generation):
        calls.append((question, generation))
        yield "yes"

    monkeypatch.setattr(session, "ask", ask)
    return calls


@pytest.fixture
def brief(session, monkeypatch):
    """The session, whose answers are two tokens long."""
    monkeypatch.setattr(chat, "_generation", lambda options: Generation(max_new_tokens=2))
    return session


@pytest.fixture
def piped(monkeypatch):
    def lines(*texts):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{text}\n" for text in texts)))

    return lines


def run(*options):
    chat.run_chat(build_parser().parse_args(["chat", "clip.mp4", *options]))


def message(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["chat", *map(str, words)])
    return str(stopped.value.code)


def test_by_default_the_likeliest_answer_to_the_newest_question(session, asked):
    run(QUESTION)
    assert asked == [(QUESTION, Generation())]
    assert session.policy == "per-turn"


def test_every_option_of_generation_arrives(session, asked):
    sampling = ["--temperature=0.7", "--top-p=0.9", "--top-k=40", "--repetition-penalty=1.1", "--seed=3"]
    run(QUESTION, "--num-beams=4")
    run(QUESTION, "--policy=union", "--max-new-tokens=5", *sampling, "--stop=.", "--stop=END")
    sampled = Generation(5, 0.7, 0.9, 40, 1, 1.1, 3, (".", "END"))
    assert asked == [(QUESTION, Generation(num_beams=4)), (QUESTION, sampled)]
    assert session.policy == "union"


def test_too_little_memory_for_the_only_question_ends_in_a_line(brief, model):
    short_of_memory(model.backbone.language_model, at=0)
    told = message("clip.mp4", QUESTION)
    assert told.startswith(
        "ppl chat: got less memory than this takes (CUDA out of memory. Tried to allocate 2 GiB. GPU"
    )
    assert "\n" not in told


def test_too_little_memory_for_a_line_of_a_pipe_leaves_the_others(brief, model, piped, capsys):
    short_of_memory(model.backbone.language_model, at=0)
    piped(QUESTION, OTHER)
    with pytest.raises(SystemExit) as stopped:
        run("--json")
    assert stopped.value.code == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["question"], first["error"][:28]) == (QUESTION, "got less memory than this ta")
    assert (second["question"], second["answer_tokens"]) == (OTHER, 2)


@pytest.fixture
def never_opened(monkeypatch):
    """Loading a model takes minutes; mistakes that can be told before are."""
    monkeypatch.setattr(chat, "open_session", lambda options: pytest.fail("loaded"))


def test_options_that_do_not_go_together_are_refused_before_anything_is_loaded(never_opened, clip, in_tmp_path):
    assert "got top_p=0.9 and top_k=0 with temperature=0" in message("clip.mp4", QUESTION, "--top-p=0.9")
    assert f"got the file {clip} as a question" in message("clip.mp4", clip)
    assert "got a question beside --questions" in message("clip.mp4", QUESTION, "--questions=q.jsonl")
    assert "without --questions" in message("clip.mp4", "-o", "answers.jsonl")
    assert "expected two files" in message("--questions=q.jsonl", "-o", "./q.jsonl")
    assert "q.jsonl" in message("--questions=q.jsonl")
    assert "perhaps average?" in message("clip.mp4", QUESTION, "--pooler=avarage")


def test_a_question_may_stand_behind_options(asked):
    run("--policy=union", QUESTION)
    run(QUESTION, "--policy=union")
    assert [question for question, _ in asked] == [QUESTION] * 2
    options = build_parser().parse_args(["chat", "--json", "clip.mp4", "--budget", "3", QUESTION])
    assert (options.media, options.question) == ("clip.mp4", QUESTION)


@pytest.mark.parametrize("words", [["clip.mp4", "--json", QUESTION, "more"], ["clip.mp4", QUESTION, "--jsn"]], ids=str)
def test_words_too_many_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["chat", *words])
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_conversation_goes_on_after_questions_too_long_for_their_policy(brief, piped, capsys):
    piped("red " * 150, "blue " * 150, QUESTION)
    with pytest.raises(SystemExit) as stopped:
        run("--policy=union")
    assert stopped.value.code == 1
    output = capsys.readouterr()
    assert "choose another policy" in " ".join(output.err.split())
    assert len(brief.history) == 4


def test_each_line_of_a_pipe_is_a_question_and_answers_are_all_that_comes_out(brief, piped, capsys):
    piped(QUESTION, "", "  ", "/frames", OTHER)
    run()
    questions = [turn.text.split("\n")[-1] for turn in brief.history[::2]]
    assert questions == [QUESTION, "/frames", OTHER], "blank lines are none, commands are for the terminal"
    output = capsys.readouterr()
    assert [line.strip() for line in output.out.splitlines()] == [turn.text for turn in brief.history[1::2]]
    assert output.err.count("12 visual tokens, first token after") == 3


def test_json_has_an_object_for_each_question(brief, piped, capsys, clip):
    piped(QUESTION, f"is {PLACEHOLDER} red ?", OTHER)
    with pytest.raises(SystemExit) as stopped:
        run("--json", "--pooler=average", "--budget=5")
    assert stopped.value.code == 1
    first, bad, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [first["answer"], last["answer"]] == [turn.text for turn in brief.history[1::2]]
    assert [first["question"], last["question"]] == [QUESTION, OTHER]
    assert (first["pooler"], first["budget"]) == ("average", 5)
    assert first["visual_tokens"] == brief.num_visual_tokens <= 5
    assert first["prompt_tokens"] < last["prompt_tokens"] == brief.num_prompt_tokens
    assert first["media"][0]["frames"] == [round(seconds, 3) for seconds in brief.media[0].decoded.times]
    assert bad["question"] == f"is {PLACEHOLDER} red ?"
    assert "got 2 placeholders in the user turns; expected 1" in bad["error"]


def test_bytes_that_are_no_text_are_a_bad_question_among_others(brief, monkeypatch, capsys):
    lines = io.BytesIO(f"{QUESTION}\n".encode() + b"caf\xe9 ?\n" + f"{OTHER}\n".encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="utf-8"))
    with pytest.raises(SystemExit):
        run()
    assert "half a character" in capsys.readouterr().err
    assert len(brief.history) == 4


def test_further_media_and_none(brief, model, processor, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    run(QUESTION, "--add", str(tmp_path / "red.png"))
    assert [medium.ref.kind for medium in brief.media] == ["video", "image"]
    assert "5 frame(s)" in capsys.readouterr().err
    nothing = ChatSession(model, processor)
    monkeypatch.setattr(chat, "open_session", lambda options: nothing)
    chat.run_chat(build_parser().parse_args(["chat", "--questions", questions(tmp_path, {"question": QUESTION})]))
    row = json.loads(capsys.readouterr().out)
    assert (row["visual_tokens"], row["media"]) == (0, [])


def questions(folder, *rows):
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_file_of_questions_about_the_video_that_is_given(brief, tmp_path, clip, capsys):
    file = questions(tmp_path, {"id": "a", "question": QUESTION}, {"id": "b", "video": "none.mp4", "question": OTHER})
    answers = tmp_path / "answers.jsonl"
    with pytest.raises(SystemExit) as stopped:
        run("--questions", file, "-o", str(answers))
    assert stopped.value.code == 1
    first, second = map(json.loads, answers.read_text().splitlines())
    assert (first["id"], first["visual_tokens"], first["media"][0]["path"]) == ("a", 12, str(clip))
    assert str(tmp_path / "none.mp4") in second["error"]
    output = capsys.readouterr()
    assert output.out == ""
    assert "1 answered, 0 there already, 1 failed" in output.err
    link = tmp_path / "none.mp4"
    link.symlink_to(clip)
    run("--questions", file, "-o", str(answers))
    assert "1 answered, 1 there already, 0 failed" in capsys.readouterr().err


def test_a_terminal_has_a_conversation(session, monkeypatch):
    calls = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(chat, "converse", lambda dialogue, output, history: calls.append(history))
    run()
    run("--no-history")
    assert calls == [chat_terminal.history_file(), None]


def test_ctrl_c_ends_what_is_no_conversation(session, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(session, "ask", interrupted)
    for words in ([QUESTION], ["--questions", questions(tmp_path, {"question": QUESTION}), "-o", str(tmp_path / "a")]):
        with pytest.raises(SystemExit) as stopped:
            run(*words)
        assert stopped.value.code == 130
    assert capsys.readouterr().err.rstrip().endswith("stopped; the same command goes on")


def test_a_reader_that_has_enough_is_no_fault_to_trace(asked, monkeypatch):
    """As with `| head -1`; at the end Python empties what is left of the stream, which must not fail either."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(SystemExit) as stopped:
            run(QUESTION)
        assert stopped.value.code == 1
        stream.write("left")

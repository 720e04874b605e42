"""A conversation at a terminal: commands, Ctrl-C, and lines that are there again next time."""

import io
import readline
import signal
import stat
import threading

import pytest

from ppl.modules.generation import Generation
from ppl.serving.chat_output import ChatOutput
from ppl.serving.chat_terminal import converse, history_file, kept_lines
from ppl.serving.dialogue import Dialogue
from ppl.serving.session import ChatSession
from tests.serving.small_gpu import short_of_memory

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"


@pytest.fixture
def dialogue(model, processor, clip):
    return Dialogue(ChatSession(model, processor, clip), Generation(max_new_tokens=4), "some.ckpt")


@pytest.fixture
def talk(dialogue, monkeypatch, capsys):
    """Type lines; returns what the answers' and the other stream show."""

    def type_lines(*lines):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        converse(dialogue, ChatOutput(as_json=False), None)
        return capsys.readouterr()

    return type_lines


def test_answers_are_on_one_stream_and_all_else_on_the_other(talk, dialogue):
    shown = talk(FIRST, "/pooler average", SECOND)
    answers = [row["answer"] for row in dialogue.rows]
    assert [line.strip() for line in shown.out.splitlines()] == answers
    assert all(f"{row['visual_tokens']} visual tokens, first token after 0." in shown.err for row in dialogue.rows)
    assert "visual tokens: 12 -> " in shown.err
    assert shown.err.count("> ") >= 4, "prompts"
    assert [row["pooler"] for row in dialogue.rows] == ["WeightedPooler", "average"]


def test_an_empty_line_ends(talk, dialogue):
    talk(FIRST, "", SECOND)
    assert len(dialogue.rows) == 1


def test_mistakes_do_not_end_it(talk, dialogue):
    shown = talk("/hepl", "/add [none].mp4", "red " * 300, "/save talk.doc", FIRST)
    for told in ("perhaps /help?", "[none].mp4", "302 tokens", "ends in .json or .md"):
        assert told in shown.err
    assert [row["question"] for row in dialogue.rows] == [FIRST]


def test_a_question_may_begin_with_a_slash(talk, dialogue):
    talk("//help me ?")
    assert dialogue.rows[0]["question"] == "/help me ?"


@pytest.fixture
def heeds_ctrl_c():
    """Shells have programs that they start in the background ignore it, tests among them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_the_answer_and_not_the_conversation(talk, dialogue, model, monkeypatch):
    """The signal comes while the model generates in its own thread."""
    generate, calls, steps = model.generate, [], []
    model.backbone.language_model.register_forward_pre_hook(lambda *_: steps.append(1))

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 1:
            # as from a keyboard: the kernel may hand what is sent to the process to the thread that sends it
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert options["cancelled"].wait(60), "nobody took notice"
        return generate(*args, **options)

    monkeypatch.setattr(model, "generate", interrupted)
    dialogue.generation = Generation(max_new_tokens=60)
    shown = talk(FIRST, SECOND)
    assert len(calls) == 2
    assert len(steps) <= 62, "the first answer went on"
    assert "stopped; what was not finished is forgotten" in shown.err
    assert [row["question"] for row in dialogue.rows] == [SECOND]
    assert len(dialogue.session.history) == 2


def test_too_little_memory_for_an_answer_loses_nothing_of_the_conversation(talk, dialogue, model, processor, clip):
    short_of_memory(model.backbone.language_model, at=6)  # after some words of the second answer
    shown = talk(FIRST, SECOND, "/budget 4", SECOND)
    assert "got less memory than this takes (CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has" in shown.err
    assert "/budget N" in shown.err
    assert "Traceback" not in shown.err
    same = Dialogue(ChatSession(model, processor, clip), dialogue.generation, "some.ckpt")
    list(same.ask(FIRST))
    same.limit(4)
    list(same.ask(SECOND))
    assert [row["answer"] for row in dialogue.rows] == [row["answer"] for row in same.rows]
    assert dialogue.session.history == same.session.history


def test_too_little_memory_for_a_further_clip_leaves_the_others(talk, dialogue, model, clip, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes() + b" ")
    short_of_memory(model.backbone.vision_tower, at=0)
    shown = talk(f"/add {other}", FIRST)
    assert "got less memory than this takes (CUDA out of memory" in shown.err
    assert [len(row["media"]) for row in dialogue.rows] == [1]


def test_ctrl_c_at_the_prompt_ends_the_conversation(talk, dialogue, monkeypatch):
    class Interrupting(io.StringIO):
        def readline(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr("io.StringIO", Interrupting)
    talk(FIRST)
    assert dialogue.rows == []


def test_lines_are_kept_for_the_next_conversation(tmp_path):
    file, output = tmp_path / "state" / "history", ChatOutput(as_json=False)
    for line in (FIRST, SECOND):
        with kept_lines(file, output) as keep:
            readline.add_history(line)
            keep()
            keep()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with kept_lines(file, output):
        found = [readline.get_history_item(n + 1) for n in range(readline.get_current_history_length())]
    assert found == [FIRST, SECOND]
    readline.clear_history()


def test_two_conversations_at_once_lose_no_lines(tmp_path):
    file, output = tmp_path / "history", ChatOutput(as_json=False)
    with kept_lines(file, output) as keep:
        readline.add_history(FIRST)
        file.write_text(f"{SECOND}\n")  # the other one's
        keep()
    assert file.read_text() == f"{SECOND}\n{FIRST}\n"
    readline.clear_history()


def test_lines_are_not_kept_where_they_cannot_or_shall_not_be(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with kept_lines(tmp_path / "file" / "history", ChatOutput(as_json=False)) as keep:
        readline.add_history(FIRST)
        keep()
    assert "lines are not kept: " in capsys.readouterr().err
    with kept_lines(None, ChatOutput(as_json=False)) as keep:
        readline.add_history(FIRST)
        keep()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    readline.clear_history()


def test_the_file_is_in_the_user_s_folder_for_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "ppl/chat_history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file() == tmp_path / ".local/state/ppl/chat_history"

"""Every code block and command of the README and the documentation: parsed always, and run on tiny models."""

import importlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from ppl.cli import LIGHTNING_SUBCOMMANDS, main
from ppl.datamodules.annotations import read_records
from ppl.planning.recipe import read_recipe
from tests.docs.blocks import PAGES, inline, read
from tests.docs.fates import ONLY_PARSED, PROGRAMS, check, check_words, mentioned
from tests.docs.shell import calls, programs
from tests.docs.tiny_world import PREPARED, copied, finish_runs, make, small_words
from tests.modules.tiny import ROOT

# What a command warns of is looked at where it is tested; here the question is whether it works.
pytestmark = pytest.mark.filterwarnings("ignore")

BASE = "recipes/experiments/sft_llava_next.yaml"
ASKING = ["predict", "--model=ppl.checkpoints.load", "--model.path=last.ckpt"]
OPTION = re.compile(r"--(model|data|trainer)\.[\w.]+=[^…]+")
BASES = [
    ["-c", BASE, "-c", "recipes/overlays/lora.yaml"],
    *(["-c", f"recipes/experiments/{name}.yaml"] for name in ("sft_video_llava", "sft_llava_video", "sft_internvl3")),
    *(["-c", f"recipes/experiments/{name}.yaml"] for name in ("dpo_llava_next", "align_internvl3", "tiny_sft")),
    *(["-c", f"recipes/eval/{name}.yaml"] for name in ("videomme", "msvdqa", "embedded_world", "mmbench_en")),
]
LANGUAGES = {"bash", "python", "yaml", "json", "text"}
"""``text`` is what a program prints, or a figure; all others are checked."""
QUICK = {"docs/how_it_works.md", "docs/write_a_pooler.md"}
"""Pages that are run by the default tests, without checkpoints; the others take some minutes together."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return make(tmp_path_factory.mktemp("docs") / "world")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return programs(tmp_path_factory.mktemp("programs") / "bin", PROGRAMS)


@pytest.fixture(scope="module")
def trained(world, path, tmp_path_factory):
    """The world, with checkpoints."""
    folder = copied(world, tmp_path_factory.mktemp("trained"), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish_runs(folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language(page):
    for block in read(page)[0]:
        assert block.language in LANGUAGES, f"{block.place}: expected one of {sorted(LANGUAGES)}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_accepted(page, world, path, tmp_path, monkeypatch):
    """By the parser that it will meet."""
    folder = copied(world, tmp_path, path)
    monkeypatch.chdir(folder)
    for block in read(page)[0]:
        write(block, folder, monkeypatch)
        if block.language == "bash":
            for call in calls(block.text, path, folder):
                check(call, folder)
        elif block.language == "python":
            compile(block.text, block.place, "exec")
        elif block.language == "yaml" and "class_path" not in yaml.safe_load(block.text):
            check_yaml(block.text, folder)
        elif block.language == "json":
            check_json(block.text, folder)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_text_is_accepted(page, world, monkeypatch):
    monkeypatch.chdir(world)
    for text in inline(page):
        words = text.split(" #")[0].removeprefix(".venv/bin/").replace("'", "").split()
        if words[:1] != ["ppl"] or len(words) == 1 or "…" in text:
            continue
        if words[1] in LIGHTNING_SUBCOMMANDS and "-c" in words[:-1] and "<" not in text:
            check_words(words[1:])
        else:
            mentioned(words[1:])


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_value_in_the_text_is_accepted(page, world, monkeypatch):
    """By one of the recipes that it may be meant for."""
    monkeypatch.chdir(world)
    texts = [text for text in inline(page) if OPTION.fullmatch(text.replace("'", ""))]
    assert [text for text in texts if not any(accepts(base, text.replace("'", "").split()) for base in BASES)] == []


def accepts(base, words):
    try:
        read_recipe([*base, *words], needs_model=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_every_record_in_the_text_can_be_read(page, tmp_path):
    for text in inline(page):
        if "…" not in text and text.startswith(
            ('{"messages"', '{"conversations"', '{"video', '{"image', '{"multi-image', '{"id"', '{"sample_id')
        ):
            check_json(text, tmp_path)


def pages_that_run():
    for page in PAGES:
        marks = () if page in QUICK else (pytest.mark.slow, pytest.mark.timeout(900))
        if any(block.language in ("bash", "python") for block in read(page)[0]):
            yield pytest.param(page, marks=marks)


@pytest.mark.parametrize("page", list(pages_that_run()))
def test_a_page_runs(page, path, tmp_path, monkeypatch, request):
    """From its first block to its last, in one folder."""
    folder = copied(request.getfixturevalue("world" if page in QUICK else "trained"), tmp_path, path)
    monkeypatch.chdir(folder)
    PREPARED.get(page, lambda _: None)(folder)
    names = {"__name__": "documentation"}
    for block in read(page)[0]:
        write(block, folder, monkeypatch)
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), names)
        elif block.language == "bash":
            for call in calls(block.text, path, folder):
                run_call(call, folder, monkeypatch)


def run_call(call, folder, monkeypatch):
    check(call, folder)
    if call.program != "ppl" or call.words[0] in ONLY_PARSED:
        return
    monkeypatch.setattr(sys, "stdin", io.StringIO(call.stdin or "what colour is the circle ?\n"))
    words = small_words(call.words, folder)
    try:
        main(words)
    except SystemExit as stopped:
        if stopped.code:
            pytest.fail(f"`{call}`, run as `ppl {' '.join(words)}`: {stopped.code}")


def write(block, folder, monkeypatch):
    """A block with a title is a file; Python can import it."""
    if block.title is None:
        return
    file = folder / block.title
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text)
    if file.suffix == ".py" and file.parent == folder:
        monkeypatch.syspath_prepend(folder)
    elif file.suffix == ".py":
        package = importlib.import_module(".".join(Path(block.title).parts[:-1]))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{file.stem}", raising=False)


def check_yaml(text, folder):
    """An overlay: it parses upon a recipe, and all that it says arrives."""
    (folder / "block.yaml").write_text(text)
    content = yaml.safe_load(text)
    assert set(content) <= {"model", "data", "trainer", "seed_everything"}
    is_benchmark = content.get("data", {}).get("class_path") == "ppl.datamodules.benchmark.BenchmarkDataModule"
    check_words([*(ASKING if is_benchmark else ["fit", "-c", BASE]), "-c", "block.yaml"])


def check_json(text, folder):
    """Records of annotation files; or what is said to a server, which is JSON and no more is known here."""
    try:
        items = [json.loads(line) for line in text.splitlines() if line]
    except json.JSONDecodeError:
        items = [json.loads(text)]
    if "model" in items[0] or "object" in items[0]:
        return
    (folder / "block.jsonl").write_text("\n".join(map(json.dumps, items)))
    assert len(read_records(folder / "block.jsonl")) == len(items)

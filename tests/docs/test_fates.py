"""The checks of the documentation find what is wrong with it."""

import pytest

from ppl.cli import LIGHTNING_SUBCOMMANDS, build_parser
from tests.docs import blocks
from tests.docs.fates import ELSEWHERE, OF_OTHER_PACKAGES, ON_SEVERAL_DEVICES, ONLY_PARSED, PROGRAMS, check, mentioned
from tests.docs.shell import REAL, Call, calls, programs
from tests.modules.tiny import ROOT


@pytest.fixture
def path(tmp_path):
    return programs(tmp_path / "bin", PROGRAMS)


def test_bash_itself_reads_a_block(path, tmp_path):
    text = """
words=(--a "b c")
for x in 1 2; do ppl fit "${words[@]}" --x=$x \\
  --y; done  # why
echo hi | ppl chat '*'
"""
    loop = [Call("ppl", "", ["fit", "--a", "b c", f"--x={x}", "--y"]) for x in (1, 2)]
    assert calls(text, path, tmp_path) == [*loop, Call("ppl", "hi", ["chat", "*"])]


@pytest.mark.parametrize("text", ["frobnicate", "ppl fit 'a", "ppl fit &&", "cd nowhere"])
def test_what_bash_cannot_read_or_find_is_an_error(text, path, tmp_path):
    with pytest.raises(AssertionError, match="bash says"):
        calls(text, path, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "ppl chat clip.mp4 --chekpoint last.ckpt",
        "ppl nothing",
        "ppl score",
        "ppl fit -c recipes/experiments/tiny_sft.yaml --model.pooler.kernl_size=[2,3,3]",
        "ppl fit -c recipes/experiments/none.yaml",
        "ppl plan -c recipes/experiments/tiny_sft.yaml --data.num_frams=3",
        "make nothing",
        "pip install ppl[nothing]",
        "python -m benchmarks.nothing",
        "python -m pytest tests/nothing",
        "sbatch recipes/launch/slurm.sbatch -c recipes/experiments/none.yaml",
        "sbatch recipes/launch/none.sbatch",
        "torchrun --nnodes=1 -m ppl fit -c recipes/experiments/none.yaml",
    ],
)
def test_a_command_that_would_not_be_accepted_is_an_error(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *words = line.split()
    with pytest.raises(AssertionError):
        check(Call(program, "", words), ROOT)


@pytest.mark.parametrize("line", ["nothing", "chat --nothing", "data check --nothing"])
def test_a_mention_of_what_is_not_there_is_an_error(line):
    with pytest.raises(AssertionError):
        mentioned(line.split())
    mentioned(["data", "check", "--media-root"])


@pytest.mark.parametrize("text", ["```\nppl\n```\n", "```bash\nppl\n"])
def test_a_block_without_language_or_end_is_an_error(text, tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    with pytest.raises(AssertionError):
        blocks.read("page.md")


def test_the_exceptions_are_of_things_that_exist():
    (subcommands,) = [action.choices for action in build_parser()._actions if isinstance(action.choices, dict)]
    assert set(ONLY_PARSED) <= set(subcommands) - set(LIGHTNING_SUBCOMMANDS)
    assert all((ROOT / f"recipes/overlays/{name}.yaml").is_file() for name in ON_SEVERAL_DEVICES | OF_OTHER_PACKAGES)
    told = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in blocks.PAGES)
    assert all(name in told for name in ELSEWHERE), "a program that no page calls"
    assert not set(REAL) & set(PROGRAMS)

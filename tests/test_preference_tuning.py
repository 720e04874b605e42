"""From a fine-tuned model to one tuned on LLaVA-Hound's pairs, by the command line, and what becomes of it."""

import json

import pytest
import torch

from ppl import checkpoints
from ppl.datamodules.processing import Processor
from ppl.serving.session import ChatSession
from ppl.starting_weights import start_from
from ppl.training_cli import run_training_cli
from tests.datamodules.hound import write_hound
from tests.modules.tiny import ROOT
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed from")
DEBUG = ["-c", "recipes/overlays/debug.yaml", *QUIET]
LORA = "--model.lora={rank: 4, alpha: 8.0}"


def hound(folder):
    file = write_hound(folder)
    files = [f"--data.{split}_files=[{file}]" for split in ("train", "val", "predict")]
    options = ["--data.num_frames=4", "--data.batch_size=2", "--data.num_workers=0", "--trainer.callbacks=null"]
    return [f"--data.media_root={folder / 'all_frames'}", *files, *options]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Fine-tuned with adapters; then tuned on pairs from there: the folders of both."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run_training_cli(
            [
                *("fit", "-c", "recipes/experiments/tiny_sft.yaml", *DEBUG, *SMALL_QUESTIONS, LORA),
                *("--model.alignment=null", "--model.learning_rates.lora=0.01", "--model.learning_rates.newline=0"),
                f"--trainer.default_root_dir={folder / 'sft'}",
            ]
        )
        run_training_cli(
            [
                *("fit", "-c", "recipes/experiments/tiny_dpo.yaml", *DEBUG, LORA, "--model.learning_rates.lora=0.01"),
                "--data=ppl.datamodules.preference.PreferenceDataModule",
                *hound(folder),
                "--model.reference=ppl.modules.reference.AdaptersOff",
                f"--init_from={checkpoint(folder / 'sft')}",
                f"--trainer.default_root_dir={folder / 'dpo'}",
            ]
        )
    return folder


def checkpoint(folder):
    (path,) = folder.rglob("*.ckpt")
    return path


def test_it_trained_and_logged(runs):
    (line,) = [json.loads(line) for line in (runs / "dpo/metrics.jsonl").read_text().splitlines()]
    names = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen")
    assert {f"val/{name}" for name in (*names, "logps/rejected")} <= line["metrics"].keys()
    assert line["step"] == 2
    assert line["metrics"]["val/rewards/margins"] != 0


def test_it_began_with_the_merged_model_and_left_all_but_new_adapters_alone(runs):
    before, after = (checkpoints.load(checkpoint(runs / name)).model for name in ("sft", "dpo"))
    own = after.state_dict()
    merged = 0
    for name, tensor in before.state_dict().items():
        if ".lora_A." in name:
            base, scale = name.replace("lora_A.default", "base_layer"), 8.0 / 4
            update = scale * before.state_dict()[name.replace("lora_A", "lora_B")] @ tensor
            # by peft: one product and one sum
            torch.testing.assert_close(own[base], before.state_dict()[base] + update, rtol=1e-5, atol=1e-6)
            assert update.any()
            merged += 1
        elif ".lora_" not in name and ".base_layer." not in name:
            assert torch.equal(own[name], tensor), name
    assert merged
    assert all(tensor.any() for name, tensor in own.items() if ".lora_B." in name)


def test_its_checkpoint_holds_all_and_chats(runs, tmp_path):
    elsewhere = tmp_path / "moved.ckpt"
    checkpoint(runs / "dpo").rename(elsewhere)
    try:
        module = checkpoints.load(elsewhere)
        frames = str(runs / "all_frames/v_0")
        session = ChatSession(module.model, Processor(module.input_spec, **module.conversation), frames)
        assert isinstance("".join(session.ask("what colour is the square ?")), str)
    finally:
        elsewhere.rename(runs / "dpo" / "last.ckpt")


def test_a_start_is_strict(runs, tmp_path):
    path = checkpoint(runs / "sft")
    module = checkpoints.load(path)
    other = checkpoints.load(path)
    with torch.no_grad():
        other.model.backbone.hf.lm_head.weight.add_(1)
    start_from(other, path)
    assert torch.equal(other.model.backbone.hf.lm_head.weight, module.model.backbone.hf.lm_head.weight)
    assert other.started_from == str(path)
    other.model.aligner = None
    with pytest.raises(ValueError, match=r"are not those of this model[^\n]*\n  unknown to the model: aligner"):
        start_from(other, path)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        start_from(module, tmp_path / "nothing.ckpt")


def test_what_pools_otherwise_is_told(runs):
    path = checkpoint(runs / "sft")
    module = checkpoints.load(path)
    module.hparams["pool_site"] = "post_projector"
    with pytest.warns(UserWarning, match="was trained otherwise than this run: pool_site was pre_projector, is post"):
        start_from(module, path)

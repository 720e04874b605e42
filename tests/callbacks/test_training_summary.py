from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from ppl.batches import MediumInfo
from ppl.callbacks.training_summary import TrainingSummary
from ppl.modules.parts import LearningRates, PartTraining
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from tests.modules.tiny import tiny_aligner, tiny_backbone

# Made by hand here, not by the command line; Lightning remarks on modules among the hyper-parameters.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute .* is an instance of `nn.Module`")


def trainer(samples=None, *, is_global_zero=True):
    """What the callback reads of a trainer."""
    loader = None if samples is None else DataLoader(samples)
    return Mock(spec=Trainer, is_global_zero=is_global_zero, train_dataloader=loader)


class SampleWithMedia:
    def __init__(self, *media):
        self.media = list(media)


def module():
    text_tower = PartTraining(2e-4, weight_decay=0.0, warmup_ratio=0.2)
    rates = LearningRates(language_model=1e-3, projector=None, text_tower=text_tower)
    pooler = WeightedPooler((2, 3, 3), None, (1, 3, 3))
    return SFTModule(tiny_backbone(), pooler, tiny_aligner(), learning_rates=rates, weight_decay=0.1)


def printed(capsys, sft, run):
    TrainingSummary().on_train_start(run, sft)
    return capsys.readouterr().out


def test_each_part_is_named_with_its_size_and_rate(capsys):
    sft = module()
    video = MediumInfo(0, "video", 8, (48, 48), "")
    image = MediumInfo(0, "multi_image", 1, (48, 48), "")
    text = printed(capsys, sft, trainer([SampleWithMedia(video, image)]))
    rows = {
        row.split("│")[1].strip(): [c.strip() for c in row.split("│")[2:-1]] for row in text.splitlines() if "│" in row
    }
    assert rows.keys() == {"language_model", "projector", "text_tower", "aligner_projection", "vision_tower", "newline"}
    assert [name for name, (_, rate, *_) in rows.items() if rate == "frozen"] == [
        "projector",
        "aligner_projection",
        "vision_tower",
    ]
    assert rows["language_model"][1:] == ["0.001", "0.1", "3 %"]
    assert rows["text_tower"][1:] == ["0.0002", "0", "20 %"]
    total = sum(int(count.replace(",", "")) for count, *_ in rows.values())
    unnamed = sft.model.aligner.logit_scale.numel()
    assert total == sum(p.numel() for p in sft.parameters()) - unnamed, "a part is missing from the table"
    assert "16 for a video of 8 frame(s), 4 for a multi image of 1 frame(s)" in " ".join(text.split())


def test_a_sample_of_text_only(capsys):
    text = printed(capsys, module(), trainer([SampleWithMedia()]))
    assert "none, it is text only" in " ".join(text.split())


def test_samples_without_media_have_no_line(capsys):
    assert "visual tokens" not in printed(capsys, module(), trainer([torch.zeros(1)]))
    assert "visual tokens" not in printed(capsys, module(), trainer())


def test_only_the_first_process_prints(capsys):
    assert printed(capsys, module(), trainer(is_global_zero=False)) == ""

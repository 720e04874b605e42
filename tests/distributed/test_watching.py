"""Two real processes (gloo, DDP): numbers are those of both, all take part in samples, and nothing waits forever."""

import json
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from torch.utils.data import DataLoader

from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.throughput import Throughput
from ppl.datamodules.collate import collate
from ppl.datamodules.processing import Processor
from ppl.datamodules.synthetic.instruction import QuestionMix, SyntheticQuestions
from ppl.modules.generation import Generation
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.serving.sample_predictions import SamplePredictions
from tests.modules.tiny import make_batch, tiny_aligner, tiny_backbone, video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
]
CONVERSATIONS = [([video(4)], "what colour is the square ?", "red"), ([], "which way ? " * 5, "left")]


class Lines(Callback):
    def __init__(self):
        self.lines = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.lines.append({"loss": float(outputs["loss"]), **metrics})


def build():
    torch.manual_seed(0)
    pooler = WeightedPooler((2, 3, 2), None, (1, 3, 2))
    return SFTModule(tiny_backbone(), pooler, tiny_aligner(), generation=Generation(max_new_tokens=3))


def batches(module, rank):
    """One row of video on the first process, two of text on the other: neither size nor padding are the same."""
    torch.manual_seed(1)
    rows = [CONVERSATIONS[:1], [CONVERSATIONS[1], ([], "which way ?", "left")]][rank]
    return [make_batch(module.model, *rows)] * 2


def validation(module):
    inputs = module.input_spec
    data = SyntheticQuestions(Processor(inputs, num_frames=4), 1, 2, 4, QuestionMix(), prompt=False)
    return DataLoader(data, batch_size=2, collate_fn=partial(collate, inputs=inputs, padding_side="right"))


def work(rank, folder):
    """What each process does."""
    module, lines = build(), Lines()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, profiler=LoaderWait(),
        callbacks=[Throughput(), SamplePredictions(1, 2), lines], enable_checkpointing=False, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder / "run",
        use_distributed_sampler=False,
    )  # fmt: skip
    loader = DataLoader(batches(module, rank), batch_size=None, collate_fn=lambda batch: batch)
    trainer.fit(module, loader, validation(module))
    (folder / f"{rank}.json").write_text(json.dumps(lines.lines))


def test_both_processes_are_watched(two_processes, tmp_path):
    two_processes.run(work, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    module = build()
    both = [batches(module, rank)[0] for rank in range(2)]
    masks = [batch["attention_mask"] for batch in both]
    tokens, positions = sum(int(m.sum()) for m in masks), sum(m.numel() for m in masks)
    visual = int((both[0]["input_ids"] == module.model.backbone.image_token_id).sum())
    for one, other in zip(first, second, strict=True):
        speeds = {name: value for name, value in one.items() if name.startswith("throughput/")}
        assert speeds == {name: other[name] for name in speeds}
        each = speeds["throughput/batches_per_second"] / 2
        assert speeds["throughput/samples_per_second"] / each == pytest.approx(3)
        assert speeds["throughput/tokens_per_second"] / each == pytest.approx(tokens)
        assert speeds["throughput/visual_tokens_per_second"] / each == pytest.approx(visual)
        assert speeds["throughput/padding"] == pytest.approx(1 - tokens / positions, abs=1e-6)
        assert 0 <= speeds["throughput/data_wait"] < 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples" / "answers.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 1, 2, 2], "written once"

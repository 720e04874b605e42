"""Answers on the way: the same as `predict` gives, and training none the wiser."""

import json
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from ppl.datamodules.collate import collate
from ppl.datamodules.processing import Processor
from ppl.datamodules.synthetic.instruction import QuestionMix, SyntheticQuestions
from ppl.functional.relevance import relevance_distribution
from ppl.modules.feature_cache import Caching
from ppl.modules.generation import Generation
from ppl.modules.lora import LoRA
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.serving.overlays import heatmap_strip
from ppl.serving.sample_predictions import SamplePredictions, _prompt, relevance_picture
from tests.callbacks.regression import Regression
from tests.callbacks.regression import batch as regression_batch
from tests.modules.tiny import make_batch, plain_model, tiny_aligner, tiny_backbone, video

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)")


def module():
    torch.manual_seed(0)
    generation = Generation(max_new_tokens=3, temperature=1.0)
    options = {"lora": LoRA(rank=2, dropout=0.5), "generation": generation, "cache": Caching(memory_gib=0.1)}
    return SFTModule(tiny_backbone(), WeightedPooler((2, 3, 2), None, (1, 3, 2)), tiny_aligner(), **options)


def questions(module, number=6, *, prompts=False, seed=0):
    inputs = module.input_spec
    data = SyntheticQuestions(Processor(inputs, num_frames=4), seed, 3, number, QuestionMix(), prompt=prompts)
    side = "left" if prompts else "right"
    return DataLoader(data, batch_size=2, collate_fn=partial(collate, inputs=inputs, padding_side=side))


class Losses(Callback):
    def __init__(self):
        self.values, self.modes = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())
        self.modes.append([m.training for m in pl_module.modules()])


class Quiet(TensorBoardLogger):
    def log_hyperparams(self, params, metrics=None):
        del params, metrics  # live modules: made by hand here, not by the command line


def fit(folder, *callbacks):
    losses, tuned = Losses(), module()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[*callbacks, losses], logger=Quiet(folder, name="", version=""),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(tuned, questions(tuned), questions(tuned, seed=1))
    return losses, tuned


def test_training_stays_bit_identical_and_everything_is_written(tmp_path):
    plain, _ = fit(tmp_path / "plain")
    watched, tuned = fit(tmp_path / "watched", SamplePredictions(every_n_steps=2, num_samples=2))
    assert watched.values == plain.values, "LoRA's dropout draws from the same chance"
    assert watched.modes == plain.modes
    folder = tmp_path / "watched" / "samples"
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    examples = questions(tuned, seed=1).dataset
    assert [(row["step"], row["prompt"], row["answer"]) for row in rows] == [
        (step, examples.example(i).question.text, examples.example(i).question.answer)
        for step in (2, 4, 6)
        for i in (0, 3)
    ]
    names = [f"{step:07d}_{number}.png" for step in (2, 4, 6) for number in (0, 1)]
    assert sorted(path.name for path in folder.glob("*.png")) == names
    with Image.open(folder / names[0]) as picture:
        assert picture.size[0] == 4 * 192
    events = EventAccumulator(str(tmp_path / "watched"))
    events.Reload()
    assert [event.step for event in events.Images("samples/1")] == [2, 4, 6]
    assert "samples/0/text_summary" in events.Tags()["tensors"]


def test_a_prompt_is_what_predict_asks():
    tuned = module()
    learnt = questions(tuned)
    asked = questions(tuned, prompts=True)
    for i in range(6):
        prompt = _prompt(learnt.collate_fn([learnt.dataset[i]]))
        expected = asked.collate_fn([asked.dataset[i]])
        assert torch.equal(prompt["input_ids"], expected["input_ids"])
        assert torch.equal(prompt["attention_mask"], expected["attention_mask"])
        assert [medium.key for medium in prompt["media"]] == [""]


def test_the_picture_is_the_relevance_of_the_question():
    model = module().model.eval()
    batch = make_batch(model, ([video(4)], "what colour is the square ?", "red"), prompts=True)
    [grid] = model.encode(batch["pixel_values"], batch["media"])
    with torch.no_grad():
        relevance = relevance_distribution(model.relevance(grid, model.aligner.embed_prompts(batch["prompt_ids"])[0]))
        drawn = relevance_picture(model, batch)
    expected = heatmap_strip(batch["pixel_values"], relevance, batch["prompts"][0])
    assert drawn.tobytes() == expected.tobytes()


def test_no_picture_without_media_or_aligner():
    model = module().model
    assert relevance_picture(model, make_batch(model, ([], "which way ?", "left"), prompts=True)) is None
    plain = plain_model()
    assert relevance_picture(plain, make_batch(plain, ([video(2)], "which way ?", "left"), prompts=True)) is None


@pytest.mark.parametrize("name", ["every_n_steps", "num_samples"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"got {name}=0, expected at least 1"):
        SamplePredictions(**{name: 0})


def bare(folder):
    return Trainer(
        accelerator="cpu", max_steps=1, callbacks=[SamplePredictions(every_n_steps=1)], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


def test_a_module_that_answers_nothing_is_refused(tmp_path):
    loader = DataLoader([regression_batch(0)], batch_size=None, collate_fn=lambda batch: batch)
    with pytest.raises(ValueError, match="got Regression, expected a module that answers"):
        bare(tmp_path).fit(Regression(), loader)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_without_validation_data_it_says_what_to_set(tmp_path):
    tuned = module()
    with pytest.raises(ValueError, match=r"expected one loader of conversations .* set data.val_files"):
        bare(tmp_path).fit(tuned, questions(tuned))

import io
import math
import tarfile

import pytest
import torch
import yaml
from lightning import Callback
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ppl.batches import ContrastiveBatch
from ppl.datamodules.synthetic.contrastive import FrameQuestions, NamingMix
from ppl.functional.relevance import relevance_distribution
from ppl.modules.align import AlignModule
from ppl.modules.aligners.transformers_clip import TransformersCLIPAligner
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from tests.modules.tiny import ROOT, inputs_seen, snapshot, tiny_aligner, tiny_backbone, unchanged
from tests.quiet import quiet_trainer
from tests.recipes.discovery import SMALL_QUESTIONS, run

# Lightning would rather not keep modules among the hyperparameters; the CLI hands over their recipe instead.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning")


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def fit(module, folder, epochs):
    """Train on one batch of 16 frames, the same every epoch."""
    losses = Losses()
    options = {"max_epochs": epochs, "check_val_every_n_epoch": epochs, "num_sanity_val_steps": 0}
    trainer = quiet_trainer(folder, losses, **options)
    loaders = [
        DataLoader(FrameQuestions(module.input_spec, seed, 1, 16, NamingMix(), held_out=held_out), batch_size=None)
        for seed, held_out in ((0, False), (1, True))
    ]
    trainer.fit(module, *loaders)
    return losses.values, trainer


def least_loss(positives):
    """With k right answers, the best that a softmax can do is to give each 1 / k: a cross-entropy of log k."""
    return sum(positives.sum(dim=axis).clamp(min=1).log().mean().item() for axis in (0, 1)) / 2


def test_one_batch_is_learnt_and_written(tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision_learning_rate=2e-3, text_learning_rate=2e-3)
    tower, rest = module.backbone.vision_tower, module.backbone
    others = [*rest.projector.parameters(), *rest.language_model.parameters()]
    assert len(others) == len(list(rest.projector.parameters())), "the language model is gone"
    before = snapshot(others), snapshot(tower.parameters()), snapshot(module.aligner.parameters())
    losses, trainer = fit(module, tmp_path, epochs=30)
    batch = FrameQuestions(module.input_spec, 0, 1, 16, NamingMix(), held_out=False)[0]
    floor = least_loss(batch["positives"])
    assert losses[0] - floor > 1
    assert losses[-1] - floor < 0.5 * (losses[0] - floor)
    assert all(unchanged(before[0], others))
    assert not any(unchanged(before[2], module.aligner.parameters()))
    assert sum(unchanged(before[1], tower.parameters())) <= 2  # the norm after the layer that is read trains nothing
    metrics = trainer.callback_metrics
    assert {"val/loss", "val/attention_mass", "val/uniform_mass", "val/pointing/mean"} <= set(metrics)
    assert 0 < metrics["val/uniform_mass"] < 1
    stored = load_file(tmp_path / "alignment.safetensors")
    state = {f"vision_tower.{k}": v for k, v in tower.state_dict().items()}
    state |= {f"aligner.{k}": v for k, v in module.aligner.state_dict().items()}
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())


def test_a_tower_without_rate_is_frozen(tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision_learning_rate=None, text_learning_rate=1e-2)
    before = snapshot(module.backbone.parameters()), snapshot(module.aligner.parameters())
    fit(module, tmp_path, epochs=2)
    assert not module.backbone.vision_tower.training
    assert all(unchanged(before[0], module.backbone.parameters()))
    assert not any(unchanged(before[1], module.aligner.parameters()))


def test_the_loss_of_alike_pairs_is_that_of_guessing():
    """Texts that are all the same tell nothing: each of n is as likely, so the cross-entropy is log n."""
    module = AlignModule(tiny_backbone(), tiny_aligner())
    ids = module.aligner.tokenize(["what ?"]).expand(4, -1)
    pixels = torch.randint(256, (1, 3, 48, 48), dtype=torch.uint8).expand(4, -1, -1, -1)
    batch = ContrastiveBatch(
        kind="image",
        pixel_values=pixels,
        prompt_ids=ids,
        positives=torch.eye(4).bool(),
        regions=None,
        categories=["any"] * 4,
    )
    batch["positives"][0, 1] = False  # equal texts match the same images: all four are right, whatever the batch says
    assert module._loss(*module._embed(batch), batch).item() == pytest.approx(math.log(4), abs=1e-4)


def test_pointing_by_a_loop():
    module = AlignModule(tiny_backbone(), tiny_aligner())
    pixels = torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8)
    ids = module.aligner.tokenize(["what colour ?", "which way ?", "red square"])
    regions = torch.rand(3, 6, 6) < 0.4
    with torch.no_grad():
        grids, prompts = module.backbone.encode_frames(pixels), module.aligner.embed_prompts(ids)
        expected_hits, expected_mass = [], []
        for i, (grid, prompt) in enumerate(zip(grids, prompts, strict=True)):
            attention = relevance_distribution(module.aligner.relevance(grid[None], prompt))[0]
            row, column = divmod(int(attention.argmax()), 6)
            regions[i, row, column] = i != 1  # the second misses whatever was drawn
            expected_hits.append(i != 1)
            expected_mass.append(attention[regions[i]].sum().item())
        batch = ContrastiveBatch(
            kind="image",
            pixel_values=pixels,
            prompt_ids=ids,
            positives=torch.eye(3).bool(),
            regions=regions,
            categories=[""] * 3,
        )
        hits, mass, uniform = module._point(*module._embed(batch), regions)
    assert hits.tolist() == expected_hits
    assert mass.item() == pytest.approx(sum(expected_mass) / 3, rel=1e-5)
    assert uniform.item() == pytest.approx(regions.sum().item() / (3 * 36))


def pairs(module, num_pairs, seed):
    """A batch as image-text data gives it: noise and numbered captions."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (num_pairs, 3, 48, 48), dtype=torch.uint8, generator=generator)
    return ContrastiveBatch(
        kind="image",
        pixel_values=pixels,
        prompt_ids=module.aligner.tokenize([f"caption {seed} {i}" for i in range(num_pairs)]),
        positives=torch.eye(num_pairs).bool(),
        regions=None,
        categories=[""] * num_pairs,
    )


@pytest.mark.parametrize("similarity", ["patches", "mean"])
def test_both_similarities_by_a_loop(similarity):
    module = AlignModule(tiny_backbone(), tiny_aligner(), similarity=similarity, sharpness=7.0).double()
    batch = pairs(module, 3, 0)
    with torch.no_grad():
        texts = module.aligner.embed_prompts(batch["prompt_ids"])
        scores = torch.zeros(3, 3, dtype=torch.float64)
        for i, grid in enumerate(module.backbone.encode_frames(batch["pixel_values"])):
            patches = module.aligner.embed_patches(grid).flatten(0, 1)
            for j, text in enumerate(texts):
                if similarity == "mean":
                    scores[i, j] = torch.cosine_similarity(patches.mean(0), text, dim=0)
                else:
                    scores[i, j] = (7 * torch.cosine_similarity(patches, text[None])).exp().sum().log() / 7
        logits, right = module.aligner.logit_scale.exp() * scores, torch.arange(3)
        expected = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        loss = module._loss(*module._embed(batch), batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)  # float64 throughout


def test_parts_train_at_their_own_rates_and_the_scale_is_bounded():
    module = AlignModule(tiny_backbone(), tiny_aligner(), text_learning_rate=1e-5, projection_learning_rate=1e-3)
    rates = {part.name: part.learning_rate for part in module.parts}
    assert rates == {
        "vision_tower": None,
        "projector": None,
        "text_tower": 1e-5,
        "aligner_projection": 1e-3,
        "logit_scale": 1e-5,
    }
    module.aligner.logit_scale.data.fill_(7.0)
    module.on_train_batch_end(None, pairs(module, 1, 0), 0)
    assert module.aligner.logit_scale.exp().item() == pytest.approx(100)


@pytest.mark.parametrize("projection", [None, 0.0, 1e-3])
@pytest.mark.parametrize("vision", [None, 0.0])
def test_a_rate_of_zero_freezes(vision, projection):
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision, 1e-5, projection)
    rates = {part.name: part.learning_rate for part in module.parts}
    assert rates["vision_tower"] is None
    assert rates["aligner_projection"] == {None: 1e-5, 0.0: None, 1e-3: 1e-3}[projection]
    assert not any(p.requires_grad for p in module.backbone.parameters())
    assert module.aligner.visual_projection.weight.requires_grad == (projection != 0)
    frozen = AlignModule(tiny_backbone(), tiny_aligner(), 1e-3, 0.0)
    trained = {part.name for part in frozen.parts if part.learning_rate is not None}
    assert trained == {"vision_tower"}
    assert not any(p.requires_grad for p in frozen.aligner.parameters())


def test_what_lies_behind_the_layer_that_is_read_is_frozen():
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision_learning_rate=1e-3)
    tower = module.backbone.vision_tower
    frozen = {name for name, p in tower.named_parameters() if not p.requires_grad}
    assert frozen == {"post_layernorm.weight", "post_layernorm.bias"}  # layer -1 is read before it
    unread = next(part for part in module.parts if part.name == "vision_tower_unread")
    assert unread.learning_rate is None
    assert len(unread.parameters) == 2


def test_an_aligner_of_other_patches_is_refused():
    with pytest.raises(ValueError, match=r"got CLIPAligner with a vision tower of its own, .* set own_tower: false"):
        AlignModule(tiny_backbone(), tiny_aligner(own_tower=True))
    aligner = tiny_aligner()
    aligner.visual_projection = torch.nn.Linear(80, 64, bias=False)
    with pytest.raises(ValueError, match="got CLIPAligner for patches of 80 channels, expected 96"):
        AlignModule(tiny_backbone(), aligner)


def video_llava(**options):
    backbone = VideoLlavaBackbone(str(ROOT / "recipes/parts/backbones/tiny_video_llava"), "random", **options)
    aligner = TransformersCLIPAligner(str(ROOT / "recipes/parts/aligners/tiny_languagebind"), "random")
    return AlignModule(backbone, aligner)


@pytest.mark.parametrize("options", [{}, {"temporal_attention": True}, {"video_class_token": "keep"}], ids=str)
def test_images_go_to_the_tower_for_images_one_by_one(options):
    module = video_llava(**options)
    towers = module.backbone.hf.model
    batch = pairs(module, 8, 0)
    with torch.no_grad(), inputs_seen(towers.image_tower) as images, inputs_seen(towers.video_tower) as videos:
        patches, _ = module._embed(batch)
        alone = module.aligner.embed_patches(module.backbone.encode_frames(batch["pixel_values"][:1], "image"))
    assert (len(images), len(videos)) == (2, 0)
    assert patches.shape[:2] == (8, 36)
    torch.testing.assert_close(patches[:1], alone.flatten(1, 2), atol=1e-5, rtol=1e-5)  # fp32, one image or eight


def test_frames_of_videos_go_to_the_tower_for_videos_or_are_refused():
    module = video_llava()
    towers = module.backbone.hf.model
    with torch.no_grad(), inputs_seen(towers.image_tower) as images, inputs_seen(towers.video_tower) as videos:
        module._embed(pairs(module, 2, 0) | {"kind": "video"})
    assert (len(images), len(videos)) == (0, 1)
    together = video_llava(temporal_attention=True)
    with pytest.raises(
        ValueError, match="got video frames for VideoLlavaBackbone, whose vision tower encodes them tog"
    ):
        together._embed(pairs(together, 8, 0) | {"kind": "video"})


@pytest.mark.filterwarnings("ignore:Attribute '.*' removed from hparams because it cannot be pickled:UserWarning")
def test_validation_encodes_frames_and_texts_once(tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner())
    trainer = quiet_trainer(tmp_path)
    data = DataLoader(FrameQuestions(module.input_spec, 1, 2, 4, NamingMix(), held_out=True), batch_size=None)
    with inputs_seen(module.backbone.vision_tower) as frames, inputs_seen(module.aligner.text_tower) as texts:
        trainer.validate(module, data, verbose=False)
    assert (len(frames), len(texts)) == (2, 2)
    assert "val/pointing/mean" in trainer.callback_metrics


@pytest.mark.parametrize("similarity", ["patches", "mean"])
def test_retrieval_is_over_all_pairs_of_all_batches(similarity, tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner(), similarity=similarity)
    batches = [pairs(module, size, seed) for seed, size in enumerate((8, 8, 3))]
    trainer = quiet_trainer(tmp_path)
    trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
    with torch.no_grad():
        embedded = [module._embed(batch) for batch in batches]
        scores = module._compare(*(torch.cat([pair[k] for pair in embedded]) for k in (0, 1)))
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        for k in (1, 5, 10):
            found = [i in row.argsort(descending=True)[:k] for i, row in enumerate(rows)]
            logged = trainer.callback_metrics[f"val/{name}/recall_at_{k}"].item()
            assert logged == pytest.approx(sum(found) / 19)
    assert module.recall.compute(module.device) == {}, "it starts over"


def write_pairs(folder, num_shards, per_shard):
    """Coloured squares with an English or a Chinese caption."""
    folder.mkdir()
    colours = ["red", "green", "blue", "black", "white", "yellow", "purple", "orange"]
    for shard in range(num_shards):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for i in range(per_shard):
                number = shard * per_shard + i
                image = io.BytesIO()
                Image.new("RGB", (40 + number, 30), colours[number % 8]).save(image, "jpeg")
                text = f"{colours[number % 8]} 第{number}张图片"
                for name, data in ((f"{i}.jpg", image.getvalue()), (f"{i}.txt", text.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder)


def test_shards_align_internvl_whose_weights_go_into_fine_tuning(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    recipe = "recipes/experiments/tiny_align_internvl.yaml"
    shards, held_out = write_pairs(tmp_path / "train", 2, 20), write_pairs(tmp_path / "val", 1, 10)
    debug = ["-c", "recipes/overlays/debug.yaml", "--trainer.enable_progress_bar=false"]
    data = [f"--data.train_shards={shards}", f"--data.val_shards={held_out}", "--data.num_pairs=32"]
    aligned = run("fit", "-c", recipe, *debug, *data, f"--trainer.default_root_dir={tmp_path / 'align'}")
    assert aligned.trainer.global_step == 2
    assert "val/text_to_image/recall_at_5" in aligned.trainer.callback_metrics
    path = tmp_path / "align" / "alignment.safetensors"
    sft = ["-c", "recipes/experiments/tiny_sft.yaml", "--model.backbone=recipes/parts/backbones/tiny_internvl.yaml"]
    aligner = yaml.safe_load((ROOT / recipe).read_text())["model"]["init_args"]["aligner"]
    aligner["init_args"]["context"] = "asymmetric"  # fine-tuning extends what was aligned
    (tmp_path / "aligner.yaml").write_text(yaml.safe_dump(aligner))
    tuned = run(
        *("fit", *sft, *debug, f"--model.aligner={tmp_path / 'aligner.yaml'}", f"--model.alignment={path}"),
        *("--model.pooler.kernel_size=[2,2,2]", "--model.pooler.image_kernel_size=[1,2,2]"),
        *("--data=recipes/parts/data/synthetic.yaml", *SMALL_QUESTIONS, "--data.template=internvl2_5"),
        *("--model.learning_rates.text_tower=0", f"--trainer.default_root_dir={tmp_path / 'sft'}"),
    )
    assert tuned.trainer.global_step == 2
    stored, state = load_file(path), tuned.model.model.aligner.state_dict()
    for name in ("visual_projection.weight", "post_layernorm.weight"):
        assert torch.equal(state[name], stored[f"aligner.{name}"])
    assert torch.equal(state["text_tower.positions"][:20], stored["aligner.text_tower.positions"][:20])
    assert len(state["text_tower.positions"]) == 248
    frozen = tuned.model.model.backbone.vision_tower.state_dict()
    assert all(torch.equal(tensor, stored[f"vision_tower.{name}"]) for name, tensor in frozen.items())

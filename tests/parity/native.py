"""Tiny random models in the hub's real format, as ours and as transformers' own, and batches for both."""

import torch

from ppl.datamodules.collate import collate
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.modules.backbones.internvl import InternVLBackbone
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.backbones.llava_next_video import LlavaNextVideoBackbone
from ppl.modules.backbones.llava_onevision import LlavaOnevisionBackbone
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.generation import Generation
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import ROOT

PARTS = ROOT / "recipes/parts/backbones"
BACKBONES = {
    "tiny_llava_next": LlavaNextBackbone,
    "tiny_llava_next_video": LlavaNextVideoBackbone,
    "tiny_llava_onevision": LlavaOnevisionBackbone,
    "tiny_internvl": InternVLBackbone,
    "tiny_video_llava": VideoLlavaBackbone,
}
TEMPLATES = {"tiny_llava_onevision": "chatml", "tiny_internvl": "internvl2_5"}
"""Of backbones whose template is not ``vicuna_v1``."""
NUM_FRAMES = 3


def saved(backbone_class, name, folder):
    """Write a random model of one class to a folder as the hub has it; norms, biases and positions have character."""
    torch.manual_seed(0)
    backbone = backbone_class(str(PARTS / name), initialize="random")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    backbone.hf.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


def pair(backbone_class, hf_class, folder, pooler=None, site="pre_projector", **options):
    """The same folder read by the adapter and by transformers; they share nothing."""
    ours = VideoLLM(backbone_class(str(folder), **options), pooler or NoPooler(), pool_site=site).eval()
    return ours, hf_class.from_pretrained(folder).eval()


def image(height, width):
    return DecodedMedium("image", torch.randint(256, (1, 3, height, width), dtype=torch.uint8), "")


def video(num_frames=NUM_FRAMES, height=40, width=60):
    frames = torch.randint(256, (num_frames, 3, height, width), dtype=torch.uint8)
    return DecodedMedium("video", frames, "", tuple(0.5 * i for i in range(num_frames)), 0.5 * num_frames)


QUESTION, ANSWER = "\nwhat colour is the square ?", "red"
ROWS = {
    "image": [[image(60, 131)]],
    "small image": [[image(30, 30)]],
    "video": [[video()]],
    "two videos": [[video(), video()]],
    "several images": [[image(60, 131), image(50, 50), image(131, 60)]],
    "mixed": [[video(), image(100, 40)], [], [image(60, 131), image(30, 30)], [video()], [image(99, 99)]],
    "text": [[], []],
}
"""Media of each row of a batch; rows are of unequal length, and padded."""


def make_batch(model, rows, template, *, prompts=False, first=0):
    processor = Processor(model.input_spec, template)
    samples = []
    for number, media in enumerate(rows, first):
        turns = [Turn("user", PLACEHOLDER * len(media) + QUESTION + " ?" * number), Turn("assistant", ANSWER)]
        record = Record(str(number), turns, [MediumRef(medium.kind, "") for medium in media])
        samples.append(processor.encode_decoded(record, media, for_generation=prompts))
    return collate(samples, model.input_spec, "left" if prompts else "right")


def native_inputs(model, hf, batch):
    """Ids with the video token where a video stands, mask, and each medium's normalised frames with its description."""
    spec = model.backbone.spec
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (spec.image_mean, spec.image_std))
    ids, video_id = batch["input_ids"].clone(), getattr(hf.config, "video_token_id", hf.config.image_token_id)
    for row in range(len(ids)):
        places = (batch["input_ids"][row] == hf.config.image_token_id).nonzero().flatten()
        for medium in batch["media"]:
            if medium.sample == row:
                own, places = places.tensor_split([model.num_visual_tokens(medium)])
                ids[row, own] = video_id if medium.kind == "video" else hf.config.image_token_id
        assert not len(places)
    frames = ((batch["pixel_values"] - mean) / std).split([medium.num_frames for medium in batch["media"]])
    media = list(zip(batch["media"], frames, strict=True))
    return {"input_ids": ids, "attention_mask": batch["attention_mask"]}, media


def tiled_inputs(media):
    """Images as LLaVA-NeXT's family takes them: stacked, padded to the largest number of views, with their sizes."""
    images = [frames for medium, frames in media if medium.kind != "video"]
    if not images:
        return {}
    sizes = torch.tensor([medium.image_size for medium, _ in media if medium.kind != "video"])
    return {"pixel_values": torch.nn.utils.rnn.pad_sequence(images, batch_first=True), "image_sizes": sizes}


def video_inputs(media):
    videos = [frames for medium, frames in media if medium.kind == "video"]
    return {"pixel_values_videos": torch.stack(videos)} if videos else {}


@torch.no_grad()
def assert_same_bits(model, hf, batch, inputs):
    """fp32 logits of every position, padding included, without any difference."""
    ours, theirs = model(batch), hf(**inputs).logits
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() == 0
    assert theirs.std() > 0.1, "logits hardly differ: the comparison proves nothing"


@torch.no_grad()
def assert_same_answers(model, hf, batch, inputs, num_tokens=6):
    """Greedy answers of left-padded rows, token by token."""
    ours = model.generate(model.embed(batch), batch["attention_mask"], Generation(max_new_tokens=num_tokens))
    tokenizer = model.backbone.tokenizer
    theirs = hf.generate(
        **inputs,
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    assert torch.equal(ours, theirs[:, batch["input_ids"].shape[1] :])
    assert len(ours.unique()) > 2, "answers hardly differ: the comparison proves nothing"


def picture(height, width):
    """Smooth colours with some noise: what resampling of real pictures must agree on."""
    rows, columns = torch.linspace(0, 9, height)[:, None], torch.linspace(0, 7, width)
    waves = torch.stack([(rows + columns).sin(), (rows - columns).cos(), (rows * columns / 9).sin()])
    return (127 + 90 * waves + 40 * (torch.rand(3, height, width) - 0.5)).clamp(0, 255).to(torch.uint8)


def assert_same_pixels(model, media, theirs, mean, std):
    """Prepared frames of one sample are transformers' ``pixel_values``, by less than one grey level before scaling."""
    prepared = Processor(model.input_spec, template_of(model)).prepare(media)
    ours = torch.cat([medium.frames for medium in prepared]).float()
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    grey = theirs * std + mean
    assert ours.shape == grey.shape
    # Both round to whole grey levels, Pillow sometimes another way than torchvision; 0.01 is for fp32 scaled and back.
    assert (ours - grey).abs().max() <= 1.01
    assert (ours - grey).abs().mean() < 0.3


def template_of(model):
    """A template that ends answers with the tokenizer's end token."""
    return "vicuna_v1" if model.backbone.tokenizer.eos_token == "</s>" else "chatml"

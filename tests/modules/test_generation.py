"""Generation from embeddings, against rows on their own, probabilities worked out apart, and a search of everything."""

import itertools
import threading
from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from ppl.modules.backbones.internvl import InternVLBackbone
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.backbones.llava_next_video import LlavaNextVideoBackbone
from ppl.modules.backbones.llava_onevision import LlavaOnevisionBackbone
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.generation import Generation, decode_answers, end_tokens
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import ROOT, plain_model
from tests.parity.native import image, make_batch, template_of, video

BACKBONES = {
    "tiny_llava_next": LlavaNextBackbone,
    "tiny_llava_next_video": LlavaNextVideoBackbone,
    "tiny_llava_onevision": LlavaOnevisionBackbone,
    "tiny_internvl": InternVLBackbone,
    "tiny_video_llava": VideoLlavaBackbone,
}
GREEDY = Generation(max_new_tokens=8)


def backbone_model(name):
    """A random model of one class, with weights large enough that answers depend on the prompt."""
    torch.manual_seed(0)
    backbone = BACKBONES[name](str(ROOT / "recipes/parts/backbones" / name), initialize="random")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return VideoLLM(backbone, NoPooler()).eval()


@pytest.fixture
def model():
    return plain_model()


@torch.no_grad()
def answers(model, rows, generation, first=0, **options):
    batch = make_batch(model, rows, template_of(model), prompts=True, first=first)
    return model.generate(model.embed(batch), batch["attention_mask"], generation, **options)


def until_end(row, tokenizer):
    end = tokenizer.eos_token_id
    return row[: row.index(end) + 1] if end in row else row


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"repetition_penalty": 1.3}], ids=str)
def test_left_padded_rows_answer_as_they_do_alone(name, options):
    """Tokens are equal although logits are so to rounding only: other lengths sum in another order."""
    model = backbone_model(name)
    generation = replace(GREEDY, **options)
    rows = [[video()], [image(60, 131), image(50, 50)], [], [image(99, 99)], [video(2), image(30, 30)]]
    tokenizer = model.backbone.tokenizer
    together = [until_end(row, tokenizer) for row in answers(model, rows, generation).tolist()]
    alone = [until_end(answers(model, [row], generation, n)[0].tolist(), tokenizer) for n, row in enumerate(rows)]
    assert together == alone
    assert len({tuple(answer) for answer in alone}) > 2, "answers hardly differ: the comparison proves nothing"


def test_settings_that_came_with_the_weights_are_not_used(model):
    expected = answers(model, [[]], GREEDY)
    theirs = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        num_beams=3,
        repetition_penalty=9.0,
        min_new_tokens=8,
        suppress_tokens=expected[0].tolist(),
        max_time=1e-9,
        max_length=3,
    )
    model.backbone.hf.generation_config = theirs
    assert torch.equal(answers(model, [[]], GREEDY), expected)
    assert model.backbone.hf.generation_config is theirs, "they are kept for who saves the model"


@pytest.fixture
def prompt(model):
    """The embeddings of a short prompt, and the logits of what follows."""
    with torch.no_grad():
        embeds = model.embed(make_batch(model, [[]], "vicuna_v1", prompts=True))[:, -2:]
        return embeds, model.backbone(embeds, torch.ones(1, 2, dtype=torch.int64))[0, -1]


def drawn(model, embeds, generation, number):
    mask = torch.ones(number, embeds.shape[1], dtype=torch.int64)
    return model.generate(embeds.expand(number, -1, -1), mask, generation)[:, 0]


def test_tokens_are_drawn_by_their_probabilities(model, prompt):
    temperature, number = 0.7, 4000
    embeds, logits = prompt
    tokens = drawn(model, embeds, Generation(1, temperature=temperature, seed=0), number)
    shares = torch.bincount(tokens, minlength=len(logits)) / number
    expected = (logits / temperature).softmax(dim=0)
    assert expected.max() < 0.9, "one token takes all: the comparison proves nothing"
    # five standard deviations of a share, and one draw for the rarest
    assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / number).sqrt() + 1 / number).all()


@pytest.mark.parametrize("narrowed", [{"top_k": 3}, {"top_p": 0.3}])
def test_only_the_likeliest_tokens_are_drawn(model, prompt, narrowed):
    embeds, logits = prompt
    order = logits.softmax(dim=0).sort(descending=True)
    last = narrowed.get("top_k") or 1 + int((order.values.cumsum(0) < narrowed["top_p"]).sum())
    tokens = drawn(model, embeds, Generation(1, temperature=1.0, seed=0, **narrowed), 2000)
    assert last > 1
    assert set(tokens.tolist()) == set(order.indices[:last].tolist())


def test_a_seed_repeats_an_answer_and_leaves_chance_as_it_was(model):
    before = torch.get_rng_state()
    first, again, other = (
        answers(model, [[]], Generation(12, temperature=2.0, seed=seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)
    assert answers(model, [[]], Generation(12, temperature=2.0)).tolist() not in (first, other)
    assert not torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_beams_as_many_as_words_find_the_most_probable_answer(model):
    batch = make_batch(model, [[]], "vicuna_v1", prompts=True)
    embeds, end = model.embed(batch), model.backbone.tokenizer.eos_token_id
    first = model.backbone(embeds, batch["attention_mask"])[0, -1].log_softmax(dim=0)
    number = len(first)
    longer = torch.cat([embeds.expand(number, -1, -1), model.backbone.embed(torch.arange(number)[:, None])], dim=1)
    second = model.backbone(longer, torch.ones(longer.shape[:2], dtype=torch.int64))[:, -1].log_softmax(dim=1)
    scores = (first[:, None] + second) / 2  # of two tokens; one that ends at once has its own alone
    scores[end] = -torch.inf
    best = divmod(int(scores.argmax()), number) if scores.max() > first[end] else (end,)
    beams = model.generate(embeds, batch["attention_mask"], Generation(2, num_beams=number))
    assert tuple(until_end(beams[0].tolist(), model.backbone.tokenizer)) == best


def test_a_large_penalty_never_repeats(model):
    free = answers(model, [[]], Generation(20))[0].tolist()
    assert len(set(free)) < len(free), "nothing to penalise: the test proves nothing"
    assert len(set(answers(model, [[]], Generation(20, repetition_penalty=100.0))[0].tolist())) == 20


def test_a_row_ends_at_a_stop_string_of_several_tokens_and_the_others_go_on(model):
    rows = [[video()], []]
    tokenizer = model.backbone.tokenizer
    lively = replace(GREEDY, repetition_penalty=2.0)
    free = answers(model, rows, lively)
    texts = decode_answers(tokenizer, free, ())
    stop = " ".join(texts[0].split()[2:4])
    assert stop not in texts[1]
    stopped = answers(model, rows, replace(lively, stop_strings=("never said", stop)))
    assert stopped[0].tolist() == [*free[0, :4].tolist(), *[tokenizer.pad_token_id] * 4]
    assert torch.equal(stopped[1], free[1])
    assert decode_answers(tokenizer, stopped, (stop,)) == [texts[0][: texts[0].index(stop)].strip(), texts[1]]


@torch.no_grad()
def test_answers_end_with_the_context(model):
    batch = make_batch(model, [[], [video()]], template_of(model), prompts=True)
    embeds, mask = model.embed(batch), batch["attention_mask"]
    free = model.generate(embeds, mask, GREEDY)
    longest = int(mask.sum(dim=1).max())
    model.backbone.hf.config.text_config.max_position_embeddings = longest + 5
    with pytest.warns(UserWarning, match=rf"got max_new_tokens=8 after {longest} positions.* first 5 tokens; .*fewer"):
        assert torch.equal(model.generate(embeds, mask, GREEDY), free[:, :5])
    assert torch.equal(model.generate(embeds, mask, replace(GREEDY, max_new_tokens=5)), free[:, :5])
    model.backbone.hf.config.text_config.max_position_embeddings = longest
    with pytest.raises(
        ValueError, match=rf"got a prompt of {longest} positions, expected fewer than the {longest} .*;"
    ):
        model.generate(embeds, mask, GREEDY)


def test_a_special_token_may_be_a_stop_string():
    """It would be left out of the text, and so not be found there."""
    model = backbone_model("tiny_llava_onevision")
    start = model.backbone.tokenizer.convert_tokens_to_ids("<|im_start|>")
    steps = itertools.count()

    def say_it_third(_, args, logits):
        if next(steps) == 2:
            logits[..., start] = 1e4

    model.backbone.hf.lm_head.register_forward_hook(say_it_third)
    tokens = answers(model, [[]], GREEDY.with_stops(["<|im_end|>", "<|im_start|>"]))
    assert tokens.shape == (1, 3)
    assert tokens[0, -1] == start


class Third(BaseStreamer):
    """Sets an event at the third token."""

    def __init__(self):
        self.event, self.calls = threading.Event(), 0

    def put(self, value):
        self.calls += value.numel()
        if self.calls == 3:
            self.event.set()

    def end(self):
        pass


def test_a_set_event_ends_generation_within_a_step(model):
    streamer = Third()
    tokens = answers(model, [[]], GREEDY, streamer=streamer, cancelled=streamer.event)
    assert 3 <= tokens.shape[1] <= 4
    assert torch.equal(tokens, answers(model, [[]], GREEDY)[:, : tokens.shape[1]])


class Steps(BaseStreamer):
    """Keeps the tokens of each step, and sets an event of its row's when that has said so many."""

    def __init__(self, *most):
        self.steps, self.most, self.events = [], most, [threading.Event() for _ in most]

    def put(self, value):
        if value.numel():
            self.steps.append(value.tolist())
        for most, event in zip(self.most, self.events, strict=True):
            if len(self.steps) == most:
                event.set()

    def end(self):
        self.steps.append("end")


def test_a_streamer_gets_the_tokens_of_all_rows_step_by_step(model):
    streamer = Steps()
    tokens = answers(model, [[video()], [], [image(50, 50)]], GREEDY, streamer=streamer)
    assert streamer.steps == [*tokens.T.tolist(), "end"]


def test_a_row_ends_at_its_own_event_and_the_others_go_on(model):
    """An event that is set after a step is seen after the next; what follows is padding."""
    rows, pad = [[video()], [], [image(50, 50)]], model.backbone.tokenizer.pad_token_id
    free = answers(model, rows, replace(GREEDY, max_new_tokens=9))
    streamer = Steps(2, 99, 5)
    tokens = answers(model, rows, replace(GREEDY, max_new_tokens=9), streamer=streamer, cancelled=streamer.events)
    for row, said in enumerate((3, 9, 6)):
        assert tokens[row].tolist() == [*free[row, :said].tolist(), *[pad] * (9 - said)]
    streamer = Steps(2, 1, 3)
    assert answers(model, rows, GREEDY, streamer=streamer, cancelled=streamer.events).shape == (3, 4)


@pytest.mark.parametrize(
    ("what", "rows", "beams"), [("streamer", 1, 2), ("streamer", 2, 2), ("cache", 1, 2), ("cache", 2, 1)]
)
def test_beams_do_not_stream_and_neither_they_nor_batches_go_on(model, what, rows, beams):
    value = Third() if what == "streamer" else DynamicCache()
    with pytest.raises(ValueError, match=rf"got a {what}.* with num_beams={beams} and {rows} row"):
        answers(model, [[]] * rows, replace(GREEDY, num_beams=beams), **{what: value})


def test_special_stop_strings_are_end_tokens(model):
    tokenizer = model.backbone.tokenizer
    special = next(token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token)
    ids = tokenizer.convert_tokens_to_ids([tokenizer.eos_token, special])
    assert end_tokens(tokenizer, ("red", special)) == ids
    assert end_tokens(tokenizer, ()) == ids[:1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "got max_new_tokens=0, expected at least 1"),
        ({"temperature": -1.0}, "got temperature=-1.0, expected 0"),
        ({"temperature": float("nan")}, "got temperature=nan, expected 0"),
        ({"top_p": 0.0}, "got top_p=0.0, expected more than 0"),
        ({"top_k": -1}, "got top_k=-1, expected 0"),
        ({"num_beams": 0}, "got num_beams=0, expected at least 1"),
        ({"repetition_penalty": 0.0}, "got repetition_penalty=0.0, expected more than 0"),
        ({"stop_strings": ("",)}, "expected texts that are not empty; leave the empty one out"),
        ({"top_p": 0.9}, "got top_p=0.9 and top_k=0 with temperature=0.*raise it, or leave them out"),
        ({"top_k": 5}, "got top_p=1.0 and top_k=5 with temperature=0.*raise it, or leave them out"),
        ({"num_beams": 2, "temperature": 1.0}, "got num_beams=2 with temperature=1.0.* set temperature to 0 or num_b"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Generation(**options)


def test_one_text_is_not_several_letters():
    """Where types are not checked; here the check of the tests would speak first."""
    unchecked = Generation()
    object.__setattr__(unchecked, "stop_strings", "END")
    with pytest.raises(ValueError, match=r"got stop_strings='END', expected several texts; write \('END',\)"):
        unchecked.__post_init__()

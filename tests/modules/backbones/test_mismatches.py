import torch

from ppl.modules.backbones.mismatches import grouped, listing, mismatches


def test_layers_are_one_name():
    keys = [f"model.layers.{layer}.mlp.{name}.weight" for layer in range(32) for name in ("up", "down")]
    assert grouped([*keys, "lm_head.weight"]) == [
        "lm_head.weight",
        "model.layers.{0-31}.mlp.down.weight",
        "model.layers.{0-31}.mlp.up.weight",
    ]


def test_gaps_and_single_layers_are_told():
    assert grouped([f"layers.{layer}.bias" for layer in (3, 0, 1, 2, 7, 11, 10)]) == ["layers.{0-3,7,10-11}.bias"]
    assert grouped(["layers.12.bias"]) == ["layers.12.bias"]
    assert grouped([]) == []


def test_only_the_first_number_is_joined():
    assert grouped(["a.0.b.1.c", "a.1.b.1.c", "a.0.b.2.c"]) == ["a.0.b.2.c", "a.{0-1}.b.1.c"]


def test_numbers_of_shapes_are_no_layers():
    keys = [f"layers.{layer}.w (got [3, 5], expected [{size}, 5])" for layer, size in ((0, 4), (1, 4), (2, 6))]
    assert grouped(keys) == [
        "layers.2.w (got [3, 5], expected [6, 5])",
        "layers.{0-1}.w (got [3, 5], expected [4, 5])",
    ]


def test_a_long_list_is_cut_and_counted():
    keys = [f"part_{chr(97 + i)}.weight" for i in range(21)]
    assert listing(keys[:20]) == ", ".join(keys[:20])
    assert listing(keys) == ", ".join(keys[:20]) + ", … (21 keys in all)"


def test_tensors_that_one_side_has_alone_or_in_another_shape():
    stored = {"a": torch.zeros(2), "b": torch.zeros(3, 4), "c": torch.zeros(1)}
    own = {"b": torch.zeros(4, 3), "c": torch.zeros(1), "d": torch.zeros(2)}
    assert mismatches("file", stored, own) == [
        "missing from the file: d",
        "unknown to the model: a",
        "b: the file has shape (3, 4), the model (4, 3)",
    ]

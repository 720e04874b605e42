from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.datamodules.mixture import Source, expand, iter_source, read_mixture, sample
from ppl.datamodules.records import MediumRef, Record


@pytest.fixture
def write(write_lines):
    """Write so many records with ids such as a0, and return the file's path."""

    def write(letter, count, **extra):
        turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
        items = [{"id": f"{letter}{index}", "conversations": turns, **extra} for index in range(count)]
        return write_lines(items, f"{letter}.jsonl")

    return write


def ids(records):
    return [record.id for record in records]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("all", range(7)),
        ("first:3", range(3)),
        ("end:3", range(4, 7)),
        ("first:50%", range(4)),  # ceil(3.5), as in LLaVA-NeXT
        ("end:1%", [6]),
        ("first:100%", range(7)),
        ("random:7", range(7)),
    ],
)
def test_sampling(write, sampling, expected):
    found = read_mixture([Source(write("a", 7), sampling=sampling)])
    assert ids(found) == [f"a{index}" for index in expected]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 50), percent=st.integers(1, 100), seed=st.integers(0, 3))
def test_random_takes_a_share_in_order_and_the_same_again(count, percent, seed):
    source = Source("x", sampling=f"random:{percent}%")
    records = [Record(f"{index:02}", [], []) for index in range(count)]
    found = ids(sample(iter(records), source, seed))
    assert found == sorted(set(found)) == ids(sample(iter(records), source, seed))
    assert len(found) == math.ceil(count * percent / 100)


def test_random_depends_on_the_seed(write):
    path = write("a", 50)
    drawn = {tuple(ids(read_mixture([Source(path, sampling="random:20%")], seed=seed))) for seed in range(3)}
    assert len(drawn) == 3


def test_first_reads_no_further(write):
    path = write("a", 3)
    Path(path).write_text(Path(path).read_text() + "broken\n")
    assert ids(read_mixture([Source(path, sampling="first:3")])) == ["a0", "a1", "a2"]
    with pytest.raises(ValueError, match="got broken JSON"):
        read_mixture([Source(path)])


@pytest.mark.parametrize("sampling", ["first:8", "end:8", "random:8", "end:101%"])
def test_more_than_there_is_is_refused(write, sampling):
    path = write("a", 7)
    with pytest.raises(ValueError, match=rf"source .*a\.jsonl: got sampling '{sampling}' of 7 records; expected at"):
        read_mixture([Source(path, sampling=sampling)])


@pytest.mark.parametrize(
    "sampling", ["last:3", "first", "first:", "first:0", "first:-1", "random:0%", "random:x%", "first:3 "]
)
def test_unknown_sampling_is_refused(sampling):
    with pytest.raises(ValueError, match="expected all, first:N, end:N or random:N"):
        Source("x", sampling=sampling)


@pytest.mark.parametrize("values", [{"repeat": 0}, {"num_frames": 0}, {"weight": 0.0}, {"weight": math.inf}])
def test_numbers_are_above_zero(values):
    with pytest.raises(ValueError, match="expected each above 0"):
        Source("x", **values)


def test_repeats(write):
    found = read_mixture([Source(write("a", 2), repeat=3), Source(write("b", 1))])
    assert Counter(ids(found)) == {"a0": 3, "a1": 3, "b0": 1}


def test_weights_are_shares_and_nothing_is_left_out(write):
    """Of 40 and 4 records with weights 3 and 1: 40 whole, so 40/3 = 13.3 of the other."""
    sources = [Source(write("a", 40), weight=3.0), Source(write("b", 4), weight=1.0)]
    found = Counter(ids(read_mixture(sources)))
    assert {found[f"a{index}"] for index in range(40)} == {1}
    small = [found[f"b{index}"] for index in range(4)]
    assert (sum(small), min(small), max(small)) == (13, 3, 4)


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
)
def test_weights_hold_to_half_a_record(tmp_path_factory, lengths, weights):
    folder, sources = tmp_path_factory.mktemp("mix"), []
    for number, (length, weight) in enumerate(zip(lengths, weights, strict=False)):
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        path = folder / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"id": f"{number}", "messages": turns}) + "\n" for _ in range(length)))
        sources.append(Source(str(path), weight=weight))
    found = Counter(ids(read_mixture(sources)))
    scale = max(length / weight for length, weight in zip(lengths, weights, strict=False))
    for number, (length, weight) in enumerate(zip(lengths, weights, strict=False)):
        assert found[f"{number}"] >= length
        assert abs(found[f"{number}"] - scale * weight) <= 0.5 + 1e-9


def test_weights_of_some_or_with_repeats_are_refused(write):
    first, second = write("a", 1), write("b", 1)
    with pytest.raises(ValueError, match="got a weight on 1 of 2 sources, or repeat beside weights"):
        read_mixture([Source(first, weight=1.0), Source(second)])
    with pytest.raises(ValueError, match="got a weight on 1 of 1 sources, or repeat beside weights"):
        read_mixture([Source(first, weight=1.0, repeat=2)])


@pytest.mark.parametrize(
    ("own", "module", "expected"),
    [
        (None, None, "{file}/v.mp4"),
        (None, "/data", "/data/v.mp4"),
        ("videos", "/data", "/data/videos/v.mp4"),
        ("/videos", "/data", "/videos/v.mp4"),
        ("videos", None, "videos/v.mp4"),
    ],
)
def test_media_roots(write, tmp_path, own, module, expected):
    (record,) = read_mixture([Source(write("a", 1, video="v.mp4"), media_root=own)], module)
    assert record.media == [MediumRef("video", expected.format(file=tmp_path))]


def test_frames_of_a_source(write):
    sources = [Source(write("a", 1, video="v.mp4"), num_frames=8), Source(write("b", 1, video="v.mp4"))]
    assert [record.media[0].num_frames for record in read_mixture(sources, "/m")] == [8, None]


def test_braces_and_stars_name_several_files(write, tmp_path):
    for letter in "abc":
        write(letter, 1)
    assert ids(read_mixture([Source(f"{tmp_path}/{{c,a}}.jsonl")])) == ["c0", "a0"]
    assert ids(read_mixture([Source(f"{tmp_path}/*.jsonl")])) == ["a0", "b0", "c0"]
    with pytest.raises(FileNotFoundError, match=r"source .*\*\.json: got no such files, expected at least one"):
        read_mixture([Source(f"{tmp_path}/*.json")])


def test_urls(write):
    text = Path(write("a", 2)).read_text()
    for name in ("one", "two"):
        with fsspec.open(f"memory://mixture/{name}.jsonl", "w") as file:
            file.write(text)
    assert ids(read_mixture([Source("memory://mixture/{two,one}.jsonl", sampling="first:3")])) == ["a0", "a1", "a0"]
    assert len(read_mixture([Source("memory://mixture/*.jsonl")])) == 4


def test_llava_next_yaml(write, tmp_path):
    write("a", 4)
    path = tmp_path / "mix.yaml"
    path.write_text(
        "# mix\ndatasets:\n  - json_path: a.jsonl\n    sampling_strategy: first:50%\n  - json_path: a.jsonl\n"
    )
    assert ids(read_mixture([Source(str(path))])) == ["a0", "a1", "a0", "a1", "a2", "a3"]
    assert [leaf.sampling for leaf in expand(Source(str(path)))] == ["first:50%", "all"]
    with pytest.raises(ValueError, match="got sampling or weight for a list of datasets"):
        read_mixture([Source(str(path), weight=1.0)])
    path.write_text("datasets:\n  - json_path: a.jsonl\n    weight: 1\n")
    with pytest.raises(ValueError, match=r"mix\.yaml, dataset 0: got the keys \['weight'\]; expected json_path and"):
        read_mixture([Source(str(path))])
    for text, message in {
        "datasets: [\n": r"mix\.yaml: got broken YAML \(while parsing",
        "datasets:\n": r"mix\.yaml: got None as datasets; expected a list of at least one",
        "datasets:\n  json_path: a.jsonl\n": r"mix\.yaml: got {'json_path': 'a.jsonl'} as datasets; expected a list",
        "datasets:\n  - json_path: a.jsonl\n    sampling_strategy: 5\n": r"dataset 0: got sampling_strategy 5",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_mixture([Source(str(path))])
    path.write_text("datasets:\n  - a.jsonl\n")
    with pytest.raises(ValueError, match=r"mix\.yaml, dataset 0: got 'a.jsonl'; expected json_path"):
        read_mixture([Source(str(path))])


def test_iter_source_gives_errors_in_their_place(write):
    path = write("a", 1)
    Path(path).write_text(Path(path).read_text() + "broken\n")
    good, bad = iter_source(Source(path))
    assert (good.id, type(bad)) == ("a0", ValueError)

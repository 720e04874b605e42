from pathlib import Path

from ppl.ablation.jobs import cells, fingerprint, preparations
from ppl.ablation.spec import Ablation, Preparation, RowSpec


def small(**changes):
    values = {
        "name": "small",
        "title": "Small",
        "base": "base.yaml",
        "rows": {"one": RowSpec(["--x={seed}"], ["--frames=64"]), "two": RowSpec(["--data.mix={colour: 1}"])},
        "arguments": ["--seed_everything={seed}", "--model.alignment={align}/a.safetensors"],
        "prepare": [Preparation("align", ["-c", "align.yaml", "--seed_everything={seed}"])],
    }
    return Ablation(**values | changes)


def test_words_of_a_cell(tmp_path):
    one, two, average, random = cells(small(), tmp_path, 3, ["--data.seed=9"])
    align = f"--model.alignment={tmp_path}/prepare/align/seed_3/a.safetensors"
    last = ["--data.seed=9", f"--trainer.default_root_dir={tmp_path}/one/seed_3"]
    assert one.fit == ["fit", "-c", "base.yaml", "--seed_everything=3", align, "--x=3", *last]
    assert one.test == ["test", *one.fit[1:], "--frames=64"], "the folder comes from training's words"
    assert "--data.mix={colour: 1}" in two.fit, "braces of YAML stay"
    assert (average.row, random.row) == ("average", "random")
    assert one.path == tmp_path / "one" / "seed_3"


def test_words_of_a_preparation(tmp_path):
    [job] = preparations(small(), tmp_path, 3)
    folder = f"--trainer.default_root_dir={tmp_path}/prepare/align/seed_3"
    assert job.fit == ["fit", "-c", "align.yaml", "--seed_everything=3", folder]
    assert job.test == []


def test_a_cell_depends_on_its_words_its_preparation_and_the_files_they_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "pooler.yaml").write_text("kernel: 1")
    (tmp_path / "base.yaml").write_text("pooler: parts/pooler.yaml")
    (tmp_path / "align.yaml").write_text("a: 1")

    def digests(**changes):
        return [job.fingerprint for job in cells(small(**changes), tmp_path, 0, [])]

    before = digests()
    assert digests() == before
    assert digests(title="another title") == before
    changed = digests(rows={"one": RowSpec(["--x=4"]), "two": small().rows["two"]})
    assert [old == new for old, new in zip(before, changed, strict=True)] == [False, True, True, True]
    for file in ("parts/pooler.yaml", "align.yaml"):  # named by the base recipe; named by the preparation
        (tmp_path / file).write_text("changed: 2")
        assert not set(digests()) & set(before)
        before = digests()


def test_where_the_folder_lies_changes_no_cell(tmp_path):
    names = [{job.row: job.fingerprint for job in cells(small(), root, 0, [])} for root in (tmp_path, Path("runs/x"))]
    assert names[0] == names[1]


def test_preparations_depend_on_those_before_them_and_not_on_the_words_of_cells(tmp_path):
    second = Preparation("second", ["--w={align}/w"])

    def digests(first):
        return [job.fingerprint for job in preparations(small(prepare=[first, second]), tmp_path, 0)]

    before, after = digests(Preparation("align", ["--a=1"])), digests(Preparation("align", ["--a=2"]))
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False]
    extra = cells(small(), tmp_path, 0, ["--x={root}/features"])[0]
    assert f"--x={tmp_path}/features" in extra.fit, "words of the command line are filled too"
    assert extra.fingerprint != cells(small(), tmp_path, 0, [])[0].fingerprint


def test_a_file_whose_path_holds_a_blank_counts(tmp_path):
    file = tmp_path / "my parts" / "pooler.yaml"
    file.parent.mkdir()
    digests = []
    for text in ("a: 1", "a: 2"):
        file.write_text(text)
        digests.append(fingerprint([f"--model.pooler={file}"]))
    assert digests[0] != digests[1]


def test_files_that_name_each_other_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("b.yaml")
    (tmp_path / "b.yaml").write_text("a.yaml")
    assert fingerprint(["a.yaml"]) != fingerprint(["b.yaml"])

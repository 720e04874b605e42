"""What a release uploads: the wheel holds the package and the recipes, the sdist the checkout; both say the same."""

import re
import tarfile
import tomllib
from zipfile import ZipFile

import ppl
from tests.release.distributions import ROOT, build, metadata
from tests.test_architecture import committed_files, relative

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wheel_name(path):
    return (
        relative(path).replace("recipes/", "ppl/recipes/", 1)
        if relative(path).startswith("recipes/")
        else relative(path)
    )


def test_the_wheel_holds_the_package_and_the_recipes_and_nothing_else(built):
    expected = {wheel_name(path): path for path in committed_files() if relative(path).startswith(("ppl/", "recipes/"))}
    with ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == expected.keys()
        assert [name for name, path in expected.items() if archive.read(name) != path.read_bytes()] == []
    assert {
        "ppl/py.typed",
        "ppl/recipes/README.md",
        "ppl/planning/hub_configs.json",
        "ppl/ablation/report.html",
    } <= names


def test_the_sdist_holds_the_checkout(built):
    folder = f"ppl-{ppl.__version__}"
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{folder}/") for name in archive.getnames()}
    assert names == {relative(path) for path in committed_files()} | {"PKG-INFO"}


def test_the_sdist_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / f"ppl-{ppl.__version__}", tmp_path, "wheel").wheel
    assert again.name == built.wheel.name
    assert again.read_bytes() == built.wheel.read_bytes()


def test_the_metadata_are_the_project_s(built):
    told = metadata(built.wheel)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("ppl", ppl.__version__, "Apache-2.0")
    assert told["Requires-Python"] == PROJECT["requires-python"]
    assert told.get_all("License-File") == ["LICENSE"]
    assert told.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    assert set(told.get_all("Provides-Extra")) == PROJECT["optional-dependencies"].keys()
    assert not [each for each in told.get_all("Requires-Dist") if "@" in each], "a package by its address"
    with ZipFile(built.wheel) as archive:
        info = f"ppl-{ppl.__version__}.dist-info"
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        points = archive.read(f"{info}/entry_points.txt").decode().split("\n\n")
    assert [point.split() for point in points] == [
        ["[console_scripts]", "ppl", "=", "ppl.cli:main"],
        ["[lmms_eval.models]", "ppl", "=", "ppl.integrations.lmms_eval:manifest"],
    ]


def test_the_version_is_the_one_of_the_changelog_and_the_citation():
    released = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert [ppl.__version__] == cited == released[:1]

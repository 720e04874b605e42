"""Build what a release uploads, and an environment that holds what `pip install ppl` brings, without a network."""

import os
import subprocess
import sys
import sysconfig
import venv
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import ROOT


class Built(NamedTuple):
    sdist: Path | None
    wheel: Path


class Environment(NamedTuple):
    python: Path
    packages: Path

    def run(self, *words, cwd):
        """Run a program of the environment, of which neither the checkout nor the tests' own settings are part."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PPL_"))}
        command = [self.python.with_name(words[0]), *map(str, words[1:])]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def build(root, folder, *targets):
    """Build with the back end alone: a front end would fetch it from the network."""
    words = [word for target in targets for word in ("-t", target)]
    _called(sys.executable, "-m", "hatchling", "build", "-d", folder, *words, cwd=root)
    return Built(next(folder.glob("*.tar.gz"), None), next(folder.glob("*.whl")))


def metadata(wheel):
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def environment(folder):
    """An empty one."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    return Environment(folder / "bin" / "python", Path(packages))


def install(wheel, into, *words):
    _called(sys.executable, "-m", "uv", "pip", "install", "--offline", "--python", into.python, *words, wheel, cwd=ROOT)


def link(distributions, into):
    """Put installed distributions into an environment, by links to where they are."""
    for found in distributions:
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (into.packages / name).exists():
                (into.packages / name).symlink_to(found.locate_file(name))


def closure(requirements) -> dict[str, Distribution]:
    """The installed distributions that requirements ask for, those that these ask for, and so on."""
    left, seen, found = [Requirement(text) for text in requirements], set(), {}
    left = [each for each in left if _applies(each, "")]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, extra))
            found[name] = distribution(name)
            left += [each for each in map(Requirement, found[name].requires or ()) if _applies(each, extra)]
    return found


def _applies(requirement, extra):
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _called(*words, cwd):
    done = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

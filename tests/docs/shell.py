"""Have bash read a block, and note which programs it would have called with which words.

So quotes, variables and loops are bash's own business. The programs are stand-ins, and nothing else can be called: a
program without a stand-in ends the block with "command not found".
"""

import os
import shutil
import subprocess
from typing import NamedTuple

STAND_IN = """#!/bin/sh
piped=
if [ -p /dev/stdin ]; then piped=$(/bin/cat); fi
printf '%s\\0' "${0##*/}" "$piped" "$@" "$END" >>"$CALLS"
"""
END = "\2"
REAL = ("cat", "cp", "mkdir", "mv")
"""Programs that do what they say, in the page's own folder."""


class Call(NamedTuple):
    program: str
    stdin: str
    words: list[str]

    def __str__(self):
        return " ".join([self.program, *self.words])


def programs(folder, names):
    """Write the stand-ins; returns the folder that is to be the only one in PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    for name in REAL:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def calls(text, path, folder):
    """Have bash run a block in a folder; returns the calls in their order."""
    log = path.parent / "calls"
    log.write_text("")
    environment = {
        "PATH": str(path),
        "CALLS": str(log),
        "END": END,
        "HOME": str(folder),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
    done = subprocess.run(
        [shutil.which("bash"), "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"bash says {done.stderr.strip() or done.returncode} of\n{text}"
    found = []
    for record in log.read_text(encoding="utf-8").split(f"{END}\0")[:-1]:
        program, piped, *words = record.removesuffix("\0").split("\0")
        found.append(Call(program, piped, words))
    return found

"""Decoding in a child process, so that a file that hangs, crashes or devours memory costs a sample and not the run.

The child is started at the first file, once for every process that reads some, and serves until it has to be killed.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.video_io import VideoClip
from ppl.datamodules.video_source import VideoError

_START = "import sys; from multiprocessing.connection import Connection; pipe = Connection(int(sys.argv[1])); "
_START += "sys.path[:] = pipe.recv(); from ppl.datamodules.watchdog import serve; serve(pipe, int(sys.argv[2]))"
_START_TIMEOUT_S = 300.0
"""Importing torch from a slow disk takes its time."""
_GIB = 2**30

Result = TypeVar("Result")


class _Child(NamedTuple):
    """A process that decodes."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    owner: int
    """The process that may talk to it: forks share the pipe, and would mix up answers."""


class _Sent(NamedTuple):
    """A named tuple with ``frames``, the pixels of which follow by themselves."""

    without: Any
    shape: tuple[int, ...]


class GuardedDecoder(VideoDecoder):
    """Runs another decoder in a child process that is killed when it takes too long. Linux only.

    Frames come back through a pipe, which takes some milliseconds for a hundred megabytes. The other decoder's errors
    come back as they are.

    Args:
        decoder: Does the work; None for PyAV.
        timeout_s: Seconds that one file may take.
        memory_gib: Memory that the child may take above what it has when idle.
    """

    def __init__(self, decoder: VideoDecoder | None = None, timeout_s: float = 120.0, memory_gib: float = 4.0) -> None:
        for name, value in (("timeout_s", timeout_s), ("memory_gib", memory_gib)):
            if not value > 0:
                raise ValueError(f"got {name}={value}, expected more than 0; raise {name}")
        self.decoder = decoder or PyAVDecoder()
        self.timeout_s = timeout_s
        self.memory_gib = memory_gib
        self._child: _Child | None = None

    def read(
        self, path: str | Path, sampler: FrameSampler, num_frames: int, start: float | None, end: float | None
    ) -> VideoClip:
        """Read the frames on screen at the sampler's times, in the child.

        Raises:
            ppl.datamodules.video_source.VideoError: Also where the child had to be killed, died or ran out of memory.
        """
        return self.ask(path, partial(self.decoder.read, path, sampler, num_frames, start, end))

    def ask(self, path: str | Path, call: Callable[[], Result]) -> Result:
        """Look into a file in the child.

        Args:
            path: The file, for messages.
            call: Does it; can be pickled, as can what it gives. Pixels are quick in a named tuple, as its ``frames``.

        Raises:
            ppl.datamodules.video_source.VideoError: The child had to be killed, died or ran out of memory.
        """
        answer = self._answer(path, call)
        if isinstance(answer, MemoryError):
            raise VideoError(
                f"{path}: decoding took more than memory_gib={self.memory_gib:g}, expected less; drop the record, "
                "scale the video down, or raise the decoder's memory_gib"
            )
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __getstate__(self) -> Mapping[str, object]:
        """Leave the child behind: another process starts its own."""
        return vars(self) | {"_child": None}

    def _running_child(self) -> _Child:
        if self._child is None or self._child.owner != os.getpid():
            self._child = _start(self.memory_gib)
            weakref.finalize(self, _end, self._child)
        return self._child

    def _answer(self, path: str | Path, call: Callable[[], Result]) -> Result | Exception:
        """Get the child's answer; a child that gives none is killed, as what it still says is not the next answer."""
        child = self._running_child()
        try:
            child.pipe.send_bytes(pickle.dumps((call, self.timeout_s)))
            if not child.pipe.poll(self.timeout_s):
                raise VideoError(
                    f"{path}: decoding was stopped at timeout_s={self.timeout_s:g} s, expected less; drop the record, "
                    "convert the file, or raise the decoder's timeout_s"
                )
            answer = pickle.loads(child.pipe.recv_bytes())
            if not isinstance(answer, _Sent):
                return answer
            pixels = np.empty(answer.shape, np.uint8)
            child.pipe.recv_bytes_into(pixels.data.cast("B"))
            return answer.without._replace(frames=torch.from_numpy(pixels))
        except (EOFError, OSError) as error:
            code = self._stop(grace=5.0)
            died = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise VideoError(
                f"{path}: the decoding process died ({died}), expected frames; drop the record, convert the file, or "
                f"raise the decoder's memory_gib={self.memory_gib:g}"
            ) from error
        except BaseException:  # Ctrl-C too: it goes on, once no answer is left in the pipe
            self._stop()
            raise

    def _stop(self, grace: float = 0.0) -> int:
        """Kill the child and tell how it ended."""
        child, self._child = self._child, None
        assert child is not None
        return _end(child, grace)


def serve(pipe: Connection, memory: int) -> None:
    """Do what the parent asks for until it is gone; what the child does.

    Args:
        pipe: To the parent.
        memory: Bytes that it may take above what it has now.
    """
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    pipe.send_bytes(b"ready")
    with suppress(EOFError, ConnectionError):
        while True:
            call, timeout_s = pickle.loads(pipe.recv_bytes())
            signal.alarm(ceil(timeout_s) + 5)  # kills a child that hangs and whose parent was killed
            pixels = None
            try:
                answer = call()
                if hasattr(answer, "frames"):
                    pixels = answer.frames.contiguous().numpy()
                    answer = _Sent(answer._replace(frames=torch.empty(0, 3, 0, 0, dtype=torch.uint8)), pixels.shape)
            except Exception as error:  # of any kind: the parent raises it
                answer = MemoryError() if "Cannot allocate memory" in str(error) else error
            pipe.send_bytes(_pickled(answer))
            if pixels is not None:
                pipe.send_bytes(pixels.data.cast("B"))
            del pixels, answer
            signal.alarm(0)


def _pickled(answer: object) -> bytes:
    try:
        data = pickle.dumps(answer)
        pickle.loads(data)
    except Exception:  # an exception that cannot travel
        data = pickle.dumps(VideoError(f"{type(answer).__name__}: {answer}"))
    return data


def _start(memory_gib: float) -> _Child:
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        command = [sys.executable, "-c", _START, str(fd), str(int(memory_gib * _GIB))]
        process = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)
    child = _Child(process, Connection(ours.detach()), os.getpid())
    try:
        child.pipe.send(sys.path)
        if not child.pipe.poll(_START_TIMEOUT_S):
            raise EOFError
        child.pipe.recv_bytes()
    except (EOFError, OSError) as error:
        raise RuntimeError(
            f"the decoding process did not start (exit status {_end(child, 5.0)}); look above for its own error"
        ) from error
    except BaseException:  # Ctrl-C too: it goes on, and leaves no process behind
        _end(child)
        raise
    return child


def _end(child: _Child, grace: float = 0.0) -> int:
    """Kill the child if it has not ended within some seconds, and tell how it ended."""
    child.pipe.close()
    if child.owner != os.getpid():  # a fork's copy of the handle
        return 0
    with suppress(subprocess.TimeoutExpired):
        return child.process.wait(grace)
    child.process.kill()
    return child.process.wait()

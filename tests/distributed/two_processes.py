"""Two real processes that tests share, as starting them takes longer than what most tests do there."""

import os
import socket
import traceback
from multiprocessing import get_context
from multiprocessing.connection import wait


class TwoProcesses:
    """Calls functions in both, as if `torchrun` had started them; they are started when they are first needed."""

    def __init__(self):
        self._children = []

    def run(self, work, *args):
        """Call ``work(rank, *args)`` in both and wait; an error in one of them ends both, and is raised."""
        try:
            self._start()
            for _, pipe in self._children:
                pipe.send((work, args))
            waiting = dict.fromkeys(pipe for _, pipe in self._children)
            while waiting:
                for pipe in wait(list(waiting)):
                    problem = pipe.recv()  # EOFError if it has died
                    assert not problem, problem
                    del waiting[pipe]
        except BaseException:  # the other one may be waiting for it
            self.close()
            raise

    def close(self):
        for process, pipe in self._children:
            pipe.close()
            process.kill()
            process.join()
        self._children = []

    def _start(self):
        if self._children:
            return
        context, port = get_context("spawn"), free_port()
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, port, theirs))
            process.start()
            theirs.close()
            self._children.append((process, ours))


def serve(rank, port, pipe):
    """What a child does."""
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port, NODE_RANK="0", LOCAL_RANK=str(rank))
    while True:
        try:
            work, args = pipe.recv()
        except EOFError:
            return
        try:
            work(rank, *args)
        except BaseException:
            pipe.send(f"process {rank}:\n{traceback.format_exc()}")
        else:
            pipe.send("")


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])

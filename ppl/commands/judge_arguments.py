"""Options of a judge behind an endpoint; ``ppl score`` and ``ppl compare`` share them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppl.evaluation.http_judge import HttpJudge
    from ppl.evaluation.judge import Request

_URL, _MODEL, _KEY = "PPL_JUDGE_URL", "PPL_JUDGE_MODEL", "PPL_JUDGE_KEY"


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them in a group of their own."""
    group = parser.add_argument_group(
        "judge",
        "Open-ended benchmarks are marked by a model behind any endpoint that speaks OpenAI's chat completions. "
        "Without one nothing is sent anywhere. Its key is read from the environment alone.",
    )
    group.add_argument(
        "--judge-model", default=os.environ.get(_MODEL), metavar="NAME", help=f"its name; default ${_MODEL}"
    )
    address = f"its address, like http://localhost:8000/v1; default ${_URL}"
    group.add_argument("--judge-url", default=os.environ.get(_URL), metavar="URL", help=address)
    group.add_argument(
        "--judge-key-from",
        default=_KEY,
        metavar="VARIABLE",
        help="environment variable with its key; none is sent where it is not set (default: %(default)s)",
    )
    group.add_argument("--judge-temperature", type=float, default=0.0, metavar="T", help="default: %(default)s")
    group.add_argument(
        "--judge-cache",
        default="runs/judge_replies.jsonl",
        metavar="FILE",
        help="where replies are kept, so that none is paid for twice (default: %(default)s)",
    )
    group.add_argument("--judge-concurrency", type=int, default=8, metavar="N", help="requests at a time (default: 8)")
    group.add_argument(
        "--judge-timeout", type=float, default=60.0, metavar="S", help="seconds for a reply (default: 60)"
    )
    group.add_argument(
        "--judge-retries", type=int, default=5, metavar="N", help="of a request, each after twice the wait (default: 5)"
    )
    group.add_argument(
        "--judge-prices",
        type=float,
        nargs=2,
        metavar=("PROMPT", "REPLY"),
        help="of a million tokens, for the estimate of the cost",
    )
    group.add_argument("--dry-run", action="store_true", help="say what the judge would be sent, and send nothing")


def judge_of(options: argparse.Namespace) -> HttpJudge | None:
    """The judge that the options name; None: none.

    Raises:
        ValueError: It has a name and no address, or the address is none.
    """
    if not options.judge_model:
        return None
    if not options.judge_url:
        raise ValueError(f"got judge {options.judge_model} without an address, expected --judge-url or ${_URL}")
    from ppl.evaluation.chat_completion import Endpoint
    from ppl.evaluation.http_judge import HttpJudge, Patience
    from ppl.evaluation.judge_cache import JudgeCache

    key = os.environ.get(options.judge_key_from)
    return HttpJudge(
        Endpoint(options.judge_url, options.judge_model, key, options.judge_temperature),
        JudgeCache(Path(options.judge_cache)),
        Patience(timeout=options.judge_timeout, retries=options.judge_retries),
        options.judge_concurrency,
        _progress,
    )


def tell_estimate(requests: Sequence[Request], judge: HttpJudge | None, options: argparse.Namespace) -> None:
    """Say on the error stream what judging takes."""
    from ppl.evaluation.judge_cost import BYTES_PER_TOKEN, estimate

    if judge is None:
        if requests:
            note = f"{len(requests)} requests need a judge, and none is named (--judge-model): their marks are left out"
            sys.stderr.write(f"ppl {options.command}: {note}\n")
        return
    known = estimate(requests, judge)
    parts = [
        f"judge {judge.endpoint.model}: {known.requests} requests, {known.cached} of them known, {known.sent} to send",
        f"about {known.prompt_tokens} tokens of prompts (1 for {BYTES_PER_TOKEN} bytes)",
        f"at most {known.reply_tokens} of replies",
    ]
    if options.judge_prices:
        parts.append(f"cost about {known.cost(*options.judge_prices):.2f} at most")
    sys.stderr.write("; ".join(parts) + "\n")


def tell_failures(judge: HttpJudge | None) -> None:
    """Say on the error stream which requests got no reply."""
    if judge is not None and judge.failures:
        causes = ", ".join(f"{number} × {cause}" for cause, number in judge.failures.most_common())
        sys.stderr.write(
            f"judge: no reply to {judge.failures.total()} requests ({causes}); score again to ask them again\n"
        )


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total:
        sys.stderr.write(f"\rjudge: {done} of {total}" + ("\n" if done == total else ""))

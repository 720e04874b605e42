"""Sentences that end the prompts of many image benchmarks.

(haotian-liu/LLaVA, ``docs/Evaluation.md``; Liu et al. 2023, arXiv:2310.03744, section 3.2. lmms-eval took them over.)
"""

from __future__ import annotations

SHORT_ANSWER = "Answer the question using a single word or phrase."
LETTER_ANSWER = "Answer with the option's letter from the given choices directly."

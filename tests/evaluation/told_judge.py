"""A judge that says what it is told to."""

from ppl.evaluation.judge import Judge


class ToldJudge(Judge):
    """Replies in the order in which it is asked; ``asked`` keeps the requests."""

    def __init__(self, *replies):
        self.replies = replies
        self.asked = []

    @property
    def identity(self):
        return {"model": "told"}

    def ask(self, requests):
        self.asked += requests
        assert len(requests) == len(self.replies)
        return list(self.replies)

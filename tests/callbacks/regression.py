"""A model so small that runs take milliseconds, with batches that can be told to go wrong."""

import torch
from lightning import Callback, LightningModule
from torch import nn


class Regression(LightningModule):
    """Learn a line with AdamW, weight decay and a schedule; ``bad`` rows make the loss, or only a gradient, bad."""

    def __init__(self, constant_rate=False):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.constant_rate = constant_rate

    def training_step(self, batch, batch_idx):
        output = self.model(batch["x"]).squeeze(1)
        loss = (output - batch["y"]).square().mean()
        if batch["bad"] == "gradient":  # sqrt(0) = 0, whose derivative is infinite
            loss = loss + (output * 0).square().sum().sqrt()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 if self.constant_rate else 0.9**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batch(number, bad=""):
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(8, 3, generator=generator)
    y = x.sum(1)
    if bad == "nan":
        y[2] = float("nan")
    if bad == "infinity":
        y[2] = float("inf")
    return {"ids": [f"{number}-{row}" for row in range(8)], "x": x, "y": y, "bad": bad}


class Batches:
    """A loader that seeds torch before each batch, from its number, and goes on where it was, as `ppl`'s does."""

    def __init__(self, batches):
        self.batches = batches
        self.position = 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        start, self.position = self.position % len(self), self.position % len(self)
        for each in self.batches[start:]:
            torch.manual_seed(int(each["ids"][0].split("-")[0]))
            self.position += 1
            yield each

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class BreakProjector(Callback):
    """Put a NaN into a real model's projector before the first step."""

    def on_train_start(self, trainer, pl_module):
        names = [name for name, _ in pl_module.named_parameters() if "projector" in name and name.endswith("bias")]
        with torch.no_grad():
            pl_module.get_parameter(names[0])[0] = float("nan")

"""A trainer for tests."""

from lightning import Trainer


def quiet_trainer(folder, *callbacks, **options):
    """On the CPU, for an epoch unless told otherwise; it shows nothing and saves no checkpoint by itself."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False, **quiet, **options}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **options)

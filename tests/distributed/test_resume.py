"""Two processes (gloo, DDP), killed and started again, are the two that were left alone, bit for bit on the CPU."""

import signal

import pytest

from tests.test_resume import BY_EPOCHS, EPOCHS, last_checkpoint, start, steps, words

STEPS = 3  # 18 samples in batches of 4 on each rank: 8, 8, 2
KILL_AT = 5
DDP = ("--trainer.devices=2", "--trainer.strategy=ddp", *BY_EPOCHS)
LOADERS = {
    "alone": (),
    "workers": ("--data.num_workers=2",),
    "packed": ("--data.num_workers=2", "--data.loading.packing=rows"),
}


def finish(process):
    _, errors = process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_killed_and_resumed(loader, tmp_path):
    command = (*DDP, *loader)
    undisturbed, killed = (
        start(words(tmp_path, name, *command, kill_at=at)) for name, at in (("whole", -1), ("part", KILL_AT))
    )
    status, errors = finish(undisturbed)
    assert status == 0, errors
    status, errors = finish(killed)
    assert status == -signal.SIGKILL, errors
    whole = [steps(tmp_path, "whole", rank) for rank in range(2)]
    assert [len(lines) for lines in whole] == [STEPS * EPOCHS] * 2
    for epoch in range(EPOCHS):
        ids = [name for lines in whole for of, names, _ in lines if of == epoch for name in names]
        assert sorted(ids) == sorted(f"0-{index}" for index in range(18))

    checkpoint = last_checkpoint(tmp_path, "part")
    done = int(checkpoint.stem.split("step=")[1])
    assert done % STEPS, "not in the middle of an epoch"
    status, errors = finish(start(words(tmp_path, "part", *command, f"--ckpt_path={checkpoint}", record="again")))
    assert status == 0, errors
    for rank in range(2):
        assert steps(tmp_path, "part", rank) == whole[rank][:KILL_AT]
        assert steps(tmp_path, "again", rank) == whole[rank][done:]

#!/bin/bash
# NODES=2 GPUS=8 HEAD=<host of the first node> recipes/launch/torchrun.sh -c recipes/experiments/<name>.yaml --trainer.strategy=ddp
# On every node, in the checkout, with torchrun of the environment that has ppl in PATH; any words of `ppl fit`. TERM or
# Ctrl-C to any node's torchrun: the whole run saves a checkpoint after the step it is in and ends. The same command goes
# on from the newest checkpoint whose name begins with `last`; with RESTARTS=3 it does so by itself when a process dies.
set -euo pipefail

exec torchrun --nnodes="${NODES:-1}" --nproc-per-node="${GPUS:-8}" --max-restarts="${RESTARTS:-0}" \
    --rdzv-backend=c10d --rdzv-endpoint="${HEAD:-localhost}:${PORT:-29500}" --rdzv-id="${RUN:-ppl}" \
    --shutdown-timeout=600 \
    -m ppl fit --ckpt_path=last "$@" --trainer.num_nodes="${NODES:-1}" --trainer.devices="${GPUS:-8}"

#!/usr/bin/env bash
# A network of your own, by command and in an experiment.
set -euo pipefail
cd "$(dirname "$0")"

# By command: train it against PGD.
mkdir -p results/by-hand
rift prepare --dataset digits \
    --output results/by-hand/digits.safetensors --manifest results/by-hand/digits.json
rift train --data results/by-hand/digits.safetensors --architecture mynet:build --regime pgd \
    --train.epochs 2 --attack.eps 0.15 --attack.step 0.05 --augment.crop 1 --augment.flip false \
    --output results/by-hand/base.safetensors --history results/by-hand/training.csv

# In an experiment: everything, from data to report.
rift run experiment.yaml
cat results/own-architecture/tables/main.md

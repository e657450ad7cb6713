#!/usr/bin/env bash
# Images of your own, as a folder and as arrays, by command and in an experiment.
set -euo pipefail
cd "$(dirname "$0")"
python make_data.py

# By command: check one of them, and cut it into splits.
mkdir -p results/by-hand
rift prepare --dataset arrays:mine --data.root data \
    --output results/by-hand/mine.safetensors --manifest results/by-hand/mine.json

# In an experiment: everything, from data to report.
rift run experiment.yaml
cat results/own-data/tables/main.md

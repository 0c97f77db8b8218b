#!/usr/bin/env bash
# The ways of conditioning, each trained alike on the demo's latents and put through the closed loop.
#   scripts/compare_conditions.sh [DEMO_RUN] [OUT]     after `make demo`; about 4 minutes a way on one core
set -euo pipefail
demo=${1:-runs/demo} out=${2:-runs/conditions}
attend='task.model.attention_levels=[false,true]'  # cross-attention at the coarse level and the middle
unet='task.model={kind: unet, channels: [64, 64]}'
declare -A ways=(
  [vector]="$unet"
  [channels]="$unet|task.conditions={vector: null, channels: {kind: channels}}"
  [addition]="$unet|task.conditions={vector: null, addition: {kind: addition}}"
  [tokens]="$unet|task.conditions={vector: null, tokens: {kind: tokens}}|$attend"
  [hybrid]="$unet|task.conditions={vector: null, channels: {kind: channels}, tokens: {kind: tokens}}|$attend"
  [dit]='task.model={kind: dit}|optim.lr=1e-3'
)
for way in vector channels addition tokens hybrid dit; do
  IFS='|' read -ra words <<< "${ways[$way]}"
  vol3d train configs/demo/diffusion.yaml data.path="$demo/latents" run="$out/$way" \
    total_nimg=6400 preview_every=6400 "${words[@]}"
  vol3d evaluate "$out/$way-evaluation" configs/demo/data.yaml data.path="$demo/cohort" \
    generator="$out/$way" segmenter=ready n=64 pairs=16
done
python scripts/table_of_summaries.py "$out"/*-evaluation

#!/usr/bin/env bash
# What few steps and bf16 cost: one model through the closed loop with samplers dear and cheap.
#   scripts/compare_sampling.sh [DEMO_RUN] [OUT]     after `make demo`; about a minute each on one core
set -euo pipefail
demo=${1:-runs/demo} out=${2:-runs/sampling}
declare -A ways=(
  [4-bf16]='sampler.steps=4'
  [8-bf16]='sampler.steps=8'
  [16-bf16]='sampler.steps=16'
  [16-fp32]='sampler.steps=16 sampler.precision=fp32'
  [64-bf16]='sampler.steps=64'
  [64-fp32]='sampler.steps=64 sampler.precision=fp32'
)
for way in 4-bf16 8-bf16 16-bf16 16-fp32 64-bf16 64-fp32; do
  IFS=' ' read -ra words <<< "${ways[$way]}"
  vol3d evaluate "$out/$way-evaluation" configs/demo/data.yaml data.path="$demo/cohort" \
    generator="$demo/diffusion" segmenter=ready n=64 "${words[@]}"
done
python "$(dirname "$0")/table_of_summaries.py" "$out"/{4,8,16,64}-*-evaluation

#!/usr/bin/env bash
# Makes the models that come with vol3d: the demo's networks, trained for longer on the same cohort.
#   scripts/make_ready.sh [RUN_FOLDER]      run again to go on.
set -euo pipefail
run=${1:-runs/ready}
data=(data.path="$run/cohort")
ready=$(dirname "$0")/../vol3d/ready

vol3d sample-cohort "$run/cohort" n=192 spacing=4
vol3d train configs/ready/segmenter.yaml run="$run/segmenter" "${data[@]}"
vol3d train configs/ready/registrar.yaml run="$run/registrar" "${data[@]}"
vol3d train configs/ready/autoencoder.yaml run="$run/autoencoder" "${data[@]}"
vol3d encode "$run/autoencoder" "$run/latents" configs/demo/data.yaml "${data[@]}"
vol3d train configs/ready/diffusion.yaml run="$run/diffusion" data.path="$run/latents"
vol3d evaluate "$run/evaluation" configs/demo/data.yaml "${data[@]}" generator="$run/diffusion" \
  segmenter="$run/segmenter" n=64

python "$(dirname "$0")/pack_ready.py" "$run" "$ready"
du -sh "$ready"

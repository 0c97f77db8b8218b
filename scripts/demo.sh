#!/usr/bin/env bash
# The whole road on the embedded cohort, as one would type it: folder -> train -> generate -> evaluate.
#   scripts/demo.sh [RUN_FOLDER]      run again to go on.
# Volumes are measured by the segmenter that comes with vol3d, which never saw the people held out.
set -euo pipefail
run=${1:-runs/demo}
data=(data.path="$run/cohort")
mkdir -p "$run"
[ -f "$run/started" ] || date +%s > "$run/started"

vol3d sample-cohort "$run/cohort" n=192 spacing=4
vol3d train configs/demo/autoencoder.yaml run="$run/autoencoder" "${data[@]}"
vol3d encode "$run/autoencoder" "$run/latents" configs/demo/data.yaml "${data[@]}"
vol3d train configs/demo/diffusion.yaml run="$run/diffusion" data.path="$run/latents"
vol3d generate "$run/diffusion" "$run/samples" n=4 age=70 sex=F ventricles_ml=45
vol3d evaluate "$run/evaluation" configs/demo/data.yaml "${data[@]}" generator="$run/diffusion" \
  segmenter=ready n=64 since="$(cat "$run/started")"
cp "$run"/evaluation/{report.html,summary.json} "$run"/
echo "open $run/report.html" >&2

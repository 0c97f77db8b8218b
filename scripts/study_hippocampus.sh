#!/usr/bin/env bash
# Diffusion segmenters beside U-Nets on the hippocampus, trained and scored on one split, in one table:
#   scripts/study_hippocampus.sh hippocampus.tsv runs/hippocampus [key=value ...]
# hippocampus.tsv: columns subject, image, labels, split (Medical Segmentation Decathlon, Task04). Further
# words go to every training (total_nimg=2000), those in DIFFUSION and UNET to trainings of that kind. JOBS
# trainings run at a time (1); on a GPU take 6. Run it again to go on.
# On two cores at half the resolution, an hour:
#   python scripts/halve_table.py hippocampus.tsv runs/halved
#   DIFFUSION='task.target.patch=[20,28,20] task.model.patch=1 task.model.channels=[32,64] total_nimg=6000' \
#   UNET='task.patch=[20,28,20] task.model.channels=[32,64] total_nimg=4000' JOBS=2 \
#     scripts/study_hippocampus.sh runs/halved/table.tsv runs/hippocampus_2mm
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
table=$(realpath "$1") out=$2 jobs=${JOBS:-1}
shift 2
words=("$@")
vol3d=${VOL3D:-vol3d} configs=$root/configs/hippocampus
mkdir -p "$out"
# Those held out alone are segmented.
awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "split") s = i } NR == 1 || $s == "val"' "$table" \
  > "$out/held_out.tsv"

# One line for each training: its name, its config and what differs.
trainings() {
  cat << 'LINES'
diffusion diffusion
bits diffusion task.target.coding=bits
zero_one diffusion task.target.low=0
edm diffusion task.schedule=edm task.prediction=edm task.sampler.solver=heun
ddim diffusion task.schedule=cosine task.prediction=v task.sampler.solver=ddim task.sampler.steps=20
unet1 unet seed=1
unet2 unet seed=2
unet3 unet seed=3
dropout unet task.model.dropout=0.2
monai unet task.model=monai_unet
LINES
}

train() {
  local name=$1 config=$2
  shift 2
  local kind=${config^^}
  # shellcheck disable=SC2086 (several words)
  $vol3d train "$configs/$config.yaml" "run=$out/$name" "data.path=$table" "$@" ${!kind-} "${words[@]}" \
    > "$out/$name.log" 2>&1 || { tail -n 3 "$out/$name.log" >&2; return 1; }
}

segment() {
  local name=$1 bundles=$2
  shift 2
  $vol3d segment "bundle=[$bundles]" "$out/held_out.tsv" "$out/segmented/$name" "$configs/data.yaml" members=16 \
    pictures=false "$@" > "$out/segmented_$name.log" 2>&1
  $vol3d score "$out/segmented/$name" "$out/scores/$name" "$configs/data.yaml" "data.path=$table" split=val \
    > "$out/scores_$name.log" 2>&1
}

running=0
while read -r name config more; do
  # shellcheck disable=SC2086 (several words)
  train "$name" "$config" $more &
  running=$((running + 1))
  if [ "$running" -ge "$jobs" ]; then
    wait -n
    running=$((running - 1))
  fi
done < <(trainings)
wait

mkdir -p "$out/segmented" "$out/scores"
for name in diffusion bits zero_one edm ddim unet1 dropout monai; do
  segment "$name" "$out/$name"
done
segment deep_ensemble "$out/unet1,$out/unet2,$out/unet3"
segment mixture "$out/diffusion,$out/unet1"
$vol3d sweep "$out/diffusion" "$out/sweep" "$configs/data.yaml" "data.path=$table"
"${PYTHON:-python}" "$root/scripts/compare_segmenters.py" "$out"/scores/*/scores.json | tee "$out/table.md"

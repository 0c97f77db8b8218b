#!/usr/bin/env bash
# Diffusion segmenters beside U-Nets on the hippocampus, trained and scored on one split, in one table:
#   scripts/study_hippocampus.sh hippocampus.tsv runs/hippocampus [key=value ...]
# hippocampus.tsv: columns subject, image, labels, split (Medical Segmentation Decathlon, Task04). Further
# words go to every training (total_nimg=2000), those in DIFFUSION, UNET and MONAI to trainings of that
# config. JOBS trainings run at a time (1); on a GPU take 6. Run it again to go on.
# On two cores at half the resolution, an hour and a half:
#   python scripts/halve_table.py hippocampus.tsv runs/halved
#   DIFFUSION='task.target.patch=[20,28,20] task.model.patch=1 task.model.channels=[16,32] total_nimg=4000' \
#   UNET='task.patch=[20,28,20] task.model.patch=1 task.model.channels=[16,32,64] total_nimg=3000' \
#   MONAI='task.patch=[20,28,20] task.model.channels=[16,32,64] total_nimg=3000' JOBS=2 \
#     scripts/study_hippocampus.sh runs/halved/table.tsv runs/hippocampus_2mm
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
table=$(realpath "$1") out=$2
shift 2
words=("$@") data=("data.path=$table") configs=$root/configs/hippocampus
# shellcheck source=scripts/segmenter_study.sh
source "$root/scripts/segmenter_study.sh"

train_all << 'LINES'
diffusion diffusion
bits diffusion task.target.coding=bits
zero_one diffusion task.target.low=0 task.prediction.low=0
x0 diffusion task.prediction=x0
edm diffusion task.schedule=edm task.prediction=edm task.sampler.solver=heun
ddim diffusion task.schedule=cosine task.prediction=v task.sampler.solver=ddim task.sampler.steps=20
unet1 unet seed=1
unet2 unet seed=2
unet3 unet seed=3
dropout unet task.model.dropout=0.2
monai monai
LINES
for name in diffusion bits zero_one x0 edm ddim unet1 dropout monai; do
  segment_and_score "$name" "$out/$name" "$table"
done
segment_and_score deep_ensemble "$out/unet1,$out/unet2,$out/unet3" "$table"
segment_and_score mixture "$out/diffusion,$out/unet1" "$table"
$vol3d sweep "$out/diffusion" "$out/sweep" "$configs/data.yaml" "${data[@]}"
compare

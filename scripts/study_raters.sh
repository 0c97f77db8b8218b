#!/usr/bin/env bash
# Segmenters that learn from four raters, on lesions of the sample cohort, in one table: a flow, the same
# told whose outline it is, the same with hidden numbers (CIMD), a deep ensemble, dropout.
#   scripts/study_raters.sh runs/raters [key=value ...]
# Further words go to every training, those in FLOW, BY_RATER, CIMD and UNET to trainings of that config.
# JOBS trainings run at a time (1; on a GPU take 6). Run it again to go on.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$1
shift
words=("$@") configs=$root/configs/raters cohort=$out/cohort
data=("data.path=$cohort")
# shellcheck source=scripts/segmenter_study.sh
source "$root/scripts/segmenter_study.sh"
$vol3d sample-cohort "$cohort" n=192 spacing=4 'contrasts=[FLAIR]' lesions=true raters=4
# Those with 2 ml of lesions or more: at 4 mm that is thirty voxels.
people=$(awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "lesions_ml") c = i }
  NR > 1 && $c >= 2 { print substr($1, 5) }' "$cohort/participants.tsv" | paste -sd,)
data+=("data.subjects=[$people]")

train_all << 'LINES'
flow flow
by_rater by_rater
cimd cimd
unet1 unet seed=1
unet2 unet seed=2
unet3 unet seed=3
dropout unet task.model.dropout=0.2
LINES
raters='of=[rater1,rater2,rater3,rater4]'
for name in flow by_rater cimd unet1 dropout; do
  segment_and_score "$name" "$out/$name" "$cohort" "$raters"
done
segment_and_score deep_ensemble "$out/unet1,$out/unet2,$out/unet3" "$cohort" "$raters"
compare

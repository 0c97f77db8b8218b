# What the studies of segmenters share; sourced by study_hippocampus.sh and study_raters.sh, which set
#   out      the folder of all that is made
#   configs  the folder of the configs
#   data     words that say who the people are, for every verb
#   words    further words for every training
# JOBS trainings run at a time (1; on a GPU take 6). What is there is not trained or segmented again.
vol3d=${VOL3D:-vol3d}
mkdir -p "$out/segmented" "$out/scores"

# Trains out/NAME of each line NAME CONFIG [key=value ...] that it reads. Fails, once all have ended, if one did.
train_all() {
  local name config more pid pids=() failed=0
  while read -r name config more; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do
      sleep 1
    done
    # shellcheck disable=SC2086 (several words)
    train "$name" "$config" $more &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
  return "$failed"
}

# Words for the trainings of one config are in the variable of its name: UNET for unet.yaml.
train() {
  local name=$1 config=$2 own=${2^^}
  shift 2
  # shellcheck disable=SC2086 (several words)
  run "$name" train "$configs/$config.yaml" "run=$out/$name" "${data[@]}" "$@" ${!own-} "${words[@]}"
}

# segment_and_score NAME BUNDLE,BUNDLE IMAGES [words of vol3d score ...]: 16 members of those held out.
segment_and_score() {
  local name=$1 bundles=$2 images=$3
  shift 3
  run "segmented_$name" segment "bundle=[$bundles]" "$images" "$out/segmented/$name" "$configs/data.yaml" \
    "${data[@]}" split=val members=16 keep_members=true pictures=false
  run "scores_$name" score "$out/segmented/$name" "$out/scores/$name" "$configs/data.yaml" "${data[@]}" split=val "$@"
}

# run LOG WORDS...: a command of vol3d, which says its last lines if it fails.
run() {
  local log=$out/$1.log
  shift
  $vol3d "$@" > "$log" 2>&1 || { tail -n 3 "$log" >&2; return 1; }
}

# Prints the table of all scores.
compare() {
  "${PYTHON:-python}" "$root/scripts/compare_segmenters.py" "$out"/scores/*/scores.json | tee "$out/table.md"
}

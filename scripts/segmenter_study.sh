# What the studies of segmenters share; sourced by study_hippocampus.sh and study_raters.sh, which set
#   out      the folder of all that is made
#   configs  the folder of the configs
#   data     words that say who the people are, for every verb
#   words    further words for every training
# JOBS trainings run at a time (1; on a GPU take 6). What is there is not made again.
vol3d=${VOL3D:-vol3d}
mkdir -p "$out/segmented" "$out/scores"

# Trains out/NAME of each line NAME CONFIG [key=value ...] that it reads.
train_all() {
  local running=0 name config more
  while read -r name config more; do
    # shellcheck disable=SC2086 (several words)
    train "$name" "$config" $more &
    running=$((running + 1))
    if [ "$running" -ge "${JOBS:-1}" ]; then
      wait -n
      running=$((running - 1))
    fi
  done
  wait
}

# Words for the trainings of one config are in the variable of its name: UNET for unet.yaml.
train() {
  local name=$1 config=$2 own=${2^^}
  shift 2
  # shellcheck disable=SC2086 (several words)
  $vol3d train "$configs/$config.yaml" "run=$out/$name" "${data[@]}" "$@" ${!own-} "${words[@]}" \
    > "$out/$name.log" 2>&1 || { tail -n 3 "$out/$name.log" >&2; return 1; }
}

# segment_and_score NAME BUNDLE,BUNDLE IMAGES [words of vol3d score ...]: 16 members of those held out.
segment_and_score() {
  local name=$1 bundles=$2 images=$3
  shift 3
  $vol3d segment "bundle=[$bundles]" "$images" "$out/segmented/$name" "$configs/data.yaml" "${data[@]}" \
    split=val members=16 keep_members=true pictures=false > "$out/segmented_$name.log" 2>&1
  $vol3d score "$out/segmented/$name" "$out/scores/$name" "$configs/data.yaml" "${data[@]}" split=val "$@" \
    > "$out/scores_$name.log" 2>&1
}

# Prints the table of all scores.
compare() {
  "${PYTHON:-python}" "$root/scripts/compare_segmenters.py" "$out"/scores/*/scores.json | tee "$out/table.md"
}

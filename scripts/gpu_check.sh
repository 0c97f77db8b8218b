#!/usr/bin/env bash
# The GPU's tests and the benchmark on a machine that has torch, and neither the rest nor a network:
#   WHEELS=wheels OUT=gpu-check scripts/gpu_check.sh
# WHEELS is what scripts/gather_wheels.sh gathered. OUT gets a log of each step, steps.jsonl, and
# benchmark.json, which is whole after each peak and each call that was timed.
# DEVICE=cpu SIZE=small is a dry run. MINUTES is for all steps, TESTS and BENCH are at most of theirs.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} wheels=${WHEELS:-wheels} out=${OUT:-gpu-check}
device=${DEVICE:-cuda} size=${SIZE:-full}
minutes=${MINUTES:-9} tests=${TESTS:-3.5} bench=${BENCH:-4}
mkdir -p "$out"

# No venv: where python3 is itself that of one, a new one would not see its torch.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir "$site/wheels"
"$python" - "$wheels" "$site/wheels" << 'UNPACK' || exit 1
import lzma, pathlib, shutil, sys

wheels, out = map(pathlib.Path, sys.argv[1:])
for wheel in wheels.glob("*.whl*"):
    with (lzma.open if wheel.suffix == ".xz" else open)(wheel, "rb") as packed:
        with open(out / wheel.name.removesuffix(".xz"), "wb") as plain:
            shutil.copyfileobj(packed, plain)
UNPACK
"$python" -m pip install -q --no-index --no-deps --no-compile --disable-pip-version-check \
  --target "$site" "$site/wheels"/*.whl || exit 1
rm -r "$site/wheels"
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1

seconds_of() { "$python" -c "print(int(60 * $1))"; }
end=$(seconds_of "$minutes")

# step NAME MINUTES COMMAND ...: within its time and what is left of all, its words in OUT/NAME.log.
step() {
  local name=$1 most left began=$SECONDS
  most=$(seconds_of "$2")
  left=$((end - SECONDS))
  shift 2
  [ "$left" -lt "$most" ] && most=$left
  if [ "$most" -le 0 ]; then
    echo "{\"step\": \"$name\", \"code\": null}" >> "$out/steps.jsonl"
    return
  fi
  echo "== $name, at most $most s"
  timeout -k 10 "$most" "$@" 2>&1 | tee "$out/$name.log"
  local code=${PIPESTATUS[0]} # 124: its time was over
  echo "{\"step\": \"$name\", \"code\": $code, \"seconds\": $((SECONDS - began))}" >> "$out/steps.jsonl"
}

: > "$out/steps.jsonl"
mapfile -t files < <(grep -rl 'mark\.gpu' tests --include='*.py')
step doctor 0.75 "$python" -m vol3d doctor "device=$device"
step tests "$tests" "$python" -m pytest -m gpu --device "$device" -v --tb=short --timeout 120 \
  -p no:cacheprovider "${files[@]}"
step benchmark "($bench + 0.5)" "$python" -m benchmarks.run --device "$device" --size "$size" \
  --minutes "$bench" --out "$out/benchmark.json"
step levers 1 "$python" -m benchmarks.levers "$device"
step planner 3 "$python" benchmarks/plan.py calibrate "device=$device"
cat "$out/steps.jsonl"

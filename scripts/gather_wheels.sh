#!/usr/bin/env bash
# Gathers the wheels that scripts/gpu_check.sh wants on a machine with torch, numpy and no network:
#   scripts/gather_wheels.sh FOLDER [PYTHON_VERSION]      (3.12)
# In the versions that .venv has (make setup). Together with the repository they must stay below 64 MiB.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 version=${2:-3.12} python=${PYTHON:-.venv/bin/python} most=$((64 << 20))
mkdir -p "$folder"
rm -f "$folder"/*.whl # two versions of one package would stop the installation

tested=$(mktemp)
trap 'rm -f "$tested"' EXIT
"$python" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^+]+$' > "$tested"
from_source='antlr4-python3-runtime|deepspeed' # which have no wheels; theirs fit every Python
grep -vE '^#' scripts/gpu_wheels.txt | grep -vE "^($from_source)$" > "$folder/names"
platforms=()
for tag in _2_{39,35,34,31,28,27,24,17,12,5} 2014 2010 1; do
  platforms+=(--platform "manylinux${tag}_x86_64")
done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" \
  --implementation cp "${platforms[@]}" -c "$tested" -d "$folder" -r "$folder/names"
grep -E "^($from_source)$" scripts/gpu_wheels.txt > "$folder/names"
DS_BUILD_OPS=0 "$python" -m pip wheel -q --no-deps --no-build-isolation -c "$tested" \
  -w "$folder" -r "$folder/names"
rm "$folder/names"

wheels=$(cat "$folder"/*.whl | wc -c)
ours=$(git ls-files -z | xargs -0 cat | wc -c)
total=$((wheels + ours))
echo "$(ls "$folder" | wc -l) wheels, $((wheels >> 20)) MiB, and $((ours >> 20)) MiB of ours, of $((most >> 20))"
[ "$total" -lt "$most" ] || { echo "too much to carry" >&2; exit 1; }

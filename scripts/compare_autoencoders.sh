#!/usr/bin/env bash
# The KL autoencoder, VQ-VAE and VQ-GAN: same compression, same number of images.
#   scripts/compare_autoencoders.sh CONFIGS OUT DATA_WORDS...    e.g. configs/demo runs/ae data.path=runs/demo/cohort
set -euo pipefail
configs=$1 out=$2
shift 2
data=("$configs/data.yaml" "$@")
vol3d train "$configs/autoencoder.yaml" "${data[@]}" run="$out/kl"
vol3d train "$configs/vqgan.yaml" "${data[@]}" run="$out/vqvae" task.adversarial.weight=0 \
  task.adversarial.feature_weight=0
vol3d train "$configs/vqgan.yaml" "${data[@]}" run="$out/vqgan"

#!/usr/bin/env bash
#SBATCH --job-name=simgan-refine
#SBATCH --array=1-8
#SBATCH --gpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Refine a folder in as many parts as the array has tasks; a task that is restarted skips finished images.
#
#     sbatch examples/slurm_refine.sh SYNTHETIC_DIR RUN OUT_DIR
set -euo pipefail
synthetic=${1:?SYNTHETIC_DIR} run=${2:?RUN} out=${3:?OUT_DIR}
part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"

exec simgan refine "$synthetic" --model "$run" --out "$out" --shard "$part" --skip-existing --quiet

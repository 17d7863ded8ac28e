#!/usr/bin/env bash
#SBATCH --job-name=simgan-lambda
#SBATCH --array=0-2
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# One training for each lambda. Two minutes before the time limit, or when it is preempted, a task saves and puts itself
# back into the queue; --resume auto then resumes.
#
#     sbatch examples/slurm_lambda.sh SYNTHETIC_DIR REAL_DIR RUNS_DIR
set -euo pipefail
synthetic=${1:?SYNTHETIC_DIR} real=${2:?REAL_DIR} runs=${3:?RUNS_DIR}
lambdas=(0.3 1 3)
lambda=${lambdas[$SLURM_ARRAY_TASK_ID]}

simgan train --synthetic "$synthetic" --real "$real" --out "$runs/lambda-$lambda" --lambda "$lambda" \
  --resume auto --quiet --json > "$SLURM_JOB_ID-$lambda.json" &
training=$!
trap 'signalled=yes; kill -USR1 "$training" || true' USR1 TERM # SLURM signals this shell alone (B:)

signalled=yes
while [ -n "$signalled" ]; do # a signal ends `wait`, too, while the training is still saving
  signalled="" code=0
  wait "$training" || code=$?
done
if [ "$code" -eq 75 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  code=0
fi
exit "$code"

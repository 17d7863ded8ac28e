#!/usr/bin/env bash
#SBATCH --job-name=simgan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1      # a torchrun on each machine, which starts a rank for each of its GPUs
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180      # to this script, three minutes before the time is up
#SBATCH --requeue
#SBATCH --open-mode=append
#
# One training on several machines of a SLURM cluster, in as many jobs of four hours as it needs.
#
#     sbatch examples/slurm_train.sh SYNTHETIC_DIR REAL_DIR OUT_DIR [further settings of simgan train]
#
# OUT_DIR and the images lie on a file system that all machines share. Put the cache there, too (--cache DIR), or each
# machine decodes the images itself. --batch-size is the total of all ranks. Before the time is up the ranks save and end
# with 75, and this script puts itself into the queue again. If a rank dies, all end: submit it again.
set -euo pipefail
synthetic=${1:?SYNTHETIC_DIR} real=${2:?REAL_DIR} out=${3:?OUT_DIR}
shift 3
result=$(mktemp)
trap 'rm -f "$result"' EXIT
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# The training gets TERM, which torchrun passes on to its ranks.
trap 'scancel --signal=TERM "$SLURM_JOB_ID.0" || true' USR1 TERM
srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-backend=c10d --rdzv-endpoint="$first:${MASTER_PORT:-29500}" --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  -m simgan_cli train --synthetic "$synthetic" --real "$real" --out "$out" --resume auto --json "$@" > "$result" &
step=$!
while kill -0 $step 2> /dev/null; do wait $step || true; done

last=$(tail -n 1 "$result") # torchrun always ends with 1; the document of the first rank says how training ended
echo "$last"
case $last in
*'"status": "finished"'*) exit 0 ;;
*'"status": "stopped"'*) scontrol requeue "$SLURM_JOB_ID" && exit 75 ;;
*) exit 1 ;;
esac

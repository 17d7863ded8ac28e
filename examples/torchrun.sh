#!/usr/bin/env bash
# One training on all GPUs of this machine, or by several processes on its CPU.
#
#     examples/torchrun.sh RANKS SYNTHETIC_DIR REAL_DIR OUT_DIR [further settings of simgan train]
#
# --batch-size is the total of all ranks, a multiple of 2 RANKS. If a rank dies, all end: rerun it. TERM, USR1 and Ctrl-C
# save and stop. torchrun itself hides its ranks' exit codes; this script ends with 0 when the training is finished, 75
# when it was stopped (rerun it), else 1.
set -euo pipefail
ranks=${1:?RANKS} synthetic=${2:?SYNTHETIC_DIR} real=${3:?REAL_DIR} out=${4:?OUT_DIR}
shift 4
result=$(mktemp)
trap 'rm -f "$result"' EXIT

torchrun --standalone --nproc-per-node="$ranks" -m simgan_cli train \
  --synthetic "$synthetic" --real "$real" --out "$out" --resume auto --json "$@" > "$result" &
torchrun=$!
trap 'kill -TERM $torchrun || true' TERM USR1 # it passes that on to the ranks
trap : INT                                    # the terminal sends it to the ranks, too: wait for them
while kill -0 $torchrun 2> /dev/null; do wait $torchrun || true; done

last=$(tail -n 1 "$result") # the first rank's
echo "$last"
case $last in
*'"status": "finished"'*) exit 0 ;;
*'"status": "stopped"'*) exit 75 ;;
*) exit 1 ;;
esac

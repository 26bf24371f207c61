#!/usr/bin/env bash
# sbatch slurm/evaluate.sh MODEL --data SOURCE --out DIR [options of `distmed evaluate`]      the evidence for one model
#
# There is one worker a GPU of the allocation. Where time runs out the job requeues itself, and goes on from the cases that were scored.
#SBATCH --job-name=distmed-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --no-kill
set -uo pipefail
command=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p' | head -n 1)
original=${command%"${*:+ $*}"}
[[ -e $original ]] || original=${command%% *}
source "$(dirname "$original")/cluster.sh" || exit

arguments=("${@//%a/${SLURM_ARRAY_TASK_ID:-0}}")
[[ " ${arguments[*]}" == *" --num-workers"* ]] || arguments+=(--num-workers "$(allocated_workers)")
for ((n = 0; n < ${#arguments[@]}; n++)); do
    case ${arguments[n]} in
        --out) folder=${arguments[n + 1]:-} ;;
        --out=*) folder=${arguments[n]#--out=} ;;
    esac
done
progress=parts
phase "evaluation on $SLURM_JOB_NUM_NODES nodes"
on_cluster distmed evaluate "${arguments[@]}"

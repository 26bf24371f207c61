#!/usr/bin/env bash
# sbatch slurm/train.sh RECIPE [key=value …]      one run on the nodes of the allocation
#
# Options of sbatch go before the script and win over the lines below, e.g. `sbatch -N 8 --gpus-per-node=8 -t 12:00:00 slurm/train.sh …`.
# In a job array `%a` in an argument becomes the task's number: `sbatch --array=1-5 slurm/train.sh RECIPE train.seed=%a name=seed-%a`.
# What a site must set (modules, interface, container) is described in docs/clusters.md and read from variables: see cluster.sh.
#SBATCH --job-name=distmed
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --no-kill
set -uo pipefail
# Slurm runs a copy of this file from its spool; the original says where cluster.sh lies.
command=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p' | head -n 1)
original=${command%"${*:+ $*}"}
[[ -e $original ]] || original=${command%% *}
source "$(dirname "$original")/cluster.sh" || exit

arguments=("${@//%a/${SLURM_ARRAY_TASK_ID:-0}}")
facts=$(enter python -m distmed.cluster.launch "${arguments[@]}") || exit
# A container may say something of its own first.
read -r name workers folder <<<"$(tail -n 1 <<<"$facts")"
progress="metrics.jsonl data/tokens-*"
room=$(allocated_workers)
if [[ $workers == - ]]; then
    arguments+=(--num-workers "$room")
elif ((workers < room)); then
    phase "the allocation has room for $room workers, the recipe's cluster.num_workers takes $workers of it"
fi
# A run that is there was begun by this job before it was requeued, or by one that a person wants to go on with.
[[ ! -e $folder/recipe.yaml ]] || arguments+=(--resume)
phase "run $name on $SLURM_JOB_NUM_NODES nodes"
on_cluster distmed train "${arguments[@]}"

#!/usr/bin/env bash
# sbatch slurm/tune.sh RECIPE [options and key=value of `distmed tune`]      a search on the nodes of the allocation
#
# A trial has as many workers as the recipe or --num-workers says; as many trials run at once as the allocation has room for.
#SBATCH --job-name=distmed-tune
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
facts=$(enter python -m distmed.cluster.launch "${arguments[@]}") || exit
read -r name _ folder <<<"$(tail -n 1 <<<"$facts")"
progress="search.jsonl data/tokens-*"
# A search that is there was begun by this job before it was requeued, or by one that a person wants to go on with.
[[ ! -e $folder/recipe.yaml ]] || arguments+=(--resume)
phase "search $name on $SLURM_JOB_NUM_NODES nodes"
on_cluster distmed tune "${arguments[@]}"

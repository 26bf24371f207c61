#!/usr/bin/env bash
# sbatch slurm/evaluate.sh MODEL --data SOURCE --out DIR [options of `distmed evaluate`]      the evidence for one model
#SBATCH --job-name=distmed-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -uo pipefail
original=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)
source "$(dirname "$original")/cluster.sh"

arguments=("${@//%a/${SLURM_ARRAY_TASK_ID:-0}}")
phase "evaluation on $SLURM_JOB_NUM_NODES nodes"
on_cluster distmed evaluate "${arguments[@]}"

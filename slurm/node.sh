#!/usr/bin/env bash
# Ray on one node of the allocation, the NUMBERth of it: `node.sh head NUMBER` or `node.sh worker NUMBER` (see cluster.sh).
# USR1 ends it. TERM does not: scancel sends that to every process at once, and the driver needs the cluster to save. But a worker
# then ends with its head, because Slurm may carry no USR1 of a job that must give way at once.
set -euo pipefail
trap '' TERM INT
exec >>"$DISTMED_LOG" 2>&1
# What others wrote may ask for variables that are not set, and end with a status.
set +eu
[[ -z ${DISTMED_SETUP:-} ]] || source "$DISTMED_SETUP"
set -eu
source "$DISTMED_SLURM/interface.sh"

# Short, since Ray's sockets lie below it and their paths may have 107 characters; a number, since nodes may share /tmp.
temp=$DISTMED_TEMP/$2
mkdir -p -m 700 "$temp"
[[ -O $DISTMED_TEMP ]] || exit 1
# Slurm tells GPUs, CPUs and memory of this step; memory is in MiB, and 0 stands for all of the node.
resources=(--num-cpus="${SLURM_CPUS_ON_NODE:-1}" --num-gpus="${DISTMED_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}")
memory=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-0} * ${SLURM_CPUS_ON_NODE:-1}))}
((memory == 0)) || resources+=(--memory=$((memory * 1024 * 1024)))
role=(--address="${RAY_ADDRESS:-}")
[[ $1 != head ]] || role=(--head --port=0 --include-dashboard=false)

# TERM is blocked, which every process of Ray inherits; ignoring it would not do, because Ray sets handlers of its own.
# shellcheck disable=SC2086
${DISTMED_ENTER:-} python -c '
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
os.execvp("ray", ["ray", "start", *sys.argv[1:]])
' "${role[@]}" "${resources[@]}" --node-ip-address="$address" --temp-dir="$temp" --block --disable-usage-stats \
    --labels="distmed-node=${SLURMD_NODENAME:-node}" --object-store-memory="${DISTMED_OBJECT_STORE_BYTES:-1073741824}" \
    --min-worker-port=0 --max-worker-port=0 &
ray=$!

family() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do family "$child"; done
    echo "$1"
}
end() {
    # shellcheck disable=SC2046
    kill -KILL $(family "$ray") 2>/dev/null || true
    rm -rf "$temp"
    rmdir "$DISTMED_TEMP" 2>/dev/null || true
}
head_answers() { (exec 3<>"/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2>/dev/null; }
trap end EXIT
trap 'exit 0' USR1

if [[ $1 == head ]]; then
    until [[ -s $temp/ray_current_cluster ]]; do
        kill -0 "$ray" 2>/dev/null || exit 1
        sleep 0.2
    done
    cp "$temp/ray_current_cluster" "$DISTMED_TEMP/address.new"
    mv "$DISTMED_TEMP/address.new" "$DISTMED_TEMP/address"
fi
leaving=
trap 'leaving=1' TERM
while kill -0 "$ray" 2>/dev/null; do
    [[ $1 == head || -z $leaving ]] || head_answers || exit 0
    sleep 1 &
    wait $! || true
done
wait "$ray"

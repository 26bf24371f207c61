# A Ray cluster on this Slurm allocation for as long as one command lasts: sourced by train.sh, tune.sh and evaluate.sh.
#
#   phase TEXT             one line with a timestamp
#   enter COMMAND…         COMMAND in the environment of the site
#   allocated_workers      how many workers the allocation has room for: its GPUs, or one a task without any
#   on_cluster COMMAND…    start a head and workers, run COMMAND, end everything; requeue where work is left; exit with its status
#
# What a site may set:
#   DISTMED_SETUP            a file to source first, here and on each node: modules, the virtual environment, NCCL's variables
#   DISTMED_INTERFACE        the network interface of Ray, Gloo and NCCL; without it that of the default route
#   DISTMED_ENTER            a prefix that enters a container, e.g. "apptainer exec --nv distmed.sif"
#   DISTMED_CLUSTER_WAIT_S   how long to wait for all nodes (300)
#   DISTMED_MAX_REQUEUES     how often a job may requeue itself (50)
#   DISTMED_GPUS_PER_NODE    how many GPUs a job has on each node, where Slurm does not count them; 0: it trains on CPUs

phase() { printf '%(%Y-%m-%dT%H:%M:%S%z)T distmed: %s\n' -1 "$*"; }

# shellcheck disable=SC2086
enter() { ${DISTMED_ENTER:-} "$@"; }

allocated_workers() {
    local kind kinds total=0 on_node=${DISTMED_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}
    IFS=, read -ra kinds <<<"${SLURM_GPUS:-}"
    for kind in "${kinds[@]}"; do # "16", "h100:16", "volta:3,kepler": of all nodes, which may have different numbers
        [[ ${kind##*:} =~ ^[0-9]+$ ]] && total=$((total + ${kind##*:})) || total=$((total + 1))
    done
    if [[ $total -gt 0 && -z ${DISTMED_GPUS_PER_NODE:-} ]]; then
        echo "$total"
    elif [[ $on_node -gt 0 ]]; then
        echo $((on_node * SLURM_JOB_NUM_NODES))
    else
        echo "${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}"
    fi
}

on_cluster() {
    _refuse_idle_gpus
    trap _finish EXIT
    before=$(_progress)
    _start_cluster
    _run_driver "$@"
}

# Where a site gives whole nodes without counting their GPUs, or a user forgot to ask for them, they would idle in silence.
_refuse_idle_gpus() {
    [[ -z ${DISTMED_GPUS_PER_NODE:-} && ${SLURM_GPUS_ON_NODE:-0} -eq 0 && -z ${SLURM_GPUS:-} ]] || return 0
    local seen
    seen=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ')
    [[ $seen -gt 0 ]] || return 0
    phase "error: this node has $seen GPUs, and Slurm gave none of them to the job"
    phase "  fix: sbatch --gpus-per-node=$seen …; where nodes are given whole, DISTMED_GPUS_PER_NODE=$seen; to train on CPUs, 0"
    exit 2
}

# ---------------------------------------------------------------------------------------------------- the cluster

_start_cluster() {
    local node number=0
    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    # Nothing of it is shared with another job of this user on this node: the folder is this job's, ports are free ones.
    temp=/tmp/distmed-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
    # Nobody else's folder: the address of the cluster is read from it.
    if ! mkdir -m 700 "$temp"; then
        phase "$temp is there already, and not of this job"
        exit 1
    fi
    RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN DISTMED_TEMP=$temp DISTMED_SLURM=$here DISTMED_LOG=$log
    bash "$here/node.sh" head 0 &
    head=$!
    _until_head
    phase "head up on ${nodes[0]} at $RAY_ADDRESS"
    _count_gpus
    for node in "${nodes[@]:1}"; do
        # A step of its own for each node: the loss of one does not end the others.
        # With what is exported here, whatever sbatch was told to export. What the job asked for in all, or for a task, srun would
        # take as the wish of this step.
        env -u SLURM_GPUS -u SLURM_GPUS_PER_TASK -u SLURM_GPUS_PER_SOCKET -u SLURM_NTASKS_PER_NODE \
            srun --export=ALL --overlap --nodes=1 --ntasks=1 --nodelist="$node" --mem=0 --cpu-bind=none \
            ${gpus[$node]:+"--gpus-per-node=${gpus[$node]}"} \
            bash "$here/node.sh" worker $((++number)) >>"$log" 2>&1 &
        steps+=($!)
    done
    if ! enter python -m distmed.cluster.wait "${DISTMED_CLUSTER_WAIT_S:-300}" "${nodes[@]}"; then
        phase "the cluster did not come up; see $log"
        # It did before: one node is no reason to end what may go on elsewhere.
        ((${SLURM_RESTART_COUNT:-0} == 0)) || broken=1
        exit 1
    fi
    # scancel sends TERM to all processes of a job, and an srun that gets it kills its step, before anything is saved. Without
    # srun and the child with which it guards itself the steps go on; they end by a signal of ours.
    local step
    for step in "${steps[@]}"; do
        disown "$step"
        # shellcheck disable=SC2046
        kill -KILL $(ps -o pid= --ppid "$step") "$step"
    done
    phase "cluster up: ${#nodes[@]} nodes"
}

# What Slurm gave the job on each node, which is not the same on all where it asked for so many in all.
_count_gpus() {
    local names given node kind
    while read -r names given; do
        for node in $(scontrol show hostnames "$names"); do
            for kind in $(grep -oE 'gpu:[^,(]*' <<<"$given"); do
                gpus[$node]=$((${gpus[$node]:-0} + ${kind##*:}))
            done
        done
    done < <(scontrol show job --details "$job" | sed -n 's/^ *Nodes=\([^ ]*\) .*GRES=\(gpu:.*\)/\1 \2/p')
}

_until_head() {
    local deadline=$((SECONDS + ${DISTMED_CLUSTER_WAIT_S:-300}))
    until [[ -s $temp/address ]]; do
        if ((SECONDS > deadline)) || ! kill -0 "$head" 2>/dev/null; then
            phase "the head did not start on ${nodes[0]}; the end of $log:"
            tail -n 20 "$log"
            exit 1
        fi
        _nap
    done
    RAY_ADDRESS=$(<"$temp/address")
    export RAY_ADDRESS
}

_end_cluster() {
    local deadline=$((SECONDS + 20))
    [[ -z $head ]] || kill -USR1 "$head" 2>/dev/null
    if [[ ${#nodes[@]} -gt 1 ]]; then
        # To the steps, and not to this script: node.sh ends Ray on its node and takes the temporary folder away.
        # Of a job that must give way at once it carries no signal, and tries for a minute; there they got TERM, and miss the head.
        timeout 5 scancel --quiet --signal=USR1 "$job"
        while ((SECONDS < deadline)) && [[ -n $(squeue --noheader --steps --job "$job" --format=%i | grep '\.[0-9]') ]]; do
            sleep 0.5
        done
    fi
    while ((SECONDS < deadline)) && kill -0 "$head" 2>/dev/null; do sleep 0.2; done
    rm -rf "$temp"
}

# ---------------------------------------------------------------------------------------------------- the driver

_run_driver() {
    local status=0
    # Each line of the driver gets a timestamp, by a process that scancel's TERM does not end before the driver.
    exec {stamp}> >(trap '' TERM INT USR1; while IFS= read -r line; do phase "$line"; done)
    local stamper=$!
    # Not through a function, which would be a shell between us and the driver, and meet the signals first.
    # shellcheck disable=SC2086
    ${DISTMED_ENTER:-} "$@" >&"$stamp" 2>&1 &
    driver=$!
    while kill -0 "$driver" 2>/dev/null; do
        if ! kill -0 "$head" 2>/dev/null; then
            phase "the Ray head on ${nodes[0]} died"
            broken=1
            kill -KILL "$driver" 2>/dev/null
            break
        fi
        if [[ -n $deadline ]] && ((EPOCHSECONDS > deadline)); then
            phase "time is nearly over: what is not saved by now is repeated"
            kill -KILL "$driver" 2>/dev/null
            break
        fi
        _nap
    done
    wait "$driver" || status=$?
    driver=
    exec {stamp}>&-
    wait "$stamper"
    if [[ -z $broken && $status -eq 1 ]]; then
        enter python -m distmed.cluster.wait 0 "${nodes[@]}" || broken=1
    fi
    exit "$status"
}

# A trap runs when a `wait` is interrupted, not while a command runs in the foreground.
_nap() {
    sleep 0.5 &
    wait $!
}

_stop() {
    [[ -z $signaled ]] || return 0
    signaled=$1
    # A notice that says nothing of the time limit: a job of higher priority wants the nodes (preempt_send_user_signal).
    [[ $1 != USR1 ]] || preempted=$(scontrol show job "$job" | grep -o 'PreemptTime=[0-9].*')
    phase "got $1${preempted:+, since another job wants the nodes}: save at the next step, then end"
    if [[ -z $driver ]]; then
        phase "nothing has begun yet"
        exit 130
    fi
    kill -USR1 "$driver" 2>/dev/null
    [[ $1 != USR1 ]] || deadline=$(_last_moment)
}

# When a driver that still saves is ended: after the limit nobody could requeue the job. Nothing where there is no limit.
_last_moment() {
    local end
    end=$(squeue --noheader --job "$job" --format=%e)
    [[ $end == *T*:* ]] || return 0
    echo $((EPOCHSECONDS + ($(date --date "$end" +%s) - EPOCHSECONDS) * 5 / 6))
}

_finish() {
    local status=$?
    trap '' USR1 TERM INT
    [[ -z $driver ]] || kill -KILL "$driver" 2>/dev/null
    _end_cluster
    phase "ended with status $status"
    if _requeued_by_slurm; then
        phase "requeued by Slurm: goes on when the scheduler lets it"
    elif _wants_requeue "$status"; then
        phase "requeued: goes on when the scheduler lets it" # before it is, since that ends this script
        scontrol requeue "$job" || phase "not requeued: Slurm refused; submit it again, and it goes on"
    fi
    exit "$status"
}

# A job that must give way at once is requeued before it has ended.
_requeued_by_slurm() {
    local restarts
    restarts=$(scontrol show job "$job" | sed -n 's/.* Restarts=\([0-9]*\).*/\1/p')
    ((${restarts:-0} > ${SLURM_RESTART_COUNT:-0}))
}

# Work is left when time ran out, or when the cluster broke under a driver that failed; not when a person or the recipe ended it.
_wants_requeue() {
    [[ $1 -ne 0 && $1 -ne 2 && $signaled != TERM ]] || return 1
    [[ $signaled == USR1 || -n $broken ]] || return 1
    if [[ $signaled == USR1 && -z $preempted && -n $progress && $before == "$(_progress)" ]]; then
        phase "not requeued: nothing was done before the notice, so it would be again; ask for more time"
        return 1
    fi
    if ((${SLURM_RESTART_COUNT:-0} >= ${DISTMED_MAX_REQUEUES:-50})); then
        phase "not requeued: it was ${SLURM_RESTART_COUNT} times (DISTMED_MAX_REQUEUES)"
        return 1
    fi
}

# How much the work has written down so far in its `folder`, in what `progress` names there: words, which may be patterns.
_progress() {
    # shellcheck disable=SC2086
    [[ -z $progress ]] || (cd "$folder" && du --bytes --summarize $progress) 2>/dev/null
}

here=$(cd "$(dirname "$original")" && pwd)
signaled="" broken="" deadline="" driver="" head="" preempted="" before="" progress="" folder="" nodes=() steps=()
declare -A gpus=()
trap '_stop USR1' USR1
trap '_stop TERM' TERM INT
# One task of an array has the array's number, which stands for all of its tasks.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
log=$(scontrol show job "$job" | sed -n 's/^ *StdOut=//p' | head -n 1).ray
export PYTHONUNBUFFERED=1
# What others wrote, such as conda's `activate`, may ask for variables that are not set.
set +u
# shellcheck disable=SC1090
[[ -z ${DISTMED_SETUP:-} ]] || source "$DISTMED_SETUP"
set -u

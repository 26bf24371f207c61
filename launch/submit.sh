#!/usr/bin/env bash
# launch/submit.sh RECIPE [key=value …] [--no-wait]     one run as a job of the Ray cluster at RAY_API_SERVER_ADDRESS
# launch/submit.sh tune RECIPE [key=value …] [--no-wait]    a search as such a job
# launch/submit.sh status|logs|stop NAME                how it is, what it says; stop = checkpoint and exit
#
#   RAY_API_SERVER_ADDRESS   the dashboard, e.g. http://head:8265; RAY_AUTH_TOKEN where the cluster asks for one
#   DISTMED_RUNS             a folder that all hosts of the cluster share; the run goes to DISTMED_RUNS/NAME
#
# What is started is `python -m distmed train …`; without this script:
#   ray job submit --working-dir . --runtime-env launch/runtime_env.yaml -- env DISTMED_RUNS=… python -m distmed train RECIPE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${RAY_API_SERVER_ADDRESS:?names the cluster dashboard, e.g. http://head:8265}"
export RAY_API_SERVER_ADDRESS

verb=train
case ${1:-} in
    tune)
        verb=tune
        shift
        ;;
    status) exec ray job status "$2" ;;
    logs) exec ray job logs --follow "$2" ;;
    stop) exec ray job stop "$2" ;;
esac

: "${DISTMED_RUNS:?names a folder that all hosts of the cluster share}"
wait=() arguments=()
for word in "$@"; do
    if [[ $word == --no-wait ]]; then wait=(--no-wait); else arguments+=("$word"); fi
done

# The recipe and the size of what is shipped are checked before anything is sent.
facts=$(python -m distmed.cluster.launch "${arguments[@]}")
read -r name _ <<<"$facts"
environment=$(mktemp --suffix=.yaml)
trap 'rm -f "$environment"' EXIT
python -m distmed.cluster.package . "$here/runtime_env.yaml" "$environment"

# The job is called as the run. One that has ended makes room for its successor, which goes on with --resume.
if ray job status "$name" 2>/dev/null | grep -qE "Job '$name' (succeeded|failed|was stopped)"; then
    ray job delete "$name"
fi
ray job submit --submission-id "$name" --working-dir . --runtime-env "$environment" "${wait[@]}" -- \
    python -m distmed "$verb" "${arguments[@]}"

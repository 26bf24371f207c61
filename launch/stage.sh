#!/usr/bin/env bash
# For sites without a network: bring everything a run needs to one folder, carry it over, and take it out there.
#   launch/stage.sh pack FOLDER [--model HUB_ID[@REVISION]] [--data PATH_OR_HUB_ID] [--extras privacy] …   where there is a network
#   launch/stage.sh unpack FOLDER VENV                                                                     where there is none
# FOLDER then holds wheels/, models/, data/, distmed/ and SHA256SUMS. Unpacking checks the sums, makes the environment VENV and
# prints the paths for the recipe. Extras: privacy for `distmed prepare`, quant for model.quantize, gpu; all unless --extras names some.
set -euo pipefail
EXTRAS=gpu,privacy,quant
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# What the options name is asked for before anything is packed; prints the extras.
check_words() {
    local extras=$EXTRAS extra
    while (($#)); do
        case $1 in
            --model | --data | --extras) [[ -n ${2:-} ]] || { echo "stage.sh: $1 names nothing to pack" >&2 && usage; } ;;
            *) echo "stage.sh: $1? after FOLDER come --model, --data and --extras" >&2 && usage ;;
        esac
        [[ $1 != --extras ]] || extras=$2
        shift 2
    done
    for extra in ${extras//,/ }; do
        [[ ,$EXTRAS, == *",$extra,"* ]] || { echo "stage.sh: no extra $extra, only $EXTRAS" >&2 && usage; }
    done
    echo "$extras"
}

pack() {
    local folder=$1 revision name seen=" " extras
    shift
    extras=$(check_words "$@")
    mkdir -p "$folder"/{wheels,models,data}
    python -m pip wheel --quiet --wheel-dir "$folder/wheels" --constraint "$root/constraints.txt" "${root}[$extras]"
    mkdir -p "$folder/distmed"
    echo "$extras" >"$folder/distmed/extras"
    cp -r "$root"/{constraints.txt,recipes,ds_configs,slurm,launch} "$folder/distmed/"
    while (($#)); do
        case $1 in
            --model)
                name=${2%@*} revision=
                [[ $2 != *@* ]] || revision=${2#*@}
                if [[ $seen == *" $name "* ]]; then
                    echo "stage.sh: $name is named twice: pack its revisions into folders of their own" >&2 && exit 2
                fi
                seen+="$name "
                python -m huggingface_hub.cli.hf download "$name" ${revision:+--revision "$revision"} \
                    --local-dir "$folder/models/${name//\//--}" --exclude '*.bin' --exclude '*.pt' --exclude '*.h5' --exclude '*.msgpack'
                ;;
            --data)
                if [[ -e $2 ]]; then
                    name=$(basename "$2")
                    if [[ -e $folder/data/$name ]]; then
                        echo "stage.sh: $folder/data/$name is there already: rename one, or pack into a new folder" >&2 && exit 2
                    fi
                    cp -r "$2" "$folder/data/"
                else
                    python -m huggingface_hub.cli.hf download "$2" --repo-type dataset --local-dir "$folder/data/${2//\//--}"
                fi
                ;;
        esac
        shift 2
    done
    (cd "$folder" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
    echo "packed $(du -sh "$folder" | cut -f1) into $folder"
}

unpack() {
    local folder
    folder=$(cd "$1" && pwd)
    (cd "$folder" && sha256sum --quiet --check SHA256SUMS)
    python3 -m venv "$2"
    "$2/bin/pip" install --quiet --no-index --find-links "$folder/wheels" --constraint "$folder/distmed/constraints.txt" \
        "distmed[$(<"$folder/distmed/extras")]"
    "$2/bin/distmed" --version
    echo "models: $(ls -d "$folder"/models/*/ 2>/dev/null | tr '\n' ' ')"
    echo "data:   $(ls -d "$folder"/data/* 2>/dev/null | tr '\n' ' ')"
    echo "set HF_HUB_OFFLINE=1 and name these folders as model.path and data.train.0.source"
}

case ${1:-} in
    pack) (($# >= 2)) || usage && shift && pack "$@" ;;
    unpack) (($# == 3)) || usage && shift && unpack "$@" ;;
    *) usage ;;
esac

"""mosaicml-streaming on the data of benchmarks/stream.py: mixture, shuffle, tokenise, pack. Runs in an environment of its own.

    MOSAIC_PYTHON benchmarks/stream_mosaic.py WORK DATASET SECONDS WEIGHT…

It needs `pip install mosaicml-streaming tokenizers`; prints one line of JSON as stream_speed.py does.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

WARM_UP_S = 2.0
BATCH = 256
SEQ_LEN = 1024


def main() -> None:
    from streaming import MDSWriter, Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from tokenizers import Tokenizer

    work, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    weights = [float(weight) for weight in sys.argv[4:]]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folders = [work / name / f"mds-{n}" for n in range(len(weights))]
    for n, folder in enumerate(folders):
        if not (folder / "index.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            with MDSWriter(out=str(folder), columns={"text": "str"}, compression="zstd") as out:
                for line in (work / name / f"{n}.jsonl").open(encoding="utf-8"):
                    out.write({"text": json.loads(line)["text"]})
    tokenizer = Tokenizer.from_file(str(work / "model" / "tokenizer.json"))
    clean_stale_shared_memory()
    local = work / "mds-local"
    shutil.rmtree(local, ignore_errors=True)
    streams = [
        Stream(remote=str(folder), local=str(local / name / str(n)), proportion=weight)
        for n, (folder, weight) in enumerate(zip(folders, weights, strict=True))
    ]
    setup = time.process_time()
    dataset = StreamingDataset(streams=streams, shuffle=True, shuffle_seed=1, batch_size=BATCH)
    tokens, first, started = 0, 0.0, None
    texts, sequence = [], []
    while True:
        for sample in dataset:
            texts.append(sample["text"])
            if len(texts) < BATCH:
                continue
            encoded = [each.ids for each in tokenizer.encode_batch_fast(texts)]
            texts = []
            # Greedy packing: the usual loop around it.
            for ids in encoded:
                if len(sequence) + len(ids) > SEQ_LEN:
                    sequence = []
                sequence.extend(ids[:SEQ_LEN])
            cpu = time.process_time()
            first = first or cpu - setup
            if started is None:
                if cpu - setup - first >= WARM_UP_S:
                    started, tokens = (time.perf_counter(), cpu), 0
                    continue
            elif cpu - started[1] >= seconds:
                wall = time.perf_counter() - started[0]
                print(json.dumps({"tokens": tokens, "wall_s": wall, "cpu_s": cpu - started[1], "first_s": first}))
                sys.stdout.flush()
                os._exit(0)
            tokens += sum(map(len, encoded))


if __name__ == "__main__":
    main()

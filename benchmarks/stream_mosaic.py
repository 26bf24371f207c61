"""mosaicml-streaming on the data of benchmarks/stream.py: mixture, shuffle, tokenise, pack. Runs in an environment of its own.

    MOSAIC_PYTHON benchmarks/stream_mosaic.py WORK DATASET WEIGHT…

It needs `pip install mosaicml-streaming tokenizers`; works in slices as stream_speed.py does.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stream_slices import serve

BATCH = 256
SEQ_LEN = 1024


def counts(work: Path, name: str, weights: list[float]) -> Iterator[int]:
    """Tokens of each batch, tokenised and packed."""
    from streaming import MDSWriter, Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from tokenizers import Tokenizer

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
    dataset = StreamingDataset(streams=streams, shuffle=True, shuffle_seed=1, batch_size=BATCH)
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
            yield sum(map(len, encoded))


if __name__ == "__main__":
    serve(counts(Path(sys.argv[1]), sys.argv[2], [float(weight) for weight in sys.argv[3:]]))

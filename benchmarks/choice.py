"""Multiple choice beside lm-evaluation-harness: the same model, prompts and questions; how far apart, and how fast.

HEAD-QA dev flows in, a random decoder is made for it; a table flows out: the largest difference of a log-likelihood, the same
answers or not, and seconds of either side (words in, log-likelihoods out; loading not counted).

    python benchmarks/choice.py --data HEAD_QA_FOLDER --harness PYTHON_WITH_LM_EVAL
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distmed.cases.case import Case
from distmed.cases.columns import LETTERS
from distmed.cases.read import read_cases
from distmed.evaluate.choice.likelihood import Likelihoods
from distmed.evaluate.choice.questions import Mode, Questions
from distmed.evaluate.choice.shots import Shots
from distmed.evaluate.choice.tokens import Splitter
from distmed.model.builtin import make_tiny_llama
from distmed.model.diagnoser import Diagnoser
from distmed.model.load import load_tokenizer
from distmed.recipe import Choice, Source

SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2},
    "small": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6},
    "large": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
}
BUDGET = {"cpu": 4096, "cuda": 65536}


@dataclass(frozen=True)
class Compared:
    mode: Mode
    shots: int
    questions: int
    largest_difference: float
    same_answers: int
    harness_accuracy: float
    accuracy: float
    ours_s: float
    harness_s: float
    harness_batch: int
    harness_version: str

    @property
    def times_as_fast(self) -> float:
        return self.harness_s / self.ours_s


def make_model(folder: Path, texts: list[str], shape: str, vocab_size: int) -> None:
    """A decoder with random weights. Its tokenizer adds a beginning, and no end: with one the harness cuts answers off."""
    from tokenizers import processors
    from transformers import AutoConfig, AutoModelForCausalLM

    make_tiny_llama(folder, texts, vocab_size=vocab_size, max_positions=4096)
    tokenizer = load_tokenizer(folder)
    bos = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    config.update({**SHAPES[shape], "num_key_value_heads": SHAPES[shape]["num_attention_heads"], "head_dim": 64})
    config.initializer_range = 0.05
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def ours(folder: Path, cases: list[Case], train: list[Case], mode: Mode, shots: int) -> tuple[list[list[float]], float]:
    """(log-likelihoods, seconds from words to numbers)."""
    from transformers import AutoModelForCausalLM

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = Choice(chat="never", shots=shots)
    tokenizer = load_tokenizer(folder)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    score = Likelihoods(Diagnoser(hf), device, BUDGET[device.type], tokenizer.pad_token_id or 0)
    started = time.perf_counter()
    questions, split = Questions(settings, tokenizer), Splitter(tokenizer, chat=False)
    examples = Shots(train, settings).of(cases)
    asked = [questions.ask(mode, case, shown) for case, shown in zip(cases, examples, strict=True)]
    scores = score(split(asked))
    return scores, time.perf_counter() - started


def harness(python: str, folder: Path, work: Path, runs: list[str], batches: tuple[int, ...]) -> None:
    """Have the harness write its answers into `work`."""
    command = [python, str(Path(__file__).with_name("choice_harness.py")), "--model", str(folder), "--work", str(work)]
    command += ["--threads", str(torch.get_num_threads()), "--runs", *runs, "--batches", *map(str, batches)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])


def compare(
    python: str,
    data: Path,
    work: Path,
    *,
    limit: int | None = None,
    runs: tuple[tuple[Mode, int], ...] = (("text", 0), ("letter", 0), ("letter", 5)),
    batches: tuple[int, ...] = (32,),
    shape: str = "small",
    vocab_size: int = 8000,
) -> list[Compared]:
    """Score HEAD-QA dev by both. Of several batch sizes of the harness the fastest counts."""
    source = {"format": "head_qa", "limit": limit}
    cases = list(read_cases(Source(source=str(data / "dev_HEAD_EN.json"), **source)))
    train = list(read_cases(Source(source=str(data / "train_HEAD_EN.json"), format="head_qa")))
    folder = work / "model"
    make_model(folder, [case.text for case in train], shape, vocab_size)
    _write(work / "items.jsonl", cases)
    for _, shots in runs:
        # Examples do not depend on the case unless train holds a copy of it.
        shown = Shots(train, Choice(shots=shots)).of(cases[:1])[0]
        _write(work / f"examples-{shots}.jsonl", list(shown) or train[:1])
    harness(python, folder, work, [f"{mode}:{shots}" for mode, shots in runs], batches)
    right = [LETTERS.index(str(case.label)) for case in cases]
    compared = []
    for mode, shots in runs:
        scores, seconds = ours(folder, cases, train, mode, shots)
        other = json.loads((work / f"harness-{mode}-{shots}.json").read_text(encoding="utf-8"))
        apart = max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(scores, other["scores"], strict=True))
        picks, picked = ([int(np.argmax(each)) for each in side] for side in (scores, other["scores"]))
        compared.append(
            Compared(
                mode=mode,
                shots=shots,
                questions=len(cases),
                largest_difference=apart,
                same_answers=int(np.equal(picks, picked).sum()),
                harness_accuracy=float(other["metrics"]["acc,none"]),
                accuracy=float(np.equal(picks, right).mean()),
                ours_s=seconds,
                harness_s=other["seconds"],
                harness_batch=other["batch"],
                harness_version=other["version"],
            )
        )
    return compared


def _write(path: Path, cases: list[Case]) -> None:
    lines = [
        {
            "qtext": case.text,
            "options": list(case.options),
            "letters": list(LETTERS[: len(case.options)]),
            "gold": LETTERS.index(str(case.label)),
        }
        for case in cases
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def table(compared: list[Compared]) -> str:
    lines = [
        "| scored by | shots | questions | apart (nats, at most) | same answers | ours | harness (batch) | times as fast |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {c.mode} | {c.shots} | {c.questions} | {c.largest_difference:.1e} | {c.same_answers} | {c.ours_s:.1f} s "
        f"| {c.harness_s:.1f} s ({c.harness_batch}) | {c.times_as_fast:.2f} |"
        for c in compared
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with dev_HEAD_EN.json and train_HEAD_EN.json")
    parser.add_argument("--harness", required=True, help="a python that has lm-eval, torch and transformers")
    parser.add_argument("--limit", type=int, help="take only so many questions")
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="batch sizes of the harness to try")
    arguments = parser.parse_args()

    from dated import Dated

    with tempfile.TemporaryDirectory() as work:
        compared = compare(
            arguments.harness,
            arguments.data,
            Path(work),
            limit=arguments.limit,
            batches=tuple(arguments.batches),
            shape=arguments.shape,
        )
    file = Dated("choice", "Multiple choice beside lm-evaluation-harness")
    file.line(f"{table(compared)}\n")
    shape = SHAPES[arguments.shape]
    budget = BUDGET["cuda" if torch.cuda.is_available() else "cpu"]
    file.line(
        f"""HEAD-QA dev, a Llama of random weights ({shape["num_hidden_layers"]} layers of {shape["hidden_size"]}), float32,
threads: {torch.get_num_threads()}. Prompts are the harness' own (headqa_en, mmlu); solved examples are the same on both sides.
Seconds run from words to log-likelihoods, without loading; ours take batches of {budget} padded tokens, of the harness
(lm-eval {compared[0].harness_version}) the fastest of batch sizes {arguments.batches} counts."""
    )


if __name__ == "__main__":
    main()

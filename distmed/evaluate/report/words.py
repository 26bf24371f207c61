"""Words: what each figure of metrics.json is called, how it is read, and where its definition comes from.

The name of a figure flows in, what a reader needs to know of it flows out. A figure without words is shown by its own name.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """`percent`: shown as a percentage. `unit`: it lies between 0 and 1, so its interval can be drawn there."""

    title: str
    reads: str
    source: str = ""
    percent: bool = False
    unit: bool = True


GUO = "Guo et al. 2017, arXiv:1706.04599"
DDX = "Fansi Tchango et al. 2022, arXiv:2205.09148"
GROUPS: dict[str, tuple[str, ...]] = {
    "Discrimination": (
        "top1",
        "top3",
        "top5",
        "balanced_accuracy",
        "macro_f1",
        "micro_f1",
        "weighted_f1",
        "mcc",
        "auroc_macro",
        "auprc_macro",
        "prevalence_macro",
        "top1_all",
    ),
    "Differential diagnosis": (
        "gtpa",
        "gtpa_at_1",
        "gtpa_at_3",
        "gtpa_at_5",
        "ddr",
        "ddp",
        "ddf1",
        "dsr",
        "severity_recall",
    ),
    "Calibration": ("ece", "ece_mass", "mce", "brier", "nll"),
    "Calibration after temperature scaling": (
        "ece_scaled",
        "ece_mass_scaled",
        "mce_scaled",
        "brier_scaled",
        "nll_scaled",
    ),
    "Abstention": (
        "aurc",
        "accuracy_at_80",
        "coverage_realized_80",
        "accuracy_at_90",
        "coverage_realized_90",
        "coverage_at_5_risk",
        "risk_at_5_risk",
        "conformal_coverage",
        "conformal_size",
    ),
}
WORDS: dict[str, Word] = {
    "top1": Word("Right diagnosis first", "Share of cases whose first answer is right.", percent=True),
    "top3": Word(
        "Right among the first 3", "Share of cases with the right diagnosis among the first three.", percent=True
    ),
    "top5": Word(
        "Right among the first 5", "Share of cases with the right diagnosis among the first five.", percent=True
    ),
    "top1_all": Word(
        "Right first, all labeled cases",
        "As above, over all labeled cases: a diagnosis that the model does not know counts as wrong.",
        percent=True,
    ),
    "balanced_accuracy": Word(
        "Mean sensitivity",
        "Sensitivity averaged over diseases (balanced accuracy): rare ones count as much as common ones.",
    ),
    "macro_f1": Word("Macro F1", "F1 (balance of sensitivity and predictive value) averaged over diseases."),
    "micro_f1": Word("Micro F1", "F1 over all decisions at once; equal to the share of right first answers."),
    "weighted_f1": Word("Weighted F1", "F1 averaged over diseases by how many cases they have."),
    "mcc": Word(
        "Matthews correlation",
        "Agreement beyond chance; 0 is chance, 1 is perfect.",
        "Gorodkin 2004, 10.1016/j.compbiolchem.2004.09.006",
    ),
    "auroc_macro": Word(
        "Macro AUROC",
        "Chance that a patient with a disease scores higher for it than one without, averaged over diseases; 0.5 is chance.",
        "Hanley & McNeil 1982, 10.1148/radiology.143.1.7063747",
    ),
    "auprc_macro": Word(
        "Macro AUPRC",
        "Area under precision against recall (average precision), averaged over diseases; chance is the prevalence.",
    ),
    "prevalence_macro": Word("Mean prevalence", "What macro AUPRC would be by chance."),
    "ece": Word(
        "Calibration error (ECE)",
        "Mean gap between stated confidence and accuracy, 15 bins of equal width; 0 is perfect. Few cases raise it, and its "
        "interval: read the interval as an upper bound.",
        GUO,
    ),
    "ece_mass": Word("ECE, equal-mass bins", "The same with 15 bins of equally many cases."),
    "mce": Word("Largest calibration gap", "The gap in the worst of the 15 bins.", GUO),
    "brier": Word(
        "Brier score",
        "Squared error of all probabilities, summed over diseases: 0 is perfect, 2 the worst.",
        "Brier 1950",
        unit=False,
    ),
    "nll": Word("Negative log-likelihood", "Surprise at the right diagnosis, in nats; lower is better.", unit=False),
    "aurc": Word(
        "Area under risk–coverage",
        "Mean error when the surest cases are answered first; lower is better.",
        "Geifman et al. 2019, arXiv:1805.08206",
    ),
    "accuracy_at_80": Word(
        "Accuracy, answering 80 %",
        "When only the surest are answered, by a threshold from the calibration split.",
        percent=True,
    ),
    "accuracy_at_90": Word("Accuracy, answering 90 %", "The same at 90 % coverage.", percent=True),
    "coverage_realized_80": Word(
        "Answered at the 80 % threshold", "Coverage that this threshold had here.", percent=True
    ),
    "coverage_realized_90": Word(
        "Answered at the 90 % threshold", "Coverage that this threshold had here.", percent=True
    ),
    "coverage_at_5_risk": Word(
        "Answered at 5 % risk",
        "Cases above the confidence that kept errors at 5 % in the calibration split.",
        percent=True,
    ),
    "risk_at_5_risk": Word("Error at that threshold", "How many of those answers were wrong here.", percent=True),
    "conformal_coverage": Word(
        "Conformal sets: right one inside",
        "Share of cases whose set of diagnoses holds the right one; the target is 90 %.",
        "Sadinle et al. 2019, 10.1080/01621459.2017.1395341",
        percent=True,
    ),
    "conformal_size": Word("Conformal sets: mean size", "Diagnoses in a set, on average.", unit=False),
    "gtpa": Word(
        "Right one in the differential", "The true disease has a probability above 0.01 (GTPA).", DDX, percent=True
    ),
    "gtpa_at_1": Word("GTPA@1", "It is in the differential and ranks first.", DDX, percent=True),
    "gtpa_at_3": Word("GTPA@3", "It is in the differential and among the first three.", DDX, percent=True),
    "gtpa_at_5": Word("GTPA@5", "It is in the differential and among the first five.", DDX, percent=True),
    "ddr": Word("Differential recall", "Share of the gold differential that the model lists (DDR).", DDX),
    "ddp": Word("Differential precision", "Share of what the model lists that is in the gold differential (DDP).", DDX),
    "ddf1": Word("Differential F1", "Harmonic mean of the two in each case, averaged (DDF1).", DDX),
    "dsr": Word(
        "Recall of severe diseases", "Share of the severe diseases (grade 1 or 2) that the model lists (DSR).", DDX
    ),
    "severity_recall": Word(
        "Severity-weighted recall", "Differential recall in which a disease weighs 6 minus its grade; 1 is worst."
    ),
    "letter": Word(
        "Letter, by likelihood", "The letter to which the model gives the highest probability.", percent=True
    ),
    "text": Word(
        "Option text, by likelihood", "The option whose text is most probable after the question.", percent=True
    ),
    "text_normalized": Word("Option text, per character", "The same, divided by the option's length.", percent=True),
    "generated": Word(
        "Written answer",
        "What the model writes, read by fixed rules; an answer that cannot be read is wrong.",
        percent=True,
    ),
    "unparsed": Word("Answers that could not be read", "Counted as wrong in the line above.", percent=True),
    "balanced": Word(
        "Letter, averaged over the right answers",
        "Accuracy where each letter or word is right, averaged: a model that always gives the same one has chance.",
        percent=True,
    ),
    "spread": Word(
        "Spread over places", "Accuracy with the right option at the best place minus that at the worst.", percent=True
    ),
    "flip_rate": Word(
        "Answers that change with the order", "Questions answered differently when the options rotate.", percent=True
    ),
    "debiased": Word(
        "Accuracy, mean over all orders",
        "Each question answered by the mean probability over all rotations.",
        percent=True,
    ),
}
CHOICE = ("letter", "text", "text_normalized", "generated", "unparsed")
WAYS = {
    "typos": "Spelling mistakes",
    "case": "All in capitals",
    "shuffled_findings": "Findings in another order",
    "irrelevant_sentence": "An irrelevant sentence added",
    "dropped_finding": "One finding left out",
    "swap_sex": "Sex swapped",
    "swap_age": "Age swapped",
}


SCALED = "_scaled"


def word(name: str) -> Word:
    """The words of a figure; a scaled one has the title of the figure as it is."""
    found = WORDS.get(name.removesuffix(SCALED), Word(name, "", unit=False))
    return found._replace(reads="", source="") if name.endswith(SCALED) else found

"""Multiple choice: how often a language model picks the right option, by likelihood and by what it writes.

Cases of kind `choice` flow in, one row of scores a question flows out (`ChoiceScorer`), and from all rows the figures of the
section `choice` of metrics.json (`choice_section`).
"""

from distmed.evaluate.choice.scorer import COLUMNS, ChoiceScorer
from distmed.evaluate.choice.section import answers, choice_section

__all__ = ["COLUMNS", "ChoiceScorer", "answers", "choice_section"]

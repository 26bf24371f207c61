"""The built-in patients: reproducible, apart, medically coherent, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import time
from collections import Counter

import pytest

from distmed.cases.case import Case
from distmed.cases.conditions import CONDITIONS
from distmed.cases.findings import FINDINGS, ONLY, OPPOSITES
from distmed.cases.read import read_cases
from distmed.cases.synthetic import patients
from distmed.recipe import Source


@pytest.fixture(scope="module")
def train() -> list[Case]:
    return list(patients("train", 4000))


def test_one_seed_gives_one_sequence_of_which_a_smaller_n_is_the_beginning(train: list[Case]) -> None:
    assert list(patients("train", 50)) == train[:50]
    assert list(patients("train", 50, seed=7)) != train[:50]


def test_the_sequence_is_pinned_so_that_a_stopped_run_finds_the_same_patients() -> None:
    text = "\n".join(case.text + str(case.label) for case in patients("train", 200))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "45f778c2fecb9de0"


def test_no_patient_of_train_is_in_eval(train: list[Case]) -> None:
    held_out = list(patients("eval", 600))
    assert not {case.id for case in train} & {case.id for case in held_out}
    assert len({case.text for case in train} & {case.text for case in held_out}) == 0


def test_conditions_are_many_uneven_and_of_all_systems_and_severities(train: list[Case]) -> None:
    counts = Counter(case.label for case in train)
    assert len(counts) == len(CONDITIONS) >= 24
    assert counts.most_common()[0][1] > 4 * counts.most_common()[-1][1] >= 100
    assert len({condition.system for condition in CONDITIONS}) >= 12
    assert {condition.severity for condition in CONDITIONS} == {"routine", "urgent", "emergency"}


def test_every_finding_of_a_condition_is_in_the_table_and_each_condition_has_enough() -> None:
    for condition in CONDITIONS:
        assert set(condition.findings) <= set(FINDINGS), condition.name
        assert 8 <= len(condition.findings) <= 17, condition.name
        assert all(0 < share < 1 for share in condition.findings.values()), condition.name
        assert sum(condition.course) == pytest.approx(1), condition.name
    shared = Counter(name for condition in CONDITIONS for name in condition.findings)
    assert sum(count > 1 for count in shared.values()) > len(shared) / 2


def test_the_name_of_the_condition_is_not_in_the_vignette(train: list[Case]) -> None:
    assert not [case.id for case in train if str(case.label).lower() in case.text.lower()]


def test_what_is_told_and_what_is_denied_never_meet(train: list[Case]) -> None:
    for case in train:
        assert not set(case.findings) & set(case.excluded), case.id
        assert not any(OPPOSITES.get(name) in case.findings for name in case.findings), case.id
        assert all(ONLY.get(name, case.sex) == case.sex for name in (*case.findings, *case.excluded)), case.id


def test_every_finding_told_or_denied_is_in_the_text(train: list[Case]) -> None:
    for case in train[:500]:
        for name in (*case.findings, *case.excluded):
            assert any(phrase in case.text for phrase in FINDINGS[name].phrases), (case.id, name)


def test_age_and_sex_follow_the_condition(train: list[Case]) -> None:
    def of(label: str) -> list[Case]:
        return [case for case in train if case.label == label]

    assert {case.sex for case in of("benign prostatic hyperplasia")} == {"male"}
    assert sum(case.sex == "female" for case in of("cystitis")) > 0.85 * len(of("cystitis"))
    for condition in CONDITIONS:
        ages = [case.age_years or 0 for case in of(condition.name)]
        assert min(ages) >= int(condition.age[0]), condition.name
        assert max(ages) <= condition.age[2], condition.name


def test_findings_are_as_frequent_as_the_table_says_up_to_what_a_note_leaves_out(train: list[Case]) -> None:
    colds = [case for case in train if case.label == "common cold"]
    told = sum("runny nose" in case.findings for case in colds) / len(colds)
    assert 0.6 < told / 0.9 < 0.9


def test_wording_varies(train: list[Case]) -> None:
    assert len({case.text for case in train}) == len(train)
    assert len({case.text.split()[0] for case in train}) > 50
    words = Counter(word for case in train for word in case.text.lower().split())
    assert len(words) < 2500, "a small model has to learn these words"
    assert sum("enies" in case.text or "No " in case.text or "no " in case.text for case in train) > len(train) / 3


def test_making_patients_is_fast() -> None:
    start = time.process_time()
    for _ in patients("train", 2000):
        pass
    assert 2000 / (time.process_time() - start) > 3000


@pytest.mark.slow
def test_a_linear_floor_finds_them_neither_trivial_nor_hopeless(train: list[Case]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    held_out = list(patients("eval", 600))
    words = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=20, class_weight="balanced", max_iter=300)
    model.fit(words.fit_transform(case.text for case in train), [case.label for case in train])
    predicted = model.predict(words.transform(case.text for case in held_out))
    assert 0.78 < f1_score([case.label for case in held_out], predicted, average="macro") < 0.93


def test_a_split_by_groups_parts_the_patients() -> None:
    train, dev = (
        {case.id for case in read_cases(Source(source="builtin:patients/train", groups=groups))}
        for groups in ((0.1, 1.0), (0.0, 0.1))
    )
    assert not train & dev and len(train | dev) == 4000
    assert 300 < len(dev) < 500
    assert len(list(read_cases(Source(source="builtin:patients/train", groups=(0.0, 0.1), limit=50)))) == 50

"""Identifiers go, clinical words stay: measured on synthetic notes with gold spans, and case by case."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.prepare.deidentify import Deidentifier, names_of, with_names
from distmed.prepare.recognizers import BLOCK_CHARS, Analyzer
from tests.prepare.conftest import PrepareDoor, case, note, public
from tests.prepare.gold import Scores
from tests.prepare.notes import write_note

NOTES = 390


@pytest.fixture(scope="module")
def analyzer(deidentifier: Deidentifier) -> Analyzer:
    return deidentifier._analyzer


@pytest.mark.slow
def test_recall_and_false_hits_on_notes_with_gold_spans(analyzer: Analyzer) -> None:
    scores = Scores()
    for seed in range(NOTES):
        gold = write_note(seed)
        spans = analyzer.spans(gold.text)
        scores.add(gold, with_names(gold.text, spans, names_of(gold.text, spans)))
    print(scores.table(), *scores.missed, sep="\n")
    assert set(scores.gold) == {
        "ACCOUNT", "ADDRESS", "AGE", "DATE", "DEVICE", "EMAIL", "FAX", "IP", "LICENSE", "MRN", "NAME", "PHONE", "PLAN",
        "SSN", "URL", "VEHICLE", "ZIP",
    }  # fmt: skip
    assert scores.recall >= 0.98
    for kind, count in scores.gold.items():
        assert scores.recalled[kind] / count >= 0.95, kind
    assert scores.precision >= 0.95
    assert scores.false_tokens < scores.clinical_tokens / 200


@pytest.mark.parametrize(
    "text",
    [
        "Parkinson's disease, Wilson disease, Graves' ophthalmopathy, Crohn's disease and Down syndrome.",
        "May resume diet. This may be viral. May need oxygen; may take 2 tablets.",
        "BP 120/80, HR 92, Na 138, K 4.2, WBC 11.2, SpO2 94% on 2 L, pain 7/10, strength 5/5, GCS 15.",
        "Metoprolol 25 mg BID, insulin 22 units, vancomycin 1,250 mg IV q12h, 1/2 tablet for 3 days.",
        "Since 2015 she has had asthma; surgery in 2019. A 67-year-old woman, 38w2d pregnant.",
        "MR angiography, MS contin 15 mg, Dr. said so, Miss no doses. PT 12.1, INR 2.3.",
        "Foley catheter, Babinski sign, Bell's palsy, Hodgkin lymphoma, McBurney point, Sister Mary Joseph nodule.",
        "Patient: Alert and oriented. Mother: breast cancer. Nurse will call. Plan: BP 120 check.",
        "ICD-10 E11.9, CPT 99214, T2N1M0, L4-L5, C4-C5, HbA1c 7.2%, 1:160, 6 mm nodule, viral load 1,200,000 IU/mL.",
        "Temp 98 F, T 99 F, oxygen saturation 98, ejection fraction 55-60%.",
        "Doctor: Oh, Okay. You have pain? Patient: Yes, Doctor.",
        "He lives in Texas, was born in Nigeria, and travelled to Spain.",
        # ages and temperatures
        "Sats in the low 90s, his pressures in the 90s, HR in her low 90s.",
        "99F HR 88",
        "99F (37.2C), HR 88",
        "99F/37.2C, 98 F/37 C, temp is 99 F",
        "99F 88 120/80",
        "99F oral, pulse 80",
        "return for fever over\n101 F or worsening pain",
        # dates and fractions
        "Strength 5/5 on the right and 4/5 on the left, on a 5/5 scale.",
        "Cocci on 2/2 bottles, in 1/4 and 2/4 bottles, on 3/4 blood\ncultures.",
        "She reported 8/10 pain, then 5/10, and received 1/2 tablet; received 10-12 mg.",
        # states and diseases
        "HTN, MI; history of HTN, MI and CVA; in COPD, MI; from CHF, CT",
        "Hx of Angina, MI and stroke. HISTORY OF ANGINA, MI.",
        "Transferred to ICU, then to Telemetry; moved from PACU to Trauma Bay.",
        "TRANSFERRED TO CVICU, transferred from OSH, transferred to General Medicine",
        # names and headings
        "CC: Shortness Of Breath",
        "CC: FLANK PAIN",
        "CC: Blurry Eyesight\nHPI: since 3 days",
        "Attending: Rectal Bleeding",
        "Evaluated with Cardiac Catheterization, followed with Serial Ultrasounds.",
        "Evaluated by Nuclear Stress Test",
        "MANAGED WITH IV HEPARIN, REVIEWED WITH IV CONTRAST",
        "Duchenne Muscular Dystrophy, DMD, and Becker Muscular Dystrophy, DMD",
    ],
)
def test_clinical_text_stays_as_it_is(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Mr. Graves has Graves disease.", "Mr. [NAME-1] has Graves disease."),
        (
            "Ms. May said she may come in May. May resume diet.",
            "Ms. [NAME-1] said she may come in [DATE-1]. May resume diet.",
        ),
        ("Seen by Dr. Parkinson for Parkinson's disease.", "Seen by Dr. [NAME-1] for Parkinson's disease."),
        ("Name: SMITH, JOHN\nSmith was seen. John agreed.", "Name: [NAME-1]\n[NAME-1] was seen. [NAME-1] agreed."),
        ("Dr. Lee Cardiology saw her.", "Dr. [NAME-1] Cardiology saw her."),
        ("A 92-year-old man, wife aged 67.", "A [AGE-90+]-year-old man, wife aged 67."),
        ("Call (617) 555-0199 or 617.555.0199, fax 617-555-0188.", "Call [PHONE-1] or [PHONE-1], fax [FAX-1]."),
        ("MRN: 00482913, again MRN 00482913 and MRN 5511223.", "MRN: [MRN-1], again MRN [MRN-1] and MRN [MRN-2]."),
        ("Lives at 12 Elm Street, Apt 4B, Springfield, IL 62704.", "Lives at [ADDRESS-1]."),
        ("SSN 123-45-6789; IP 10.2.33.4; see www.example.org.", "SSN [SSN-1]; IP [IP-1]; see [URL-1]."),
        ("In his 90s, or her mid-to-late 90s.", "In his [AGE-90+], or her mid-to-late [AGE-90+]."),
        (
            "They were in their nineties; one died in the 90s.",
            "They were in their [AGE-90+]; one died in the [AGE-90+].",
        ),
        ("HPI: 95F on warfarin", "HPI: [AGE-90+]F on warfarin"),
        ("S:\n97F fell. A 92F with cough.", "S:\n[AGE-90+]F fell. A [AGE-90+]F with cough."),
        ("92F R hip fracture", "[AGE-90+]F R hip fracture"),
        ("92F, O2 dependent", "[AGE-90+]F, O2 dependent"),
        ("92F rectal bleeding for 10 days", "[AGE-90+]F rectal bleeding for 10 days"),
        ("seen on 2/2 and 3/3, discharged 3/4", "seen on [DATE-1] and [DATE-2], discharged [DATE-3]"),
        ("on 10/12 cultures grew; and 10/15 labs", "on [DATE-1] cultures grew; and [DATE-2] labs"),
        ("Collected: 3/4 0800, received 10/12", "Collected: [DATE-1] 0800, received [DATE-2]"),
        ("transferred to Lakewood Nursing Home", "transferred to [ADDRESS-1]"),
        ("FLEW FROM TROY, NY, MOVED TO SAN DIEGO", "FLEW FROM [ADDRESS-1], MOVED TO [ADDRESS-2]"),
        ("a resident of Springfield, IL", "a resident of [ADDRESS-1]"),
        ("CC: Zainab Haddad", "CC: [NAME-1]"),
        ("cc: Zainab Haddad\nHPI: cough", "cc: [NAME-1]\nHPI: cough"),
        ("CC: Zainab Haddad, DMD", "CC: [NAME-1], DMD"),
        ("Seen and examined with Thanh Nguyen", "Seen and examined with [NAME-1]"),
        ("SIGNED BY: BLUM MD, ATTENDING: ROE CARDIOLOGY", "SIGNED BY: [NAME-1] MD, ATTENDING: [NAME-2] CARDIOLOGY"),
        ("Seen by Karen Wall, Attending: Jeff Sessions", "Seen by [NAME-1], Attending: [NAME-2]"),
        ("Reviewed by Thanh Nguyen And Karen Blum", "Reviewed by [NAME-1] And [NAME-2]"),
    ],
)
def test_identifiers_become_typed_surrogates(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("pt John Smith c/o cough, worse since January", "pt [NAME-1] c/o cough, worse since [DATE-1]"),
        ("Lives in Springfield, IL, alone since May", "Lives in [ADDRESS-1], alone since [DATE-1]"),
        ("James Wilson reports chest pain and nausea", "[NAME-1] reports chest pain and nausea"),
        ("Seen by Alice Johnson MD", "Seen by [NAME-1] MD"),
        ("Sincerely, Alice Johnson", "Sincerely, [NAME-1]"),
        ("a ninety-five-year-old woman", "a [AGE-90+]-year-old woman"),
        ("Christmas party, then vomiting", "[DATE-1] party, then vomiting"),
        ("results under portal.example.org", "results under [URL-1]"),
    ],
)
def test_a_short_text_is_read_as_a_long_one(deidentifier: Deidentifier, text: str, left: str) -> None:
    padding = "\nthe lungs are clear, the heart is regular, the abdomen is soft, and no edema is seen on either leg"
    assert public(deidentifier, text) == left
    assert public(deidentifier, text + padding) == left + padding
    after = deidentifier(case("", messages=(("user", text),), options=(text,), findings=(text,), excluded=(text,)))[0]
    assert after.messages == (("user", left),)
    assert after.options == after.findings == after.excluded == (left,)


def test_the_same_person_is_the_same_in_all_texts_of_a_case(deidentifier: Deidentifier) -> None:
    before = case(
        "Mrs. Okonkwo called.",
        messages=(("user", "Mrs. Okonkwo called."), ("assistant", "Tell Ms Okonkwo to rest, and Dr. Wu.")),
        findings=("Okonkwo reports cough for 3 days",),
        options=("Okonkwo is well", "fever"),
    )
    after, found = deidentifier(before)
    assert after.text == "Mrs. [NAME-1] called."
    assert after.messages[1][1] == "Tell Ms [NAME-1] to rest, and Dr. [NAME-2]."
    assert after.options == ("[NAME-1] is well", "fever")
    assert "Okonkwo" not in str(after)
    assert found["NAME"] >= 5


def test_the_texts_of_a_case_are_read_each_as_if_alone(deidentifier: Deidentifier, analyzer: Analyzer) -> None:
    texts = (
        "please call",
        "555-0199 units",
        "seen by Dr.",
        "Smith",
        "MRN",
        "0048291",
        "in March",
        "5 times",
        "age",
        "92",
    )
    assert deidentifier(case("", options=texts))[0].options == (*texts[:6], "in [DATE-1]", *texts[7:])
    blocks = tuple(block for seed in range(39) for block in write_note(seed).text.split("\n\n"))
    assert analyzer.spans_of(blocks) == {block: analyzer.spans(block) for block in blocks}


def test_ages_over_89_are_capped_in_the_column_too(deidentifier: Deidentifier) -> None:
    assert deidentifier(case("x", age_years=97.0))[0].age_years == 90
    assert deidentifier(case("x", age_years=89.0))[0].age_years == 89


def test_two_cases_share_no_surrogates_that_could_link_them(deidentifier: Deidentifier) -> None:
    assert public(deidentifier, "Dr. Wu and Mr. Ng") == public(deidentifier, "Dr. Roe and Mr. Poe")


def test_long_texts_lose_nothing_at_the_seams(deidentifier: Deidentifier) -> None:
    text = "\n".join(f"Day {n}: {note(n, 12)}. Mr. Okonkwo, MRN {n:07}." for n in range(200))
    after = public(deidentifier, text)
    assert "Okonkwo" not in after and after.count("[NAME-1]") == 200 and after.count("[MRN-") == 200


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("seen by Dr. Kowalczyk", "seen by Dr. [NAME-1]"),
        ("seen by Dr. A. K. Patel", "seen by Dr. [NAME-1]"),
        ("seen on Jan. 5, 2020", "seen on [DATE-1]"),
        ("home is 14 St. Andrews Road", "home is [ADDRESS-1]"),
    ],
)
def test_a_seam_after_an_abbreviation_cuts_no_identifier(deidentifier: Deidentifier, text: str, left: str) -> None:
    ends = [at + 2 for at in range(len(text)) if text.startswith(". ", at)]
    assert ends
    for end in ends:
        before = ("cough " * BLOCK_CHARS)[end + 1 - BLOCK_CHARS :]
        after = " and " + "cough " * 100
        assert len(before + text[:end]) == BLOCK_CHARS - 1
        assert public(deidentifier, before + text + after) == before + left + after


def test_ids_and_groups_are_replaced_by_places_that_tell_nothing(
    deidentifier: Deidentifier, prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        {"text": f"{note(n)} MRN 77{n:05}", "label": "D", "mrn": f"77{n // 2:05}", "id": f"visit-9{n:06}"}
        for n in range(6)
    ]
    roles = [word for role in ("text=text", "label=label", "group=mrn", "id=id") for word in ("--columns", role)]
    done = prepare(table(rows), *roles, out=tmp_path / "out")
    cases = done.cases()
    assert [c.id.rpartition(":")[2] for c in cases] == ["1", "2", "3", "4", "5", "6"]
    assert all(re.fullmatch(r"group-[0-9a-f]{16}", c.group) for c in cases)
    assert cases[0].group == cases[1].group != cases[2].group == cases[3].group != cases[4].group == cases[5].group
    assert done.report["identifiers"] == {"MRN": 6}
    everything = b"".join(path.read_bytes() for path in done.folder.rglob("*.json")).decode() + str(cases)
    assert "7700" not in everything and "visit-9" not in everything


def test_groups_of_two_folders_have_a_name_in_common_only_where_they_have_a_row_in_common(
    deidentifier: Deidentifier, prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    """Else `evaluate` takes the first patient of each for one and the same."""

    def groups(name: str, first: int, out: str, *options: str) -> list[str]:
        rows = [{"text": note(n), "label": "D", "patient": f"P{n}", "site": n % 2} for n in range(first, first + 4)]
        roles = [word for role in ("text=text", "label=label", "group=patient") for word in ("--columns", role)]
        return [c.group for c in prepare(table(rows, name), *roles, *options, out=tmp_path / out).cases()]

    train = groups("train.jsonl", 0, "train")
    assert len(set(train)) == 4
    assert train == groups("train.jsonl", 0, "again")
    assert not set(train) & set(groups("dev.jsonl", 4, "dev"))
    assert not set(train) & set(groups("train.jsonl", 4, "other")), "other rows in a file of the same name"
    assert groups("train.jsonl", 0, "odd", "--where", "site=1") == train[1::2]


def test_without_presidio_one_line_says_how_to_install_it(
    prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "presidio_analyzer" else find(name, *a)
    )
    said = prepare.refuse(table([{"text": note(1), "label": "D"}]), out=tmp_path / "out")
    assert (
        "Presidio" in said.message and "pip install 'distmed[privacy]'" in said.hint and "--no-deidentify" in said.hint
    )
    assert not (tmp_path / "out").exists()

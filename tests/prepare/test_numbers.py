"""Phone numbers as they are written in some countries go; counts and the numbers of articles and terms stay."""

from __future__ import annotations

import pytest

from distmed.prepare.deidentify import Deidentifier
from tests.prepare.conftest import public


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Tel.: 089/1234567", "Tel.: [PHONE-1]"),
        ("call 089/1234567", "call [PHONE-1]"),
        ("01 42 68 53 00", "[PHONE-1]"),
        ("07700 900123", "[PHONE-1]"),
        ("Spoke with daughter at 555-1234", "Spoke with daughter at [PHONE-1]"),
        ("Phone: 617-555-\n1234", "Phone: [PHONE-1]"),
    ],
)
def test_a_phone_number_goes_as_a_whole(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "CD4 200-350-4000",
        "Platelets 250000000, viral load 12500000",
        "PMID 12345678, PMID: 12345678, PMC1234567",
        "SNOMED 386661006, SNOMED ID: 386661006, SNOMED CT 386661006",
        "Case: COVID-19",
    ],
)
def test_counts_and_codes_stay(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text

"""The types of identifiers: the HIPAA Safe Harbor list (45 CFR 164.514(b)(2)), as far as patterns can find them.

Plain data for `presidio.py`; names have rules of their own in `names.py`.
"""

from __future__ import annotations

from distmed.prepare.addresses import ADDRESS, ZIP
from distmed.prepare.contacts import EMAIL, FAX, IP, PHONE, URL
from distmed.prepare.dates import AGE, DATE
from distmed.prepare.numbers import ACCOUNT, DEVICE, ID, LICENSE, MRN, PLAN, SSN, VEHICLE
from distmed.prepare.patterns import Patterns

LANGUAGE = "en"

PATTERNS: dict[str, Patterns] = {
    "ACCOUNT": ACCOUNT,
    "ADDRESS": ADDRESS,
    "AGE": AGE,
    "DATE": DATE,
    "DEVICE": DEVICE,
    "EMAIL": EMAIL,
    "FAX": FAX,
    "ID": ID,
    "IP": IP,
    "LICENSE": LICENSE,
    "MRN": MRN,
    "PHONE": PHONE,
    "PLAN": PLAN,
    "SSN": SSN,
    "URL": URL,
    "VEHICLE": VEHICLE,
    "ZIP": ZIP,
}

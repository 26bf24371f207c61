"""Identifiers as people write them in single lines, marked with [[ ]]; written apart from the notes and after the patterns."""

from __future__ import annotations

import re

import pytest

from distmed.prepare.deidentify import Deidentifier

LINES = """
Pt: [[Maria Gonzalez-Ruiz]] MR# [[44-21-90]] Acc# [[88231A]]
[[Maria Gonzalez]] (DOB [[7/4/58]]) called today
Seen by [[Karen Blum]], FNP-BC on [[2/3/2022]]
Mr [[Tan]] was admitted on the [[5th of June 2020]]
c/o Mrs. [[O'Leary]], aged [[91]], lives with her son [[Patrick]].
Contact number: [[555-867-5309]]
Call the clinic at [[867-5309]]
Tel: [[+44 7700 900123]]
Fax: [[1 (800) 555-0100]]
Please fax to [[617.555.0100]]
email: [[jane_doe@hospital.org]]
MRN [[A1234567]]
Medical Record No. [[555-12-9]]
SSN ending in [[6789]]
last 4 of SSN: [[1234]]
Medicare # [[1EG4TE5MK72]]
Medicaid ID [[AB12345C]]
Health plan ID: [[HP-99812-A]]
Policy no. [[POL 44 321 900]]
DEA [[BS1234563]]
NPI: [[1234567893]]
License plate [[7ABC123]]
VIN [[1HGBH41JXMN109186]]
Implant serial no. [[SJM-778812]]
Pacemaker (Medtronic, serial [[PZK482913H]]) interrogated
IP: [[192.168.1.44]]
MAC [[00:1B:44:11:3A:B7]]
IPv6 [[2001:0db8:85a3:0000:0000:8a2e:0370:7334]]
Visit [[https://www.facebook.com/jane.doe.92]]
[[221B Baker Street]], [[London]]
Lives at [[1600 Pennsylvania Ave NW, Washington, DC 20500]]
Home address: [[77 Massachusetts Avenue, Cambridge MA 02139]]
ZIP: [[02139]]
Resident of [[Cambridge, MA]]
He is a [[97]] y/o male
A [[103]]-year-old woman
Born [[12 Jan 1931]], now [[93]] years old
Follow-up Tuesday, [[March 4th]] at noon
admitted [[10/12]] and discharged [[10/15]]
Surgery in [[March 2019]]
colonoscopy [[05/2017]]
Date: [[20230415]]
[[2021-04-05]] 14:33 - RN note
[[Apr 2021]]: MRI
since [[Christmas]]
DOB: [[11-Nov-1944]]
Name: [[Nguyen Van Anh]]
NAME: [[JOHNSON, ROBERT L]] AGE: 54
patient name - [[Zoë Müller]]
First name: [[Ana]] Last name: [[Silva]]
Dr. [[A. K. Patel]] and Dr. [[Sun]] agree
Attending MD: [[Li Wei Zhang]]
PCP: [[Hernandez, Luis]]
Signed, [[Thomas R. Quill]] MD
cc: [[Rebecca Stone]], [[Amir Khan]]
Dictated By: [[MORRIS, DAVID]]
I spoke with her husband, [[Gerald Whitman]], by phone
daughter ([[Lucy]]) present
Mr. [[Down]] does not have Down syndrome.
Ms. [[Graves]] has Graves disease.
Nurse [[Ratched]] gave meds
Certificate number [[C-19922]]
Account: [[0099887766]]
Encounter ID: [[E5567788]]
Case #: [[2021-00344]]
Study ID: [[NCT-0042-117]]
Specimen # [[S21-4456]]
Order number [[778899001]]
Credit card [[4111 1111 1111 1111]]
Patient ID [[00012345]]
pager [[44321]]
ext. [[4432]]
Room phone x[[5521]]
Employer: a school; occupation: welder
"""


def test_what_is_marked_goes_and_the_rest_stays() -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `privacy` is not installed")
    analyzer = Deidentifier()._analyzer
    missed, false = [], []
    lines = LINES.strip().splitlines()
    for line in lines:
        text, marked = "", set()
        for part in re.split(r"(\[\[.*?\]\])", line):
            start, text = len(text), text + part.removeprefix("[[").removesuffix("]]")
            if part.startswith("[["):
                marked |= set(range(start, len(text)))
        letters = {i for i, letter in enumerate(text) if letter.isalnum()}
        covered = {i for span in analyzer.spans(text) for i in range(span.start, span.end)}
        if marked & letters - covered:
            missed.append(line)
        if covered & letters - marked:
            false.append(line)
    assert len(lines) > 70
    assert missed == []
    assert false == []

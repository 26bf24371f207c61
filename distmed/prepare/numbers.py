"""Patterns of numbers that stand for a person, a plan, a license or a thing: plain data for `identifiers.py`."""

from __future__ import annotations

from distmed.prepare.patterns import SPACED, STRICT, VALUE, Patterns, labeled

_NO_CODE = (
    r"(?<!\b(?i:platelets?|plt|wbc|rbc|viral load|vl|copies|counts?|pmid|pubmed|snomed(?:[ -]?ct)?|loinc|rxnorm|rxcui|omim|"
    r"umls|concept|clinvar)(?:[ ](?i:id|code|of|was|is))?[ \t]?[:=#(]?[ \t]?)"
)
"""Counts, and the numbers of articles and of terms."""

SSN = Patterns(
    (
        (r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])", 0.92),
        (r"(?<![\d-])\d{3}[ .]\d{2}[ .]\d{4}(?![\d-])", 0.4),
        (
            r"(?i:\b(?:SSN|S\.S\.N\.?|SS(?=[ \t]*#)|soc(?:ial)?\.?(?: sec(?:urity)?\.?)?)(?:[ \t]*(?:numbers?|"
            r"no\.?|#|is|ends? (?:in|with)|"
            r"ending in|last (?:four|4)(?: digits)?(?: of)?))*[ \t]*[:#=|]*\s*)"
            r"\K(?:\d{3}[ .-]?\d{2}[ .-]?\d{4}|[xX*#]{3}-?[xX*#]{2}-?\d{4}|\d{4})\b",
            0.98,
        ),
        (r"(?<!\w)[xX*]{3}-[xX*]{2}-\d{4}\b", 0.9),
    ),
    ("ssn", "social", "security"),
)
MRN = Patterns(
    (
        (
            labeled(
                r"MRN|M\.R\.N\.?|MR(?=[ \t]*(?:#|no\b|number))|(?:medical|med\.?|health|hospital) rec(?:ord|"
                r"\.)?|EMPI|MPI|URN|"
                r"(?:patient|pt\.?|hospital|hosp\.?|unit|study|subject|participant|research|"
                r"enrollment)(?=[ \t]*(?:id|no|num|#|identifier))|"
                r"(?:record|chart|case|file)(?=[ \t]*(?:id|no\b|no\.|num|#|:))|PID|patient identifier|"
                r"NHS(?= (?:no|number))",
                rf"(?!(?i:COVID|SARS|MERS)-?(?:19|CoV)){SPACED}",
            ),
            0.95,
        ),
    )
)
PLAN = Patterns(
    (
        (
            labeled(
                r"(?:member|subscriber|policy|insurance|beneficiary|medicare|medicaid|HMO|PPO|insured|blue cross|aetna|"
                r"cigna|humana|tricare)(?: (?:member|policy|group|subscriber|plan|beneficiary|claim|card))?"
                r"(?=[ \t]*(?:id|no\b|no\.|num|#|:|=|identifier))",
                SPACED,
            ),
            0.94,
        ),
        (labeled(r"group|(?:health )?plan|payer|payor|coverage", SPACED, STRICT), 0.94),
        (labeled(r"HICN?|MBI|beneficiary id", SPACED), 0.94),
        (
            r"\b[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d\d\b",
            0.9,
        ),
    )
)
ACCOUNT = Patterns(
    (
        (
            labeled(r"acct\.?|account|a/c|CSN|HAR|FIN(?=[ \t]*[:#])|IBAN|guarantor account|billing account", SPACED),
            0.93,
        ),
        (
            labeled(
                r"acc|billing|invoice|encounter|visit|accession|specimen|order|claim|reference|ref\.?|confirmation|"
                r"bank|routing|"
                r"credit card|debit card|card|case|prescription|rx|requisition|authorization|auth|tracking|referral|ID",
                SPACED,
                STRICT,
            ),
            0.85,
        ),
        (
            r"(?<![\w.])(?<!\b(?i:snomed(?:[ -]?ct)?|pubmed|omim|loinc|rxnorm|concept)[ ])ID[ \t]*+[:#=][ \t]*+\K"
            + VALUE,
            0.8,
        ),
    )
)
LICENSE = Patterns(
    (
        (
            labeled(
                r"(?:medical |nursing |state |driver'?s? |driving |professional |"
                r"pharmacy )?licen[cs]e(?! plate)|lic\.?(?=[ \t]*(?:#|no))|DEA|NPI|UPIN|DL(?=[ \t]*[#:])",
                SPACED,
            ),
            0.93,
        ),
        (labeled(r"certificate|certification|registration|passport|permit|cert\.?", SPACED, STRICT), 0.9),
    )
)
VEHICLE = Patterns(
    (
        (labeled(r"VIN|vehicle identification(?: number)?|vehicle id", r"[A-HJ-NPR-Z0-9]{11,17}\b"), 0.97),
        (
            labeled(
                r"(?:licen[cs]e|number|registration|vehicle|car)[ -]plates?|vehicle tag|plate(?=[ \t]*(?:#|no|"
                r"num|:))|vehicle registration",
                r"(?=[A-Z -]{0,6}\d)[A-Z0-9]{1,4}[ -]?[A-Z0-9]{2,5}\b",
            ),
            0.96,
        ),
        (r"\b(?=[A-HJ-NPR-Z]*\d)(?=\d*[A-HJ-NPR-Z])[A-HJ-NPR-Z0-9]{17}\b", 0.6),
    )
)
DEVICE = Patterns(
    (
        (
            labeled(
                r"(?:(?:device|pacemaker|ICD|generator|lead|implant|pump|unit|prosthesis|valve|stent|monitor|"
                r"CPAP|model) )?serial|"
                r"S/N|SN(?=[ \t]*[:#])|ser\.?(?= ?(?:no|#))|UDI|IMEI|(?:device|implant|pump|pacemaker|ICD|"
                r"generator|lead)(?=[ \t]*(?:id\b|#|identifier|no\b|no\.))",
                r"(?:\(\d\d\)[\w()-]{8,}|" + SPACED + ")",
            ),
            0.95,
        ),
        (r"\(01\)\d{14}(?:\(\d\d\)[A-Za-z0-9-]+)*", 0.95),
    )
)

ID = Patterns(
    (
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", 0.9),
        (rf"(?<![\w.,/+-]){_NO_CODE}\d{{8,}}(?![\w.,/%-]|[ \t]*(?:copies|IU|cells|CFU|units|/))", 0.55),
        (r"(?<![\w/-])(?!PMC|NCT)[A-Z]{1,3}-?\d{6,}(?![\w/-])", 0.55),
    )
)

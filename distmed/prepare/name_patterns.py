"""How names of persons are written, and what gives them away: a title, a label, a credential, a kinship, "is a 45-year-old".

Plain data for `names.py`. `\\K` starts a match: what stands before it stays in the text.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distmed.prepare.name_words import GIVEN

_CAP = (
    r"(?:(?:O['’]|D['’]|Mc|Mac|Al-|El-)?\p{Lu}\p{Ll}+(?:[-'’]\p{L}\p{Ll}+){1,4}+|(?:O['’]|D['’]|Mc|Mac|Al-|"
    r"El-)\p{Lu}\p{Ll}+|"
    r"\p{Lu}\p{Ll}+\p{Lu}\p{Ll}+|\p{Lu}\p{Ll}+)(?!\p{L})"
)
_LOUD = r"(?:(?:O['’]|D['’]|Mc|Mac)?\p{Lu}{2,}(?:[-'’]\p{Lu}{2,}){0,4})(?!\p{L})"
_INITIAL = r"\p{Lu}\b\.?"
PARTICLE = r"(?:(?:van|von|de|del|della|der|den|di|da|la|le|bin|ibn|al|dos|du|ter|St\.?)[ ])"
_SUFFIX = r"(?:,?[ ](?:Jr|Sr|II|III|IV)\b\.?)?"
_INITIALS = rf"(?:{_INITIAL}[ ]?){{0,4}}"
_MORE = rf"(?:[ ]{_INITIALS}{PARTICLE}{{0,2}}{_CAP})"
_FULL = rf"{_INITIALS}{PARTICLE}{{0,2}}{_CAP}{_MORE}{{0,3}}{_SUFFIX}"
_TWO = rf"{_INITIALS}{_CAP}{_MORE}{{1,3}}{_SUFFIX}"
_REVERSED = rf"{PARTICLE}{{0,2}}{_CAP}(?:[ ]{_CAP})?,[ ]?{_CAP}(?:[ ](?:{_CAP}|{_INITIAL}))?"
_LOUD_FULL = rf"{_LOUD}(?:,?[ ](?:{_LOUD}|{_INITIAL})){{0,3}}"
_LOUD_TWO = rf"(?!(?:I{{1,3}}|IV|IM|PO)\b){_LOUD}(?:,?[ ](?:{_LOUD}|{_INITIAL})){{1,3}}"
_INITIALED = rf"(?:{_INITIAL}[ ]?){{1,4}}{_CAP}"

_TITLE = (
    r"(?:Mr|Mrs|Ms|Mx|Dr|Drs|Prof|Professor|Doctor|Miss|Mister|Madam|Rev|Reverend|Father|Sgt|Capt|Lt|Sir|"
    r"Señora?|Sra?|Herr|Frau|Mme|Mlle|Monsieur|Hon)"
)
_TITLE_OF_CAPITALS = r"(?:Mr|Mrs|Ms|Mx|Drs?|Prof|Señora?|Herr|Frau|Mme|Mlle|Monsieur)"
"""Those that are no "Lt" (left) nor "Miss" before an abbreviation."""
TITLE_BEFORE_NAME = r"(?:Mr|Mrs|Ms|Mx|Drs?|Prof)"
"""Titles behind which nothing but a name can follow."""
_CREDENTIAL = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.N\.|RN|BSN|MSN|LPN|LVN|NP|NP-C|N\.P\.|FNP|FNP-C|FNP-BC|APRN|ARNP|CRNP|CNP|CRNA|"
    r"DNP|CNM|PA-C|P\.A\.|"
    r"Ph\.?D\.?|Psy\.?D\.?|Pharm\.?D\.?|RPh|DDS|DMD|DPM|DPT|MBBS|MBChB|MPH|FACP|FACS|FACC|FRCP|LCSW|LMSW|MSW|"
    r"OTR/L|CCC-SLP|RDN|RRT|CMA)"
)
_SEPARATOR = r"[ \t]*+(?:[:=|]|(?<=\t|[ ]{2})|(?<=[ ])-(?=[ ]))[ \t]*+(?:\n[ \t]*+)?"
NAME_FIELD = (
    r"(?<!\b(?:drug|medication|medicine|brand|generic|test|procedure|trade|study|product|device|file|facility|"
    r"hospital|clinic|pharmacy|"
    r"company|plan|employer|insurance|school|organi[sz]ation|event|disease|gene|protocol|group|agency|unit|"
    r"department)[ ])"
    r"(?:(?:last|first|middle|given|family|maiden|full|legal|preferred|sur)[ ]?names?|names?)"
)
_CC = (
    r"(?-i:[Cc]c|CC(?![^\0]{0,400}?\b(?i:HPI|PMH|ROS|history|medications|allerg(?:y|ies)|vitals?|exam(?:ination)?|BP|assessment|"
    r"y/?o|years?[ -]old)\b))"
)
"""A copy goes to a person; "CC:" before a history or an examination is the chief complaint."""
_ROLE = (
    r"(?:attending|(?:primary care |referring |ordering |consulting |attending |admitting |treating |"
    r"responsible |requesting |"
    r"rendering )?(?:physician|provider|clinician|md)|(?:primary care|referring|ordering|consulting|attending|"
    r"admitting) doctor|"
    r"pcp|consultant|(?:assistant |co-?)?surgeon|assistant|anesthesiologist|radiologist|pathologist|"
    r"cardiologist|oncologist|"
    r"neurologist|resident|fellow|intern|nurse practitioner|case manager|social worker|therapist|technician|"
    r"technologist|"
    r"pharmacist|author|scribe|interpreter|witness|guardian|next of kin|nok|emergency contact|contact(?: person)?|"
    rf"(?:health ?care )?proxy|hcp|poa|power of attorney|guarantor|subscriber|insured|policy ?holder|employee|{_CC}|"
    r"attn|attention|"
    r"re|from|to|sender|recipient|informant|historian|operator|examiner|reader|supervisor|midwife|coordinator|"
    r"caregiver)"
    r"(?:[ ]\([^)\n]{1,30}\))?"
)
_SPEAKER = (
    r"(?:patient|pt|client|doctor|nurse|rn|mother|father|spouse|husband|wife|son|daughter|brother|sister|"
    r"partner|parents?)"
)
"""Labels that also stand before what someone says in a transcript."""
_NO_SPEECH = (
    r"(?=[ \t]*(?:$|\n|[|;(\t]|[ ]{2}|\d|,?[ ]+(?:\d|M\.?D\b|RN\b|DOB|MRN|[Aa]ge)|[A-Z][A-Za-z .#]{1,20}[:#]|"
    r"(?:is|was|has|presents|presented|reports|who)\b))"
)
_BY = (
    r"(?:(?:dictated|transcribed|signed|e-?signed|authenticated|verified|reviewed|read|interpreted|ordered|"
    r"performed|seen|evaluated|examined|"
    r"referred|prepared|reported|completed|entered|approved|written|assessed|attested|cosigned|co-signed|"
    r"requested|accompanied|followed|"
    r"managed|administered|notified|discussed|spoke|spoken|consulted|documented|recorded|witnessed|taken|"
    r"provided|called)"
    r"(?:[ ](?:and[ ]\w+[ ])?(?:electronically[ ])?by)|"
    r"(?:discussed|reviewed|spoke|spoken|consulted|verified|seen)(?:[ ]and[ ]\w+)?[ ]with|"
    r"(?:signed|read|reported|referred|provided|called|spoke|spoken)(?:[ ]and[ ]\w+)?[ ]to)"
    r"(?:[ ]+(?:her|his|the)[ ][a-z]+,?)?[ ]*:?[ ]*"
)
"""Tests and treatments are what one is evaluated, managed and followed with: not a person."""
_KIN = (
    r"(?:wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|aunt|uncle|niece|nephew|"
    r"cousin|friend|neighbou?r|"
    r"grand(?:mother|father|son|daughter|child)|girlfriend|boyfriend|fianc[eé]e?|guardian|roommate|"
    r"step(?:son|daughter|mother|father))"
)
_HELPER = (
    r"(?:caregiver|nurse|aide|social worker|case manager|therapist|surgeon|oncologist|cardiologist|colleague|baby|"
    r"twins?|infant)"
)
_LINK = r"(?:,[ ]?(?:named[ ])?|[ ]+(?:is[ ]+|named[ ]+|\()?)"
_AFTER_KIN = r"(?=[ ]*(?:[,.;:)]|$|\n|[a-z]))"
_DOES = (
    r"(?=\s(?:at[ ]bedside|present|visiting|updated|notified|here|in[ ]room|reports|states|says|called|brought|agrees|"
    r"declines)\b)"
)
_HIS_KIN = rf"(?:his|her|their|my|your|our|the[ ]patient['’]s|pt['’]?s)[ ](?:[a-z]+[ ])?{_KIN}"
"""Whose kin it is says prose only: a family history goes on with a disease, as "Mother Lupus, dad Gout"."""
_IS_AN_AGE = (
    r"(?=,?[ ]+(?:is|was)[ ]+(?:an?|the)[ ]+(?:[a-z]+,?[ ]+){0,3}(?:\d|ninety|eighty|seventy|sixty|fifty|forty|"
    r"thirty|twenty)"
    r"|,?[ ]+\(?an?[ ]+\d{1,3}[- ](?:year|yo|y/o|month|week|day)|,[ ]+(?:age[d]?[ ]+)?\d{1,3}(?:,|[ ]?(?:yo|y/o|"
    r"year|[MF]\b|male|female)))"
)

_DOCTOR = (
    r"(?:(?:primary care |referring |ordering |consulting |attending |admitting |treating |responsible )?"
    r"(?:physician|provider|surgeon)|pcp|attending|anesthesiologist|radiologist|pathologist|cardiologist|oncologist|"
    r"neurologist|resident|scribe|author)"
)
_SIGNED = (
    r"(?:dictated|transcribed|e-?signed|signed|authenticated|cosigned|co-signed|attested)(?:[ ]electronically)?[ ]by"
)
_LICENSED = r"(?:M\.?D\.?|D\.O\.|RN|R\.N\.|NP|N\.P\.|FNP|PA-C|APRN|CRNP|LPN|PharmD|Ph\.?D\.?|MBBS)"
_AWARE = r"(?![ ]+(?:aware|notified|informed|made|called|paged|present|at|to|in|will|and)\b)"
"""What a doctor is after a finding: "Hypotension, MD aware"."""
_ACTS = (
    r"(?:was[ ](?:seen|admitted|discharged|found|brought|referred|born|told|examined)|is[ ]an?|has[ ]been|will|"
    r"(?i:presents?|presented|denie[sd]|report(?:s|ed)|state[sd]|complain(?:s|ed)|came|return(?:s|ed)|lives|agree[sd]))\b"
)
_REGURGITATION = r"(?<!\b(?:mild|moderate|severe|trace|trivial|no|significant|mod|chronic|acute)[ ]+)"
_NO_DISEASE = (
    r"(?!(?:COPD|CAD|GERD|NASH|OSA|ESRD|AIDS|AFIB|AKI|UTI|ADHD|TIA|AML|ALL|ALS|SLE|IDDM|NIDDM|ICH|SAH|PE|AAA|AVM|ASD)\b)"
    r"(?=\p{Lu}*[AEIOUY])(?=\p{Lu}{3})"
)


class Finder(NamedTuple):
    """A pattern with its score, and what is asked of its span.

    `sure`: a name whatever follows. `likely`: unless an eponym of medicine. `name`: unless an eponym of any kind. `two`:
    of two words, none of them of a phrase, though a heading may take the second, as in "Attending: Roe Cardiology". `kin`:
    two, or a given name. `one`: a word that is neither of a phrase nor what fills a field for none.
    """

    pattern: str
    score: float
    asked: Literal["sure", "likely", "name", "two", "kin", "one"]


FINDERS = (
    Finder(
        rf"\b(?:{_TITLE}\b\.?[ ]+|{TITLE_BEFORE_NAME}\.)(?:and[ ]{_TITLE}\.?[ ]+)?\K(?:{_FULL}|{_INITIALED})",
        0.95,
        "sure",
    ),
    Finder(rf"\b{_TITLE_OF_CAPITALS}\b\.?[ ]+\K(?:{_INITIAL}[ ]?){{0,2}}{_LOUD}(?:[ ]{_LOUD})?", 0.9, "sure"),
    Finder(rf"\b(?:MR|MRS|MS|MX|DR|DRS|PROF)\.[ ]*\K{_LOUD_FULL}", 0.9, "sure"),
    Finder(rf"\b(?:MRS|DR)[ ]+\K{_LOUD_FULL}", 0.85, "sure"),
    Finder(rf"\b(?:MR|MS)[ ]+\K{_LOUD}(?:[ ]{_LOUD})?(?=[ ]+{_ACTS})", 0.85, "one"),
    Finder(
        rf"\b(?:{_REGURGITATION}mr|mrs|dr)\.[ ]\K(?:(?i:{GIVEN})[ ])?\p{{Ll}}{{3,}}(?:-\p{{Ll}}{{2,}})?(?![\w'’])",
        0.8,
        "one",
    ),
    Finder(
        rf"(?i:\b{NAME_FIELD}[\"']?)(?:{_SEPARATOR}|[ ]+(?:is|was)[ ]+)[\"']?\K(?:{_REVERSED}|{_FULL}|{_LOUD_FULL})",
        0.95,
        "likely",
    ),
    Finder(
        rf"(?i:(?<=^|[\n|;,.\t]|[ ]{{2}})[ ]{{0,8}}(?:\w{{1,20}}[ ])?{NAME_FIELD})[ ]{{0,8}}[:=|][ ]*+"
        rf"\K\p{{Ll}}{{2,}}(?:[ ,]+\p{{Ll}}+){{0,2}}(?=[ ]*(?:[\n|;]|$))",
        0.9,
        "likely",
    ),
    Finder(
        rf"(?i:\b(?:my name is|name'?s|named|known as|goes by|aka|a\.k\.a\.|nicknamed|née|nee)[ ]+[\"“']?)\K{_FULL}",
        0.85,
        "name",
    ),
    Finder(rf"\b(?i:{_KIN}){_LINK}\K(?:{_TWO}|(?:{GIVEN})\b){_AFTER_KIN}", 0.8, "kin"),
    Finder(rf"\b(?i:{_HIS_KIN}){_LINK}\K{_FULL}{_AFTER_KIN}", 0.8, "name"),
    Finder(rf"\b(?i:{_KIN})[ ]\K{_CAP}{_DOES}", 0.8, "name"),
    Finder(rf"\b(?i:{_HELPER}){_LINK}\K{_FULL}{_AFTER_KIN}", 0.8, "name"),
    Finder(rf"\b(?i:{_KIN})(?:,[ ]?|[ ]+\()\K{_FULL}{_AFTER_KIN}", 0.65, "name"),
    Finder(
        r"(?i:\b(?:dear|sincerely|regards|respectfully|thank you|yours truly|cordially),?)"
        rf"[ ]{{0,8}}\n{{0,8}}[ ]{{0,8}}(?:{_TITLE}\.?[ ]+)?\K{_FULL}",
        0.85,
        "name",
    ),
    Finder(rf"(?:\A|(?<=[\n.:][ ]*))(?!{_TITLE}\b)(?:{_FULL}|{_LOUD_FULL}){_IS_AN_AGE}", 0.85, "name"),
    Finder(rf"\b(?:{GIVEN})[ ](?:{_INITIAL}[ ]|{_CAP}[ ])?{PARTICLE}{{0,2}}{_CAP}{_SUFFIX}", 0.7, "likely"),
    Finder(rf"\b{_CAP}(?:-{_CAP})?,[ ](?:{GIVEN})(?:[ ]{_INITIAL})?(?![\w-])", 0.7, "name"),
    Finder(
        rf"(?i:(?<!\w){_ROLE}){_SEPARATOR}(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}|{_TWO}|{_INITIALED}|{_LOUD_TWO})",
        0.85,
        "two",
    ),
    Finder(
        rf"(?i:(?<!\w){_SPEAKER}){_SEPARATOR}(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}|{_TWO}|{_INITIALED}|{_LOUD_TWO}){_NO_SPEECH}",
        0.85,
        "two",
    ),
    Finder(
        rf"(?i:\b{_BY})(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}(?=,?[ ]{_CREDENTIAL})|{_TWO}|{_INITIALED}|{_LOUD_TWO})",
        0.85,
        "two",
    ),
    Finder(
        rf"(?:{_REVERSED}|{_TWO}|{_INITIALED}|{_LOUD_TWO})"
        rf"(?=,?[ ]+{_CREDENTIAL}(?![\w-])|,?[ ]\(?(?:DOB|D\.O\.B|MRN|[Dd]ate of birth)\b)",
        0.85,
        "two",
    ),
    Finder(
        rf"^[ \t]*+\K{_NO_DISEASE}{_LOUD},[ ]?{_NO_DISEASE}{_LOUD}(?:[ ]{_INITIAL})?"
        rf"(?=[ ,]+\d{{1,3}}[ ]?(?:[Yy]/?[Oo]?)?[ ,/]*[MF]\b)",
        0.85,
        "two",
    ),
    Finder(rf"\b(?:patient|[Pp]t|client|veteran),?[ ]+\K{_TWO}", 0.75, "two"),
    Finder(
        rf"\b(?:Patient|PATIENT|Client|Veteran)[ ]+\K{_TWO}"
        r"(?=[ ]*(?:\(|$|(?:is|was|has|presents|presented|reports|denies|who|MRN|DOB)\b))",
        0.75,
        "two",
    ),
    Finder(rf"\b(?!{_TITLE}\b){_TWO}{_IS_AN_AGE}", 0.8, "two"),
    Finder(
        rf"(?i:(?<!\w){_DOCTOR})[ \t]*+[:=|][ \t]*+(?:{_TITLE}\.?[ ]+)?\K(?:{_CAP}|\p{{Lu}}{{4,}})(?=[ ]*(?:[\n;,.|)]|$))",
        0.8,
        "one",
    ),
    Finder(rf"(?i:\b{_SIGNED}[ ]*:?[ ]+)\K{_CAP}(?=[ ]*(?:[\n;,.|)]|$|(?:on|at)\b|\d))", 0.8, "one"),
    Finder(rf"(?<!\p{{L}}[ ,-])\b{_CAP}(?=,[ ]{_LICENSED}(?![\w-]){_AWARE})", 0.8, "one"),
    Finder(rf"(?i:\bbaby[ ]?(?:boy|girl)[ ]+(?:[AB][ ])?)\K(?:{_CAP}|\p{{Lu}}{{3,}})", 0.8, "one"),
)
LISTED = (rf"\b(?:Drs|Doctors|Profs)\b\.?[ ]+\K{_FULL}(?:(?:,?[ ](?:and|&)|,)[ ]{_FULL}){{1,8}}", _FULL)
"""A list of names behind one title, and what each of them is."""

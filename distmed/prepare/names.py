"""Names of persons, by what stands around them: a title, a label, a credential, a kinship, "is a 45-year-old".

Text flows in, spans flow out. Without a model a bare name in running prose cannot be known; but once a name is found
in a case, `deidentify.py` looks for it in the whole case.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from distmed.prepare.name_words import EPONYM_NOUNS, GIVEN, NOT_NAMES, PHRASE_WORDS

_CAP = (
    r"(?:(?:O['’]|D['’]|Mc|Mac|Al-|El-)?\p{Lu}\p{Ll}+(?:[-'’]\p{L}\p{Ll}+)+|(?:O['’]|D['’]|Mc|Mac|Al-|"
    r"El-)\p{Lu}\p{Ll}+|"
    r"\p{Lu}\p{Ll}+\p{Lu}\p{Ll}+|\p{Lu}\p{Ll}+)(?!\p{L})"
)
_LOUD = r"(?:(?:O['’]|D['’])?\p{Lu}{2,}(?:[-'’]\p{Lu}{2,})*)"
_INITIAL = r"\p{Lu}\b\.?"
PARTICLE = r"(?:(?:van|von|de|del|della|der|den|di|da|la|le|bin|ibn|al|dos|du|ter|St\.?)[ ])"
_SUFFIX = r"(?:,?[ ](?:Jr|Sr|II|III|IV)\b\.?)?"
_FULL = rf"(?:{_INITIAL}[ ]?)*{PARTICLE}{{0,2}}{_CAP}(?:[ ](?:{_INITIAL}[ ]?)*{PARTICLE}{{0,2}}{_CAP}){{0,3}}{_SUFFIX}"
_TWO = rf"(?:{_INITIAL}[ ]?)*{_CAP}(?:[ ](?:{_INITIAL}[ ]?)*{PARTICLE}{{0,2}}{_CAP}){{1,3}}{_SUFFIX}"
_REVERSED = rf"{PARTICLE}{{0,2}}{_CAP}(?:[ ]{_CAP})?,[ ]?{_CAP}(?:[ ](?:{_CAP}|{_INITIAL}))?"
_LOUD_FULL = rf"{_LOUD}(?:,?[ ](?:{_LOUD}|{_INITIAL})){{0,3}}"
_LOUD_TWO = rf"(?!(?:I{{1,3}}|IV|IM|PO)\b){_LOUD}(?:,?[ ](?:{_LOUD}|{_INITIAL})){{1,3}}"
_INITIALED = rf"(?:{_INITIAL}[ ]?)+{_CAP}"

_TITLE = (
    r"(?:Mr|Mrs|Ms|Mx|Dr|Drs|Prof|Professor|Doctor|Miss|Mister|Madam|Rev|Reverend|Father|Sgt|Capt|Lt|Sir|"
    r"Señora?|Sra?|Herr|Frau|Hon)"
)
TITLE_BEFORE_NAME = r"(?:Mr|Mrs|Ms|Mx|Drs?|Prof)"
"""Titles behind which nothing but a name can follow."""
_CREDENTIAL = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.N\.|RN|BSN|MSN|LPN|LVN|NP|NP-C|N\.P\.|FNP|FNP-C|FNP-BC|APRN|ARNP|CRNP|CNP|CRNA|"
    r"DNP|CNM|PA-C|P\.A\.|"
    r"Ph\.?D\.?|Psy\.?D\.?|Pharm\.?D\.?|RPh|DDS|DMD|DPM|DPT|MBBS|MBChB|MPH|FACP|FACS|FACC|FRCP|LCSW|LMSW|MSW|"
    r"OTR/L|CCC-SLP|RDN|RRT|CMA)"
)
_SEPARATOR = r"[ \t]*(?:[:=|]|\t|[ ]{2,}|[ ]-[ ])[ \t]*\n?[ \t]*"
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
    r"grand(?:mother|father|son|daughter|child)|girlfriend|boyfriend|fianc[eé]e?|caregiver|guardian|roommate|"
    r"step(?:son|daughter|mother|father)|"
    r"nurse|aide|social worker|case manager|therapist|surgeon|oncologist|cardiologist|colleague|baby|twins?|infant)"
)
_IS_AN_AGE = (
    r"(?=,?[ ]+(?:is|was)[ ]+(?:an?|the)[ ]+(?:[a-z]+,?[ ]+){0,3}(?:\d|ninety|eighty|seventy|sixty|fifty|forty|"
    r"thirty|twenty)"
    r"|,?[ ]+\(?an?[ ]+\d{1,3}[- ](?:year|yo|y/o|month|week|day)|,[ ]+(?:age[d]?[ ]+)?\d{1,3}(?:,|[ ]?(?:yo|y/o|"
    r"year|[MF]\b|male|female)))"
)

_FINDERS: tuple[tuple[str, float], ...] = (
    (
        rf"\b(?:{_TITLE}\b\.?[ ]+|{TITLE_BEFORE_NAME}\.)(?:and[ ]{_TITLE}\.?[ ]+)?\K(?:{_FULL}|{_INITIALED})",
        0.95,
    ),
    (rf"\b(?:MR|MRS|MS|MX|DR|DRS|PROF)\.[ ]*\K{_LOUD_FULL}", 0.9),
    (rf"\b(?:MRS|DR)[ ]+\K{_LOUD_FULL}", 0.85),
    (
        rf"(?i:\b{NAME_FIELD}[\"']?)(?:{_SEPARATOR}|[ ]+(?:is|was)[ ]+)[\"']?\K(?:{_REVERSED}|{_FULL}|{_LOUD_FULL})",
        0.95,
    ),
    (
        rf"(?i:(?<=^|[\n|;,.\t]|"
        rf"[ ]{{2}})[ ]*(?:\w+[ ])?{NAME_FIELD})[ ]*[:=|][ ]*\K\p{{Ll}}{{2,}}(?:[ ,]+\p{{Ll}}+){{0,2}}(?=[ ]*"
        rf"(?:[\n|;]|$))",
        0.9,
    ),
    (
        rf"(?i:\b(?:my name is|name'?s|named|known as|goes by|aka|a\.k\.a\.|nicknamed|née|"
        rf"nee)[ ]+[\"“']?)\K{_FULL}",
        0.85,
    ),
    (rf"\b(?i:{_KIN})(?:,[ ]?(?:named[ ])?|[ ]+(?:is[ ]+|named[ ]+|\()?)\K{_FULL}(?=[ ]*(?:[,.;:)]|$|\n|[a-z]))", 0.8),
    (
        rf"(?i:\b(?:dear|sincerely|regards|respectfully|thank you|yours truly|"
        rf"cordially),?)[ ]*\n*[ ]*(?:{_TITLE}\.?[ ]+)?\K{_FULL}",
        0.85,
    ),
    (rf"(?:\A|(?<=[\n.:][ ]*))(?!{_TITLE}\b)(?:{_FULL}|{_LOUD_FULL}){_IS_AN_AGE}", 0.85),
    (rf"\b(?:{GIVEN})[ ](?:{_INITIAL}[ ]|{_CAP}[ ])?{PARTICLE}{{0,2}}{_CAP}{_SUFFIX}", 0.7),
    (rf"\b{_CAP}(?:-{_CAP})?,[ ](?:{GIVEN})(?:[ ]{_INITIAL})?(?![\w-])", 0.7),
)
_FINDERS_OF_TWO: tuple[tuple[str, float], ...] = (
    (
        rf"(?i:(?<!\w){_ROLE}){_SEPARATOR}(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}|{_TWO}|{_INITIALED}|{_LOUD_TWO})",
        0.85,
    ),
    (
        rf"(?i:(?<!\w){_SPEAKER}){_SEPARATOR}(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}|{_TWO}|{_INITIALED}|"
        rf"{_LOUD_TWO}){_NO_SPEECH}",
        0.85,
    ),
    (rf"(?i:\b{_BY})(?:{_TITLE}\.?[ ]+)?\K(?:{_REVERSED}(?=,?[ ]{_CREDENTIAL})|{_TWO}|{_INITIALED}|{_LOUD_TWO})", 0.85),
    (rf"(?:{_REVERSED}|{_TWO}|{_INITIALED}|{_LOUD_TWO})(?=,?[ ]+{_CREDENTIAL}(?![\w-]))", 0.85),
    (rf"\b(?:patient|[Pp]t|client|veteran),?[ ]+\K{_TWO}", 0.75),
    (
        rf"\b(?:Patient|PATIENT|Client|Veteran)[ ]+\K{_TWO}"
        r"(?=[ ]*(?:\(|$|(?:is|was|has|presents|presented|reports|denies|who|MRN|DOB)\b))",
        0.75,
    ),
    (rf"\b(?!{_TITLE}\b){_TWO}{_IS_AN_AGE}", 0.8),
)
"""These want two words of a name: one that is left of a phrase, as of "Flank Pain", is none."""
_COMPILED = tuple(
    (regex.compile(pattern, regex.MULTILINE), score, of_two)
    for of_two, finders in ((False, _FINDERS), (True, _FINDERS_OF_TWO))
    for pattern, score in finders
)
_CLINICAL_ENDING = regex.compile(
    r"(?i)\p{L}{2}(?:\p{L}{2}[ts]ions?|osis|pathy|ectomy|[ao]scopy|graphy|[ot]tomy|[ot]stomy|plasty|lysis|trophy|plegia|algia|"
    r"rrhea|rrhage|phagia|pnea|penia|megaly|cardia|therapy|graphs?)$"
)
_MODAL = regex.compile(
    r"May\s+(?:be|have|not|need|also|take|resume|continue|return|use|require|benefit|eat|shower|drive|start|stop)\b"
)
_TOKEN = regex.compile(r"[\p{L}.'’-]+")
_GAP = r"(?:[^\S\n]|-|\n(?=\p{Ll}))"
_EPONYM = regex.compile(rf"(?:['’]s|s['’]|['’])?{_GAP}+(?:\p{{L}}+{_GAP}){{0,2}}?(?i:{EPONYM_NOUNS})\b")


def find_names(text: str) -> Iterator[tuple[int, int, float]]:
    """Start, end and score of each span that looks like a person's name; spans may overlap."""
    for number, (pattern, score, of_two) in enumerate(_COMPILED):
        at = 0
        while match := pattern.search(text, at, timeout=60):
            span = _trimmed(text, match.start(), match.end(), of_two)
            at = span[1] if span else match.end()
            if span is None or (number > 1 and followed_by_eponym_noun(text, span[1])):
                continue
            yield (*span, score)


def followed_by_eponym_noun(text: str, end: int) -> bool:
    """Whether "disease", "syndrome", "sign", … follows: then the name is a discoverer's."""
    return _EPONYM.match(text, end) is not None


def tokens_of(name: str) -> list[str]:
    """The words of a name, without initials, particles and suffixes."""
    words = [match[0].strip(".'’") for match in _TOKEN.finditer(name)]
    return [
        word for word in words if len(word) > 2 and word.lower() not in NOT_NAMES and word not in {"III", "Jr", "Sr"}
    ]


def _trimmed(text: str, start: int, end: int, of_two: bool) -> tuple[int, int] | None:
    """The span up to the first word that is no name; None if nothing, or of two words one, is left of it."""
    last, words = start, 0
    for match in _TOKEN.finditer(text, start, end):
        word = match[0].strip(".'’")
        phrase = of_two and _of_phrase(word)
        if len(word) > 1 and (phrase or word.lower() in NOT_NAMES or (words and _MODAL.match(text, match.start()))):
            if phrase and words == 1:
                return None
            break
        last, words = match.end(), words + 1
    while last > start and text[last - 1] in " ,'’-":
        last -= 1
    kept = text[start:last]
    return (start, last) if any(len(word) > 1 for word in regex.findall(r"\p{L}+", kept)) else None


def _of_phrase(word: str) -> bool:
    """Whether it is a word of clinical phrases."""
    return word.lower() in PHRASE_WORDS or _CLINICAL_ENDING.search(word) is not None

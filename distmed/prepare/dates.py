"""Patterns of dates finer than a year, and of ages over 89: plain data for `identifiers.py`."""

from __future__ import annotations

from distmed.prepare.patterns import Patterns, labeled

_FULL = "January|February|March|April|May|June|July|August|September|October|November|December"
_SHORT = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec"
_MONTH = rf"(?:{_FULL}|{_SHORT}|{_FULL.upper()}|{_SHORT.upper()})"
_LOWER = rf"(?:{_FULL.lower()}|{_SHORT.lower()})"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MON = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
_DATE_LABELS = (
    r"DOB|D\.O\.B\.?|DOD|DOS|DOA|date of birth|birth[ ]?date|date of (?:service|admission|discharge|death|visit|"
    r"procedure|"
    r"surgery|exam|onset|consult(?:ation)?)|(?:admission|discharge|admit|service|visit|collection|report|"
    r"procedure) date|"
    r"date(?: of)?|born(?: on)?|LMP|EDD|EDC|due date"
)
_DATE_VERBS = r"dictated|transcribed|collected|received|reported|signed"
_PACKED_DATE = r"(?:(?:19|20)\d{6}|\d{8}|\d{6}|\d{1,2}[ .]\d{1,2}[ .](?:19|20)?\d\d)"
_FRACTION = r"0?(?:[12]/0?2|[1-3]/0?3|[1-4]/0?4|[1-5]/0?5|[1-6]/0?6|(?:[1-9]|10)/10)(?![\d/])"
"""What may as well be a part of so many, or a point on a scale."""
_COUNTED = (
    r"(?:(?:blood|cultures?|aerobic|anaerobic|positive|negative|surveillance|sputum|urine|stool|[a-z]+ed)\s)*"
    r"(?:bottles|sets|tubes|vials|samples|specimens|cultures|swabs|cores|nodes|slides|blocks|smears|margins|scales?|"
    r"points?|extremities|limbs|quadrants|lobes|vessels|criteria|episodes|attempts|trials|views)\b"
)
_NO_DATE = r"(?![\d/])(?!\s*(?:strength|tab|dose|pain|normal|murmur|motor|power|reflex|NS\b|systolic|diastolic|pulses))"
_NO_ACUITY = r"(?<!\b(?:VA|OD|OS|OU|[Aa]cuity|[Vv]ision|[Ss]nellen)\b[^\n;.]{0,24})"
"""Eyes see 6/12 or 6/9."""
_SHORT_DATE = rf"{_NO_ACUITY}(?!{_FRACTION}\s*{_COUNTED}){_MON}/{_DAY}{_NO_DATE}"
_NO_SCORES = (
    r"(?<!\b(?i:insulin|lispro|aspart|glargine|nph|humalog|novolog|apgars?|sizes?|dopa|\w+dopa|\w+capone|\w+sartan|\w+thiazide|"
    r"\w+dipine)\b(?i:[ ]?(?:scores?|of|was|were|at|dose|:)){0,3}[ ])"
)
_NO_UNITS = r"(?!\s?(?:mm|cm|units?|mg|mcg|m[lL]|kg|IU|Fr|%)\b)"
"""Three numbers of doses, scores and sizes are no date."""
_WHEN = (
    r"(?:on|since|dated?|until|as of|starting|started|stopped|admitted|discharged|seen|returned|appt|appointment|"
    r"visit|visited|follow[- ]?up|f/u|between|ending|through|dos|dob|labs?)"
)
_WEEKDAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs?)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?"
_NEXT = r"(?:,[ \t]*(?:and[ \t]+)?|[ \t]+(?:and|to)[ \t]+(?:on[ \t]+)?|[ \t]*[-–&][ \t]*)"

DATE = Patterns(
    (
        (rf"(?<![\d/.]){_DAY}\s?/\s?{_DAY}\s?/\s?{_YEAR}(?![\d/])", 0.95),
        (rf"(?<![\d-]){_DAY}-{_DAY}-{_YEAR}(?![\d-])", 0.95),
        (rf"(?<![\d.]){_DAY}\.{_DAY}\.{_YEAR}(?!\d)", 0.95),
        (rf"(?<![\d/.]){_NO_SCORES}(?:{_MON}/{_DAY}|{_DAY}/{_MON})/(?:'?\d\d)(?![\d/%]|\.\d){_NO_UNITS}", 0.85),
        (
            rf"(?<![\d-]){_NO_SCORES}(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])|(?:0[1-9]|[12]\d|3[01])-(?:0[1-9]|"
            rf"1[0-2]))-\d\d(?![\d-]){_NO_UNITS}",
            0.8,
        ),
        (rf"(?:^[ \t]*+|\(|(?i:\b{_WHEN}):?[ \t]+(?:on[ \t]+)?)\K{_MON}-{_DAY}-\d\d(?![\d-]){_NO_UNITS}", 0.75),
        (r"(?<![\d.])(?:0[1-9]|[12]\d|3[01])\.(?:0[1-9]|1[0-2])\.\d\d(?![\d.])", 0.7),
        (rf"(?<![\d/.]){_MON}/{_DAY}(?=\s?(?:[-–]|to)\s?{_MON}/{_DAY}/\d\d)", 0.85),
        (
            rf"(?<![\d-]){_YEAR}([-/.])(?:0?[1-9]|1[0-2])\1{_DAY}"
            r"(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)",
            0.95,
        ),
        (
            rf"(?<![\w-]){_MONTH}\.?[ \t]+{_DAY}(?:st|nd|rd|th)?(?:\s?[-–]\s?{_DAY}(?:st|nd|rd|th)?)?,?\s+{_YEAR}\b",
            0.95,
        ),
        (
            rf"(?<![\w-])(?!May\b){_MONTH}\.?[ \t]+{_DAY}(?:st|nd|rd|th)?\b(?:\s?[-–]\s?{_DAY}(?:st|nd|rd|th)?\b)?"
            r"(?![.%/]\d|\s*m?c?g\b)",
            0.85,
        ),
        (rf"(?<![\w.-]){_DAY}-(?:{_SHORT})(?![\w-])", 0.8),
        (rf"(?<![\w-])(?:{_SHORT})-\d\d(?![\w-])", 0.75),
        (
            rf"(?<![\w-])May[ \t]+{_DAY}(?:st|nd|rd|th|(?![\w%/-]|\.\d|[ \t]*(?:m?c?g|m[lL]|tab|cap|pill|puff|dose|"
            rf"unit|time|x|hour|day|week|month)))",
            0.8,
        ),
        (rf"(?<![\w-]){_LOWER}\.?[ \t]+{_DAY}(?:st|nd|rd|th)?,?[ \t]+{_YEAR}\b", 0.9),
        (
            rf"(?<![\w.-]){_DAY}(?:st|nd|rd|th)?(?:[ \t]+of)?[ \t/-]{{1,2}}(?:{_MONTH}|"
            rf"{_LOWER})\.?,?[ \t/-]{{1,2}}(?:{_YEAR}|'?\d\d)\b",
            0.95,
        ),
        (rf"(?<![\w.-]){_DAY}(?:st|nd|rd|th)(?:[ \t]+of)?[ \t]+{_MONTH}\b", 0.85),
        (rf"(?<![\w.-]){_DAY}(?:[ \t]+of)?[ \t]+(?!May\b){_MONTH}\b\.?(?![ \t]*\d)", 0.8),
        (rf"(?<!\w){_DAY}-?(?:{_MONTH}|{_LOWER})-?(?:{_YEAR}|\d\d)\b", 0.9),
        (rf"(?<![\w-])(?i:{_FULL}|{_SHORT})\.?,?[ \t]+(?:of[ \t]+)?(?:{_YEAR}|'\d\d)\b", 0.9),
        (rf"(?<![\d/]){_MON}/{_YEAR}(?![\d/])", 0.85),
        (
            rf"(?i:\b(?:in|since|until|till|last|this|next|early|late|mid|during|before|after|around|every|by|"
            rf"from|through)[ \t-]+)"
            rf"\K(?:{_FULL})\b(?!\s+(?:be|have|need|not|also|require|cause|benefit|take|resume))",
            0.8,
        ),
        (r"(?<![\w-])(?:January|February|September|October|November|December)\b", 0.75),
        (rf"(?i:\b{_WHEN}:?[ \t]+(?:on[ \t]+)?)\K{_SHORT_DATE}", 0.75),
        (
            rf"(?=\d{{1,2}}/\d)(?<=(?i:\b{_WHEN}):?[ \t]+(?:on[ \t]+)?(?:{_MON}/{_DAY}{_NEXT}){{1,6}}){_SHORT_DATE}",
            0.75,
        ),
        (rf"\b{_WEEKDAY}[ \t]+\K(?!{_FRACTION}[ \t]*(?:pain|strength)){_SHORT_DATE}", 0.75),
        (
            rf"(?i:\bfrom[ \t]+)\K(?!{_FRACTION}[ \t]+to[ \t]+{_FRACTION}){_SHORT_DATE}"
            rf"(?=[ \t]+to[ \t]+{_MON}/{_DAY}{_NO_DATE})",
            0.75,
        ),
        (rf"(?i:\bfrom[ \t]+(?!{_FRACTION}[ \t]+to[ \t]+{_FRACTION}){_MON}/{_DAY}[ \t]+to[ \t]+)\K{_SHORT_DATE}", 0.75),
        (rf"(?i:\band[ \t]+)\K(?!{_FRACTION}){_SHORT_DATE}", 0.75),
        (rf"(?i:\b(?:{_DATE_VERBS})(?:[ \t]*:[ \t]*|[ \t]+(?!{_FRACTION})))\K{_SHORT_DATE}", 0.75),
        (labeled(rf"{_DATE_LABELS}|{_DATE_VERBS}", rf"{_PACKED_DATE}(?![\d/])"), 0.9),
        (labeled(_DATE_LABELS, r"\d{1,2}[-/.]\d{1,2}(?:[-/.](?:\d{4}|\d\d))?(?![\d/])"), 0.9),
        (rf"^[ \t]*\K{_MON}/{_DAY}(?=[ \t]*(?:[:-]|(?:at[ \t]+)?\d\d:?\d\d\b))", 0.75),
        (rf"\bQ[1-4][ -]?{_YEAR}\b", 0.8),
        (rf"\b(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ww]inter|Fall|fall of)(?:[ \t]+of)?[ \t]+{_YEAR}\b", 0.8),
        (
            r"\b(?:Christmas(?: Eve| Day)?|Thanksgiving(?: Day)?|New Year'?s(?: Eve| Day)?|Labor Day|Memorial Day|"
            r"Independence Day|Fourth of July|Halloween|Easter(?: Sunday)?|Valentine'?s Day)\b",
            0.7,
        ),
    )
)

_OLD = r"(?:9\d|1[01]\d|12[0-5])"
_PART_OF_DECADE = r"(?:very[ ])?(?:early|mid|middle|late|upper)(?:[ -](?:to[ -])?(?:mid|late))?"
_NO_FEVER = (
    r"(?![ \t]*[,;.(/]*[ \t]*(?:or\b|\d{2,}(?:\.\d)?(?![\d.]|[ -]?[a-z])|"
    r"(?i:(?:HR|BP|RR|P|R|T|pulse|resp|SpO2|O2|sats?)[ :=]*\d{2}|"
    r"temp\w*\b(?![ :=]*\d)|(?:oral|rectal|axillary|tympanic)(?:ly)?[ ]*(?:[,;.)\n]|$))))"
)
"""After "99F": a pulse, degrees Celsius, a way to measure, or "or higher". Then it is a temperature."""
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_NO_PERSON = r"(?![ -]old[ ](?:\w+[ ])?(?:scar|house|home|building|injury|lesion|wound|fracture|tattoo|car)\b)"
_BORN = r"(?:18\d\d|19[0-2]\d|193[0-6])"
"""Years of birth that tell of an age over 89."""
_VITAL = (
    r"(?<!\b(?i:sats?|spo2|sao2|o2|saturat\w+|oxygen|hr|heart|rates?|pulse|bp|sbp|dbp|map|systolic|diastolic|pressures?|temp\w*|"
    r"sugars?|glucose|bpm)\b[^.;\n]{0,20}\b(?i:in[ ](?:his|her|their)[ ](?:\w+[ ])?))"
)
AGE = Patterns(
    (
        (
            rf"(?<![\d./-]){_OLD}(?=\s?-?(?i:(?:years?|yrs?){_NO_PERSON}(?![ ](?:ago|later|earlier|prior|before|after|survival|"
            rf"of(?![ ]age)))\b|y\.?/?o\.?\b|y/o|y\.o\.))",
            0.95,
        ),
        (
            r"(?i:\b(?:age|aged|age at \w+|turned|turning)"
            r"(?:[ ]?/[ ]?(?:sex|gender))?(?:[ ]?\((?:in[ ])?(?:years?|yrs?|y)\))?(?:[ \t]*(?:is|of|:|=|\|))*[ \t]*)"
            rf"\K{_OLD}(?![\d.%]|/(?![ ]?[MFmf]\b))",
            0.9,
        ),
        (
            r"(?:(?<![a-z,][ \t]*\n[ \t]*)^[ \t]*|"
            r"\b(?:[Aa]n?|[Tt]his|(?<!\b(?i:t|temp\w*|tmax|fever)[ ])[Ii]s)[ \t]+|(?:HPI|CC|ID|Pt|Patient)[:.]?[ \t]+)"
            rf"\K{_OLD}(?=[ -]?(?:M\b|F\b{_NO_FEVER}|y\b|(?:female|male|woman|man|lady|gentleman)\b))",
            0.85,
        ),
        (rf"(?<![\d./-]){_OLD}(?=\s?[MFmf]/(?!\s?\d))", 0.6),
        (rf"(?i:\bninety(?:[ -](?:{_UNITS}))?(?=[ -](?:years?|yrs?)[ -]old))", 0.95),
        (
            rf"(?i:\b(?:one|a)[ -]hundred(?:[ -](?:and[ -])?(?:{_UNITS}|ten|eleven|twelve))?(?=[ -](?:years?|"
            rf"yrs?)[ -]old))",
            0.95,
        ),
        (
            r"(?i:\b(?:died|dead|deceased|expired|passed(?:[ ]away)?|lived|alive|well|living)[ ]"
            r"(?:\w+[ ]){0,2}?(?:at|to|until)[ ])"
            rf"\K{_OLD}(?![\d./%-]|[ ](?:\p{{Lu}}|weeks?|days?|hours?|h\b|minutes?|kg|lbs?|percent|degrees|bpm|mg))",
            0.8,
        ),
        (r"(?i:\b(?:nona|super[- ]?cente|cente)(?:ge)?narians?\b)", 0.9),
        (rf"(?i:\b(?:born(?:[ ]in)?|year of birth|birth[ ]year|YOB|DOB)[ \t]*[:=|]?[ \t]*)\K{_BORN}\b(?![-/.]\d)", 0.9),
        (
            rf"(?i:\b(?:his|her|their)[ ](?:{_PART_OF_DECADE}[ ])?){_VITAL}\K(?:(?:9\d|1[01]0)['’]?s\b|(?i:nineties))",
            0.8,
        ),
        (
            rf"(?i:\b(?:age[ds]?|died|dying|lived|living|alive|deceased|passed(?: away)?)[ ](?:\w+[ ]){{0,2}}?"
            rf"(?:in|to|into)[ ](?:the[ ])?(?:{_PART_OF_DECADE}[ ])?)\K(?:9\d|1[01]0)['’]?s\b",
            0.8,
        ),
    )
)

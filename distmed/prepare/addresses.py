"""Patterns of street addresses, places and ZIP codes: plain data for `identifiers.py`."""

from __future__ import annotations

from distmed.prepare.patterns import Patterns

_STATE = (
    r"(?:A[LKZR]|C[AOT]|D[EC]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|"
    r"V[TA]|W[AVIY]|PR|"
    r"Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|"
    r"Illinois|Indiana|"
    r"Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|"
    r"Montana|Nebraska|"
    r"Nevada|New (?:Hampshire|Jersey|Mexico|York)|(?:North|South) (?:Carolina|Dakota)|Ohio|Oklahoma|Oregon|"
    r"Pennsylvania|"
    r"Rhode Island|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming)"
)
_ALLOWED = (
    rf"(?!(?:{_STATE}|America|US|USA|U\.S\.|United|England|Scotland|Wales|Ireland|France|Germany|Spain|Italy|"
    rf"Portugal|Poland|Russia|"
    r"Ukraine|China|Japan|Korea|India|Pakistan|Bangladesh|Nepal|Vietnam|Thailand|Philippines|Indonesia|"
    r"Australia|Canada|Mexico|"
    r"Guatemala|Honduras|Salvador|Cuba|Haiti|Jamaica|Dominican|Colombia|Venezuela|Ecuador|Peru|Bolivia|Brazil|"
    r"Argentina|Chile|Nigeria|"
    r"Ghana|Kenya|Ethiopia|Somalia|Uganda|Egypt|Morocco|Algeria|Tunisia|Turkey|Syria|Iraq|Iran|Israel|Lebanon|"
    r"Afghanistan|Africa|"
    r"Asia|Europe|Greece|Sweden|Norway|Denmark|Finland|Netherlands|Belgium|Switzerland|Austria|Hungary|Romania|"
    r"Taiwan|Sudan|Congo)"
    r"(?![\w-]|,?[ ]\p{Lu}))"
)
"""States and countries may stay."""
_TOWN = r"(?:(?:St|Ft|Mt)\. )?\p{Lu}[\p{L}'-]+(?:[ ]\p{Lu}[\p{L}'-]+){0,2}"
_NO_ABBREVIATION = (
    r"(?!(?:(?!(?:SAN|LOS|LAS|EL|ST|FT|MT|NEW|OLD)[ ])\p{Lu}{2,3}|\p{Lu}{1,3}CU|(?:(?![AEIOUY])\p{Lu}){2,5}|LTACH?)\b)"
    r"(?!\p{Lu}{2,5},[ \t]*(?:MI|CA|CT|MS)\b)"
)
"""ICU, OSH and HTN are no towns, and neither is what stands before MI or CT in capitals as short."""
_NO_WARD = (
    r"(?!(?i:(?:neuro|cardio|thoraco)?(?:medical|surgical|vascular|surgery)|units?|wards?|floors?|services?|teams?|room|medicine|"
    r"rehab\w*|hospice|tele(?:metry)?|emergency|inpatient|outpatient|outside|observation|recovery|nursing|pediatrics?|psychiatry|"
    r"obstetrics|orthop\w+|\p{L}{4,}ology|intensive|critical|acute|subacute|skilled|step[ -]?down|progressive|labor|operating|"
    r"trauma|burn|stroke|cardiac|coronary|palliative|wound|general|internal|family|hospital|oral|intravenous|IV|PO)\b)"
)
"""Where patients and drugs are moved to within a hospital. (A town before "Rehab Center" is one.)"""
_NO_CONDITION = (
    r"(?<!\b(?:history|hx|h/o|pmh|evidence|risk|signs?|symptoms?|diagnos[ie]s|dx|setting|because|concern|episodes?|"
    r"complications?|treatment|management|absence|presence|onset|suspicion|findings?|cases?|form|result|cause)\s+of\s+)"
)
"""What has a history, a risk or signs is a condition, and "MI" after it is no state."""
_ENDING = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Circle|Cir|Way|Place|Pl|"
    r"Terrace|Ter|Parkway|"
    r"Pkwy|Highway|Hwy|Square|Sq|Trail|Trl|Loop|Alley|Plaza|Row|Crescent|Close|Grove|Heights|Hill|Ridge|Path|"
    r"Pike|Turnpike|Route)"
)
_LOUD_ENDING = (
    r"(?:STREET|ST(?=[.,\n]|\s+(?:APT|UNIT|STE|#)|$)|AVENUE|AVE|ROAD|RD|BOULEVARD|BLVD|LANE|LN|DRIVE|"
    r"DR|COURT|PLACE|PKWY|HWY|TERRACE)"
)
_INNER = (
    r"(?:,?[ \t]+(?i:apt|apartment|unit|suite|ste|floor|fl|room|rm|bldg|building|"
    r"lot)\b\.?[ \t]*#?[ \t]*[\w-]+|,?[ \t]+#[ \t]*[\w-]+)?"
)
_TAIL = rf"(?:,?\s+{_TOWN},?[ \t]+{_STATE}\b\.?(?:,?[ \t]+\d{{5}}(?:-\d{{4}})?)?|,[ \t]+{_TOWN}(?=[.,;\n]|$))?"
_FROM = r"(?:[ \t]+(?:alone|with[ \t]+\w+[ \t]+\w+|here|back|recently))?[ \t]+(?:in|to|from|at|near|of|outside)[ \t]+"
ADDRESS = Patterns(
    (
        (
            rf"(?<![\w/.-])\d{{1,6}}[A-Z]?(?:-\d+)?[ \t]+(?:[NSEW]{{1,2}}\.?[ \t]+|(?:North|South|East|West)[ \t]+)?"
            rf"(?:(?:\p{{Lu}}[\p{{L}}.'-]*|\d+(?:st|nd|rd|"
            rf"th))[ \t]+){{1,4}}?{_ENDING}\b\.?(?:[ \t]+(?:[NSEW]{{1,2}}|North|South|East|West)\b)?{_INNER}{_TAIL}",
            0.9,
        ),
        (
            rf"(?<![\w/.-])\d{{1,6}}[ \t]+(?:[NSEW]\.?[ \t]+)?(?:"
            rf"(?!LEAD\b)\p{{Lu}}{{3,}}[ \t]+){{1,3}}{_LOUD_ENDING}\b\.?{_INNER}",
            0.8,
        ),
        (rf"(?<![\w/.-])\d{{1,6}}[ \t]+(?:[NSEW]\.?[ \t]+)?Broadway\b{_INNER}{_TAIL}", 0.9),
        (rf"\b(?i:P\.?[ ]?O\.?[ ]?Box)[ \t]+\d+{_TAIL}", 0.95),
        (rf"\b{_TOWN},?[ \t]+{_STATE}\b\.?,?[ \t]+\d{{5}}(?:-\d{{4}})?\b", 0.92),
        (
            rf"(?i:\b(?:lives?|living|resid(?:es|ing|ent)|born|raised|grew up|works?){_FROM})"
            rf"\K{_ALLOWED}{_TOWN}(?:,[ \t]*{_STATE}\b)?",
            0.75,
        ),
        (
            rf"(?i:\b(?:moved|relocated|travel(?:s|ed|led)?|drove|transferred|flew){_FROM})"
            rf"\K{_ALLOWED}{_NO_ABBREVIATION}{_NO_WARD}{_TOWN}(?:,[ \t]*{_STATE}\b)?",
            0.75,
        ),
        (
            rf"(?i:\b(?:man|woman|male|female|patient|lady|gentleman|boy|girl|child|resident|"
            rf"native)[ \t]+from[ \t]+)\K{_ALLOWED}{_TOWN}\b",
            0.7,
        ),
        (rf"(?i:\b(?:from|in|of|near|to)[ \t]+{_NO_CONDITION})\K{_NO_ABBREVIATION}{_TOWN},[ \t]*{_STATE}\b", 0.8),
        (
            r"(?i:\b(?:city|town|county|village|hometown|place of birth|birthplace|"
            r"city of residence)[ \t]*[:|=][ \t]*)\K\p{Lu}[\p{L} .'-]{1,40}?(?=\s{2,}|[\n|;,.]|$)",
            0.85,
        ),
        (
            r"(?i:(?<!ip )(?<!mail )(?<!mac )(?<!web )\b(?:(?:home|street|mailing|postal|patient|current|"
            r"billing) )?address(?: line ?\d)?[ \t]*[:=|][ \t]*)"
            r"\K(?=[^\n]*\w)[^\n|;]{4,120}?(?=\s{2,}|[\n|;]|$|(?<!\bSt|\bDr|Apt|Ave|\b\p{Lu})\.\s|\.$|"
            r",?\s+(?i:phone|tel|fax|dob|mrn|e-?mail|ssn|zip|cell|home phone)\b)",
            0.9,
        ),
    )
)
ZIP = Patterns(
    (
        (
            r"(?i:\b(?:zip(?:[ _]?code)?|postal[ _]code|"
            r"post ?code)(?:[ \t]*is)?[\"']?[ \t]*[:#=|]*\s*[\"']?)\K(?:\d{5}(?:-\d{4})?|[A-Z]\d[A-Z][ ]?\d[A-Z]\d|"
            r"[A-Z]{1,2}\d[A-Z\d]?[ ]?\d[A-Z]{2})\b",
            0.95,
        ),
        (rf"\b{_STATE},?[ \t]+\K\d{{5}}(?:-\d{{4}})?\b", 0.7),
        (r"(?<![\w-])\d{5}-\d{4}(?![\w-])", 0.7),
    )
)

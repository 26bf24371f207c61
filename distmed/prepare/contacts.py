"""Patterns of phone and fax numbers, e-mail, web and IP addresses: plain data for `identifiers.py`."""

from __future__ import annotations

from distmed.prepare.patterns import Patterns

_NUMBER = r"(?:\(?0\d{1,4}\)?[ ]?/[ ]?\d{4,9}(?:-\d{1,4})?|\+?\(?\d(?:[\d()\- ]|-\n|\.(?![ ])){5,17}\d)"
_EXTENSION = r"(?:[ \t,]*(?i:x|ext\.?|extension)[ \t]*\d{1,6})?"
_NO_COUNT = r"(?<!\b(?:CD\d{1,2}|[Cc]ounts?|[Rr]ange)[ :]{1,2})"
_AREA = r"(?:\+?1[ .-]?)?(?:\(\d{3}\)[ ]?|[2-9]\d{2}[.-])"
_AMERICAN = rf"(?<![\d.+-]){_NO_COUNT}{_AREA}\d{{3}}[ .-]\d{{4}}{_EXTENSION}(?![\d-])"
PHONE = Patterns(
    (
        (_AMERICAN, 0.6),
        (rf"(?<![\d.+-])(?:\+?1[ .-]?)?[2-9]\d{{2}}[ /]\d{{3}}[ -]\d{{4}}{_EXTENSION}(?![\d-])", 0.5),
        (r"(?<![\w+])\+\d{1,3}[ .-]?(?:\(?\d{1,5}\)?[ .-]?){2,5}\d{2,4}(?!\d)", 0.6),
        (r"(?<![\d.-])[2-9]\d{2}[-. ]\d{4}(?![\d-])", 0.3),
        (
            r"(?i:\b(?:call(?:ed|s|ing)?|spoke|reach(?:ed|able)?|contact(?:ed)?|dial|text(?:ed)?|paged?)\b"
            r"[^\n\d.;]{1,40}\bat[ ])"
            r"\K[2-9]\d{2}[-. ]\d{4}(?![\d-])",
            0.6,
        ),
        (r"(?<![\w/.-])0\d{2,4}/\d{5,9}(?![\w/])", 0.6),
        (r"(?<![\w.,/-])0[1-9](?:[ ]\d{2}){4}(?![ ]?[\d.,/])", 0.6),
        (r"(?<![\w.,/-])07\d{3}[ -]?\d{3}[ -]?\d{3}(?![\d-])", 0.6),
        (r"(?<![\d.-])1?[2-9]\d{9}(?!\d)", 0.3),
        (r"(?<![\d.-])0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?!\d)", 0.4),
        (
            r"(?i:\b(?:(?:tele)?phone|telephone|tel|cell ?phone|mobile|pager|beeper|ph|voicemail|(?:home|work|"
            r"office|cell|day|evening|"
            r"contact|direct|emergency)(?: (?:tele)?phone| tel| number| line|(?=[ \t]*[:#])))"
            rf"(?:[ \t]*(?:numbers?|no\.?|#|is|at))*[ \t]*[:#.=|-]*\s*)\K{_NUMBER}{_EXTENSION}",
            0.85,
        ),
        (r"(?i:\b(?:pager|beeper|pgr)(?:[ \t]*(?:number|no\.?|#|is))*[ \t]*[:#]?[ \t]*)\K\d{4,7}\b", 0.85),
        (r"(?i:\bphone[ ]+x)\K\d{3,5}\b", 0.8),
        (r"(?i:\bext(?:\.|ension)?[ \t]*[:#]?[ \t]*)\K\d{4,6}\b(?![ \t]*deg)", 0.7),
    ),
    (
        "phone",
        "telephone",
        "tel",
        "cell",
        "mobile",
        "call",
        "called",
        "pager",
        "beeper",
        "contact",
        "reached",
        "reach",
        "home",
        "work",
        "office",
        "voicemail",
        "number",
        "dial",
    ),
)
FAX = Patterns(
    (
        (
            rf"(?i:\b(?:fax|facsimile)(?:ed)?(?:[ \t]+(?:report|results?|records?|copy|copies|"
            rf"this))?(?:[ \t]*(?:numbers?|no\.?|#|is|to|at))*[ \t]*[:#.=|-]*\s*)\K{_NUMBER}",
            0.97,
        ),
        (rf"{_AMERICAN}(?=[ \t]*\(?(?i:fax|f\)))", 0.97),
        (r"(?:^|\s)F[.:][ \t]*\K\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}", 0.97),
    )
)
EMAIL = Patterns(((r"(?<![\w.+-])[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+\b", 0.99),))
URL = Patterns(
    (
        (r"(?i:\b(?:https?|s?ftp)://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])", 0.98),
        (r"(?i:\bwww\.[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])", 0.98),
        (
            r"(?i:(?<![@\w.-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:com|org|net|edu|gov|info|health|co\.uk|"
            r"org\.uk|nhs\.uk)\b(?:/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])?)(?!@)",
            0.9,
        ),
    )
)
IP = Patterns(
    ((r"(?i:\bIP(?:v[46])?(?:[ \t]*(?:address|addr\.?))?[ \t]*[:=]?[ \t]*)\K\d{1,3}(?:\.\d{1,3}){3}\b", 0.9),)
)

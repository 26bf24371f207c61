"""Synthetic clinical notes with gold spans: every identifier that was put in is known to the character.

A seed flows in, a note flows out. Nobody in them exists. Names, layouts and ways of writing are drawn from tables of this
file and not from those of the package, so that finding them proves something.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.prepare import note_words as words

Make = Callable[["Writer"], None]


@dataclass(frozen=True)
class Gold:
    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Note:
    text: str
    spans: tuple[Gold, ...]
    layout: str


@dataclass
class Writer:
    """Puts a note together: `say` for text in which `{kind}` stands for a fresh identifier, `{patient}` for the patient's."""

    draw: random.Random
    parts: list[str] = field(default_factory=list)
    spans: list[Gold] = field(default_factory=list)
    length: int = 0

    def __post_init__(self) -> None:
        self.female = self.draw.random() < 0.5
        self.given = self.pick(words.FEMALE if self.female else words.MALE)
        self.family = self.pick(words.FAMILIES)
        self.age = self.draw.choice([*range(18, 90), *range(90, 103), *range(90, 103)])
        self.born = 2021 - self.age

    def pick(self, items: list[str]) -> str:
        return self.draw.choice(items)

    def number(self, digits: int) -> str:
        return "".join(self.pick(list("0123456789")) for _ in range(digits))

    def put(self, text: str, kind: str = "") -> None:
        if kind:
            self.spans.append(Gold(self.length, self.length + len(text), kind))
        self.parts.append(text)
        self.length += len(text)

    def say(self, template: str) -> None:
        """`{he}`, `{his}`, `{clinical}` and the kinds of `values` are filled in; kinds become gold spans."""
        for piece in re.split(r"(\{\w+\})", template):
            if not piece.startswith("{"):
                self.put(piece)
                continue
            name = piece[1:-1]
            plain = {
                "he": "she" if self.female else "he",
                "He": "She" if self.female else "He",
                "his": "her" if self.female else "his",
                "man": "woman" if self.female else "man",
                "sex": "F" if self.female else "M",
                "title": self.pick(["Ms.", "Mrs.", "Miss"]) if self.female else "Mr.",
            }
            if name in plain:
                self.put(plain[name])
            elif name == "clinical":
                self.say(self.pick(words.CLINICAL))
            elif name == "age":
                self.put(str(self.age), "AGE" if self.age > 89 else "")
            else:
                text, kind = VALUES[name](self)
                self.put(text, kind)

    def clinical(self, least: int, most: int, between: str = " ") -> None:
        for _ in range(self.draw.randint(least, most)):
            self.say("{clinical}" + between)

    def note(self, layout: str) -> Note:
        return Note("".join(self.parts), tuple(self.spans), layout)


def _day(w: Writer) -> tuple[int, int, int]:
    return w.draw.randint(1, 28), w.draw.randint(1, 12), w.draw.randint(2009, 2024)


def _date(w: Writer) -> str:
    d, m, y = _day(w)
    month, short = words.MONTHS[m - 1], words.MONTHS[m - 1][:3]
    return w.pick(
        [
            f"{m}/{d}/{y}", f"{m:02}/{d:02}/{y}", f"{m}/{d}/{y % 100:02}", f"{y}-{m:02}-{d:02}", f"{d}.{m}.{y}",
            f"{m:02}-{d:02}-{y}", f"{month} {d}, {y}", f"{month} {d}", f"{d} {month} {y}", f"{short} {d}, {y}",
            f"{short}. {d}, {y}", f"{d}-{short}-{y}",
            f"{month} {y}", f"the {d}th of {month}"[4:] if 3 < d < 21 else f"{month} {d}", f"{short} {d}", f"{m:02}/{y}",
            f"{month} {d}th" if 3 < d < 21 else f"{month} {d}, {y}", f"{d:02}{short.upper()}{y}", f"{y}/{m:02}/{d:02}",
        ]
    )  # fmt: skip


def _born(w: Writer) -> str:
    d, m, _ = _day(w)
    return w.pick(
        [f"{m:02}/{d:02}/{w.born}", f"{w.born}-{m:02}-{d:02}", f"{words.MONTHS[m - 1]} {d}, {w.born}",
         f"{m}/{d}/{w.born % 100:02}", f"{m:02}{d:02}{w.born}", f"{d}-{words.MONTHS[m - 1][:3]}-{w.born}"]
    )  # fmt: skip


def _other(w: Writer) -> tuple[str, str]:
    return w.pick(words.FEMALE + words.MALE), w.pick(words.FAMILIES)


def _full(w: Writer) -> str:
    given, family = _other(w)
    return w.pick([f"{given} {family}", f"{given} {w.pick(list('ABCDEGHJKLMRST'))}. {family}", f"{given} {family}"])


def _field_name(w: Writer) -> str:
    """As in a "Name:" field."""
    initial = w.pick(list("ABCDEGHJKLMRST"))
    return w.pick(
        [f"{w.given} {w.family}", f"{w.family}, {w.given}", f"{w.family}, {w.given} {initial}.",
         f"{w.given} {initial}. {w.family}", f"{w.family.upper()}, {w.given.upper()}", f"{w.given.upper()} {w.family.upper()}"]
    )  # fmt: skip


def _doctor(w: Writer) -> str:
    given, family = _other(w)
    return w.pick([family, f"{given} {family}", f"{given[0]}. {family}", family])


def _phone(w: Writer) -> str:
    a, b, c = w.draw.randint(201, 989), w.draw.randint(200, 999), w.number(4)
    local = [f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"{a} {b} {c}", f"({a}){b}-{c}"]
    return w.pick([*local, f"+1 {a} {b} {c}", f"1-{a}-{b}-{c}"])


def _email(w: Writer) -> str:
    given, family = _other(w)
    user = re.sub(r"[^a-z]", "", family.lower()) or "x"
    host = w.pick(
        ["example.org", "mail.example.com", "st-elsewhere.example", "clinic.example.co.uk", "uni-klinik.example.de"]
    )
    return w.pick(
        [f"{given[0].lower()}.{user}@{host}", f"{user}{w.number(2)}@{host}", f"{user}_{w.number(3)}@{host}".upper()]
    )


def _url(w: Writer) -> str:
    return w.pick(
        ["http://www.example.com/mychart?id=" + w.number(5), "www.elsewhere-clinic.org", "mychart.example.org/messages",
         f"https://video.example.net/visit/{w.number(4)}-{w.number(4)}", f"https://portal.example.org/patients/{w.number(6)}"]
    )  # fmt: skip


def _street(w: Writer) -> str:
    place = f"{w.draw.randint(1, 9899)} {w.pick(words.STREETS)}"
    door = w.draw.randint(1, 40)
    return place + w.pick(["", "", f", Apt {door}{w.pick(['', 'B', 'C'])}", f" Unit {door}", f", #{door}"])


def _address(w: Writer) -> str:
    town, state = w.pick(words.TOWNS), w.pick(words.STATES)
    box = f"P.O. Box {w.draw.randint(10, 9999)}, {town}, {state} {w.number(5)}"
    return w.pick(
        [
            f"{_street(w)}, {town}, {state} {w.number(5)}",
            f"{_street(w)}, {town} {state} {w.number(5)}-{w.number(4)}",
            box,
        ]
    )


def _mrn(w: Writer) -> str:
    return w.pick(
        [
            w.number(7),
            w.number(8),
            f"{w.number(3)}-{w.number(2)}-{w.number(3)}",
            f"E{w.number(7)}",
            f"MG-{w.number(6)}",
            w.number(6),
        ]
    )


def _short_date(w: Writer) -> str:
    d, m, _ = _day(w)
    return w.pick([f"{m}/{d}", f"{words.MONTHS[m - 1]} {d}"])


def _ssn(w: Writer) -> str:
    parts = [str(w.draw.randint(100, 665)), str(w.draw.randint(10, 99)), str(w.draw.randint(1000, 9999))]
    return w.pick(["-", " ", ""]).join(parts)


def _account(w: Writer) -> str:
    return w.pick([w.number(9), f"{w.number(4)}-{w.number(5)}", f"A{w.number(8)}", f"H{w.number(10)}"])


def _plan(w: Writer) -> str:
    return w.pick(
        [f"XYZ{w.number(9)}", f"W{w.number(8)}-01", w.number(11), f"1EG4-TE5-MK{w.number(2)}", f"BCB {w.number(9)}"]
    )


def _license(w: Writer) -> str:
    return w.pick([f"MD{w.number(6)}", f"A{w.number(5)}", w.number(7), f"D{w.number(3)}-{w.number(4)}-{w.number(4)}"])


def _device(w: Writer) -> str:
    return w.pick(
        [f"PJN{w.number(6)}S", f"{w.number(4)}-{w.number(5)}", f"SN{w.number(7)}", f"BLE{w.number(6)}X", w.number(9)]
    )


VALUES: dict[str, Callable[[Writer], tuple[str, str]]] = {
    "date": lambda w: (_date(w), "DATE"),
    "born": lambda w: (_born(w), "DATE"),
    "shortdate": lambda w: (_short_date(w), "DATE"),
    "slash": lambda w: ("{1}/{0}".format(*_day(w)), "DATE"),
    "nineties": lambda w: (w.pick(["90s", "nineties", "100s"]), "AGE"),
    "month": lambda w: (w.pick(words.MONTHS), "DATE"),
    "year": lambda w: (str(w.draw.randint(1975, 2020)), ""),
    "name": lambda w: (_full(w), "NAME"),
    "field": lambda w: (_field_name(w), "NAME"),
    "patient": lambda w: (f"{w.given} {w.family}", "NAME"),
    "broken": lambda w: (f"{w.given}\n{w.family}", "NAME"),
    "family": lambda w: (w.family, "NAME"),
    "given": lambda w: (w.given, "NAME"),
    "first": lambda w: (_other(w)[0], "NAME"),
    "doctor": lambda w: (_doctor(w), "NAME"),
    "phone": lambda w: (_phone(w), "PHONE"),
    "seven": lambda w: (f"{w.draw.randint(220, 989)}-{w.number(4)}", "PHONE"),
    "fax": lambda w: (_phone(w), "FAX"),
    "email": lambda w: (_email(w), "EMAIL"),
    "url": lambda w: (_url(w), "URL"),
    "ip": lambda w: (".".join(str(w.draw.randint(1, 254)) for _ in range(4)), "IP"),
    "mrn": lambda w: (_mrn(w), "MRN"),
    "ssn": lambda w: (_ssn(w), "SSN"),
    "account": lambda w: (_account(w), "ACCOUNT"),
    "plan": lambda w: (_plan(w), "PLAN"),
    "license": lambda w: (_license(w), "LICENSE"),
    "plate": lambda w: (w.pick([f"KLM-{w.number(4)}", f"TRX {w.number(4)}", f"{w.number(1)}XKD{w.number(3)}"]), "VEHICLE"),
    "vin": lambda w: (f"1HGCM82633A{w.number(6)}", "VEHICLE"),
    "device": lambda w: (_device(w), "DEVICE"),
    "street": lambda w: (_street(w), "ADDRESS"),
    "address": lambda w: (_address(w), "ADDRESS"),
    "only": lambda w: (w.pick(words.TOWNS), "ADDRESS"),
    "town": lambda w: (w.pick(words.TOWNS) + w.pick(["", f", {w.pick(words.STATES)}"]), "ADDRESS"),
    "zip": lambda w: (w.pick([w.number(5), f"{w.number(5)}-{w.number(4)}"]), "ZIP"),
}  # fmt: skip


def write_note(seed: int) -> Note:
    """The note of a seed; layouts take turns, and the ways to set each of them."""
    from tests.prepare.note_layouts import LAYOUTS
    from tests.prepare.note_setting import SETTINGS

    layout = list(LAYOUTS)[seed % len(LAYOUTS)]
    writer = Writer(random.Random(f"notes {seed}"))
    LAYOUTS[layout](writer)
    return SETTINGS[seed // len(LAYOUTS) % len(SETTINGS)](writer.note(layout), writer.draw)

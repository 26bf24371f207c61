"""The layouts of the synthetic notes: from header fields and tables to letters, shorthand and exports."""

from __future__ import annotations

from tests.prepare.notes import Make, Writer


def _header(w: Writer) -> None:
    w.say("Patient Name: {field}\nDOB: {born}\nMRN: {mrn}\nDate of Service: {date}\nProvider: {name}, MD\n\n")
    w.say("HPI: {title} {family} is a {age}-year-old {man} who presents with cough since {shortdate}. ")
    w.clinical(3, 6)
    w.say("\nSOCIAL: Lives at {address}. Phone {phone}.\nPLAN: ")
    w.clinical(2, 4)
    w.say("\nElectronically signed by {name}, MD on {date} at 10:42\n")


def _table(w: Writer) -> None:
    w.say("Name | {field} | MRN | {mrn}\nDOB | {born} | Age | {age} | Sex | {sex}\nSSN | {ssn} | Acct # | {account}\n")
    w.say("Address | {address}\nHome phone | {phone} | Cell | {phone}\nInsurance | Member ID: {plan}\n---\n")
    w.clinical(5, 9, "\n")
    w.say("Attending: {name}, DO\nFax report to: {fax}\n")


def _discharge(w: Writer) -> None:
    w.say("DISCHARGE SUMMARY\n\nAdmission ")
    w.say("date: {date}\nDischarge date: {date}\nMedical Record Number: {mrn}\nAccount Number: {account}\n\n")
    w.say("{patient} is a {age} year old {man} admitted on {shortdate} under the care of Dr. {doctor}. ")
    w.clinical(4, 7)
    w.say("\n\n{title} {family} was seen by Dr. {doctor} of cardiology. ")
    w.say("{He} was last here in {month}. {clinical} Pacemaker serial number {device}. {clinical}\n")
    w.say("{family} was discharged home in stable condition. ")
    w.say("Please call {phone} with questions.\n\nDictated by: {name}, PA-C\n")


def _letter(w: Writer) -> None:
    w.say("{date}\n\nDear Dr. ")
    w.say("{doctor},\n\nThank you for referring {patient}, a {age}-year-old {man}, whom I saw on {date}. ")
    w.clinical(4, 7)
    w.say("\n\nI have asked {title} {family} to return in 3 months. {clinical} You can ")
    w.say("reach me at {phone} or by e-mail at {email}. ")
    w.say("My fax number is {fax}.\n\nSincerely,\n\n{name}, M.D.\nLicense No. {license}\n{address}\n")


def _triage(w: Writer) -> None:
    w.say("{shortdate} 0315 ED TRIAGE. Pt {patient}, {age} yo {sex}, MRN {mrn}. c/o abd pain x 2d. ")
    w.clinical(2, 5)
    w.say("PCP Dr. {doctor}, last seen {date}. Emergency contact: {name} (wife) {phone}. ")
    w.clinical(1, 3)
    w.say("IV placed by {name}, RN. Dr {doctor} notified. SSN {ssn}. {clinical}\n")


def _message(w: Writer) -> None:
    w.say("TELEPHONE ENCOUNTER {date}\n{his} daughter {first} called about {title} {family}. ")
    w.say("Callback {phone}, or after 5 pm call {seven}. ")
    w.clinical(2, 4)
    w.say("\nSpoke with Dr. {doctor}, who agrees. Video link: {url} sent to {email}. Logged from IP address {ip}.\n")
    w.say("{clinical} Pharmacy fax: {fax}. Rx # {account}\n")


def _radiology(w: Writer) -> None:
    w.say("EXAM: CT CHEST WITHOUT CONTRAST\nPATIENT: {field}\nDATE OF BIRTH: {born}\nEXAM DATE: ")
    w.say("{date}\nACCESSION NUMBER: {account}\nORDERING PHYSICIAN: {name}\n\n")
    w.say("COMPARISON: CT dated {date}.\n\nFINDINGS: ")
    w.clinical(3, 6)
    w.say("\nIMPRESSION: {clinical}\n\nFindings were discussed with Dr. {doctor} by telephone on ")
    w.say("{date} at 14:20.\nREAD BY: {name}, MD\n")


def _export(w: Writer) -> None:
    w.say('"name": "{patient}", "dob": "{born}", "mrn": "{mrn}", "phone": "{phone}", "zip": "{zip}", ')
    w.say('"email": "{email}"\n')
    w.say("patient_id={mrn}; ssn={ssn}; member id={plan}; account={account}; ip={ip}\nnote=")
    w.clinical(3, 6)
    w.say("\nseen={date}\nurl={url}\n")


def _nursing(w: Writer) -> None:
    w.say("Nursing note, {date}. {title} {family} resting in bed. {clinical} Wife {first} at bedside. ")
    w.clinical(2, 5)
    w.say("Son, {name}, will drive {his} car (license plate {plate}). {clinical} Moved from {town} in {year}. ")
    w.say("Case manager: {name}, LCSW, phone {phone}. ")
    w.say("{clinical} Zip code {zip}. {name}, RN\n")


def _consult(w: Writer) -> None:
    w.say("CARDIOLOGY CONSULT\nRequesting physician: Dr. ")
    w.say("{doctor}\nConsultant: {name}, MD, FACC\nPatient: {field}\nAge: {age}\nHospital #: {mrn}\n\n")
    w.say("Reason: device check. ICD generator S/N {device}, lead serial # {device}, implanted {date}. ")
    w.clinical(4, 7)
    w.say("\nRecommendations:\n1. {clinical}\n2. {clinical}\n3. Follow up on {date} with Dr. ")
    w.say("{doctor}.\nNPI {license} DEA # {license}\n")


def _billing(w: Writer) -> None:
    w.say("Guarantor: {name}\nPolicy number {plan}, account no. {account}\n")
    w.say("Patient {patient} (SSN: {ssn}) resides at {street}, {town}.\nVIN {vin}. Driver's license {license}.\n")
    w.clinical(3, 5)
    w.say("\nClaim # {account} dated {date}. See {url} or write to {email}.\n")


def _history(w: Writer) -> None:
    w.say("{patient} is a {age}-year-old {man} from {town} with ")
    w.say("diabetes since {year}. {clinical} {clinical} In {month} {he} fell at home. {clinical} On ")
    w.say("{shortdate} {he} saw {his} cardiologist, Dr. {doctor}. ")
    w.clinical(3, 6)
    w.say("{title} {family}'s last colonoscopy was {date}. {clinical} {family} agrees with the plan. ")
    w.say("Contact: {email}\n")


def _jotting(w: Writer) -> None:
    w.say("Name: {broken}\nMRN {mrn}\nSeen by Dr.{doctor}\n99F HR 92\n")
    w.clinical(3, 5)
    w.say("\nMother died in her {nineties}. Labs on {slash} and {slash}; discussed with Dr.\n")
    w.say("{doctor}. {clinical} Transferred to {only} from ICU. {clinical}\nCC: Chest Pressure\ncc: {name}\n")


LAYOUTS: dict[str, Make] = {
    "header": _header,
    "table": _table,
    "discharge": _discharge,
    "letter": _letter,
    "triage": _triage,
    "message": _message,
    "radiology": _radiology,
    "export": _export,
    "nursing": _nursing,
    "consult": _consult,
    "billing": _billing,
    "history": _history,
    "jotting": _jotting,
}

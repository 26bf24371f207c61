"""The 28 conditions of the built-in patients: how common, whom they strike, how fast, and with which findings.

Plain data written for this project from general medical knowledge: common conditions of all body systems, from a cold
to a heart attack. Frequencies of findings are plausible teaching figures, not epidemiology; weights are relative and
uneven on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["routine", "urgent", "emergency"]


@dataclass(frozen=True)
class Condition:
    """`weight`: relative frequency; `female`: share of women; `age`: least, likeliest, greatest, in years (triangular).

    `course`: how long it has lasted when the patient comes, as shares of hours, days, weeks, months. `findings`: name
    -> frequency in those who have the condition.
    """

    name: str
    system: str
    severity: Severity
    weight: float
    female: float
    age: tuple[float, float, float]
    course: tuple[float, float, float, float]
    findings: dict[str, float]


def _condition(
    name: str,
    system: str,
    severity: Severity,
    weight: float,
    female: float,
    age: tuple[float, float, float],
    course: tuple[float, float, float, float],
    findings: str,
) -> Condition:
    """`findings` is `name .frequency, name .frequency, …`."""
    pairs = (part.strip().rsplit(" ", 1) for part in findings.split(","))
    return Condition(
        name, system, severity, weight, female, age, course, {" ".join(f.split()): float(share) for f, share in pairs}
    )


# A table: one condition is one paragraph.
# fmt: off
CONDITIONS: tuple[Condition, ...] = (
    _condition("acute myocardial infarction", "heart", "emergency", 4, 0.35, (32, 66, 94), (0.8, 0.2, 0, 0), """
        chest pain .88, pain radiating to the arm .5, sweating .5, shortness of breath .42, nausea .35,
        smoker .45, high blood pressure .55, high cholesterol .5, family history of heart disease .35,
        ST changes on ECG .4, raised troponin .4, pallor .25, rapid heart rate .3, vomiting .15"""),
    _condition("heart failure", "heart", "urgent", 4, 0.48, (42, 76, 97), (0, 0.2, 0.5, 0.3), """
        shortness of breath .9, leg swelling .7, orthopnea .55, fatigue .6, crackles .55, raised neck veins .4,
        weight gain .35, night-time urination .25, high blood pressure .6, irregular heartbeat .35, cough .3,
        rapid heart rate .3, low oxygen saturation .3"""),
    _condition("pulmonary embolism", "lung vessels", "emergency", 2, 0.53, (20, 62, 92), (0.5, 0.45, 0.05, 0), """
        shortness of breath .8, chest pain on breathing .6, rapid heart rate .55, rapid breathing .5,
        calf pain .35, leg swelling .3, recent surgery or long travel .5, low oxygen saturation .45, cough .25,
        sweating .15, palpitations .15, fever .1"""),
    _condition("pneumonia", "lungs", "urgent", 6, 0.48, (0.5, 62, 95), (0, 0.85, 0.15, 0), """
        cough .88, fever .75, sputum .58, shortness of breath .55, crackles .62, chest pain on breathing .32,
        chills .4, fatigue .45, rapid breathing .4, rapid heart rate .35, infiltrate on chest film .45,
        raised CRP .35, raised white cell count .35, low oxygen saturation .3, loss of appetite .3, confusion .1,
        recent cold .2"""),
    _condition("asthma exacerbation", "lungs", "urgent", 5, 0.55, (2, 16, 70), (0.35, 0.55, 0.1, 0), """
        wheezing .88, shortness of breath .85, cough .65, chest pain .3, hay fever .45, childhood eczema .38,
        recent cold .4, rapid breathing .45, poor sleep .25, rapid heart rate .3, low oxygen saturation .2"""),
    _condition("COPD exacerbation", "lungs", "urgent", 4, 0.45, (42, 70, 93), (0, 0.75, 0.25, 0), """
        shortness of breath .9, cough .8, sputum .72, wheezing .6, smoker .85, low oxygen saturation .45,
        recent cold .3, rapid breathing .35, fatigue .3, crackles .2, weight loss .15, fever .15"""),
    _condition("common cold", "airways", "routine", 10, 0.52, (0.5, 22, 85), (0, 0.9, 0.1, 0), """
        runny nose .9, sneezing .65, sore throat .55, cough .6, headache .25, fatigue .3,
        sick household contact .4, fever .12, body aches .12, loss of appetite .1"""),
    _condition("influenza", "airways", "routine", 7, 0.51, (1, 30, 92), (0.05, 0.93, 0.02, 0), """
        fever .88, body aches .78, cough .75, chills .6, fatigue .65, headache .6, sore throat .4, runny nose .35,
        sweating .2, loss of appetite .35, sick household contact .4, rapid heart rate .3, nausea .12"""),
    _condition("streptococcal pharyngitis", "throat", "routine", 5, 0.5, (3, 9, 45), (0, 0.98, 0.02, 0), """
        sore throat .95, fever .68, swollen neck glands .65, tonsillar exudate .55, headache .35,
        sick household contact .3, abdominal pain .15, nausea .15, loss of appetite .3, chills .2"""),
    _condition("acute otitis media", "ear", "routine", 5, 0.46, (0.4, 2, 20), (0.15, 0.85, 0, 0), """
        ear pain .9, fever .55, bulging eardrum .7, recent cold .6, runny nose .5, loss of appetite .35,
        poor sleep .35, cough .25, vomiting .12, diarrhea .1"""),
    _condition("acute appendicitis", "bowel", "emergency", 4, 0.44, (4, 19, 72), (0.5, 0.5, 0, 0), """
        abdominal pain .95, pain moving to the right lower belly .55, nausea .65, vomiting .5,
        loss of appetite .65, rebound tenderness .6, fever .45, raised white cell count .45, raised CRP .35,
        rapid heart rate .25, constipation .12, diarrhea .12"""),
    _condition("acute cholecystitis", "gallbladder", "urgent", 3, 0.66, (22, 54, 90), (0.45, 0.55, 0, 0), """
        pain under the right ribs .85, tender right upper belly .62, nausea .68, vomiting .5, fever .42,
        onset after fatty meals .45, obesity .42, raised white cell count .35, raised CRP .3, abdominal pain .3,
        loss of appetite .35, rapid heart rate .2"""),
    _condition("gastroesophageal reflux", "stomach", "routine", 6, 0.52, (16, 48, 85), (0, 0.05, 0.4, 0.55), """
        heartburn .85, sour taste .58, chest pain .3, cough .22, obesity .42, onset after fatty meals .3,
        nausea .2, sore throat .15, poor sleep .22, smoker .25, abdominal pain .2"""),
    _condition("viral gastroenteritis", "bowel", "routine", 7, 0.52, (0.5, 14, 85), (0.35, 0.65, 0, 0), """
        diarrhea .9, vomiting .68, nausea .65, abdominal pain .58, fever .32, sick household contact .42,
        suspect food eaten .3, loss of appetite .5, fatigue .3, headache .2, body aches .2, chills .2"""),
    _condition("cystitis", "urinary tract", "routine", 6, 0.93, (12, 32, 90), (0.05, 0.9, 0.05, 0), """
        burning on urination .88, frequent urination .78, urinary urgency .65, abdominal pain .35,
        leukocytes in urine .5, blood in urine .28, night-time urination .25, fever .03"""),
    _condition("pyelonephritis", "urinary tract", "urgent", 3, 0.85, (10, 34, 88), (0.1, 0.88, 0.02, 0), """
        fever .85, flank pain .78, chills .58, flank tenderness .6, burning on urination .52,
        frequent urination .42, nausea .45, vomiting .35, leukocytes in urine .5, raised CRP .35,
        rapid heart rate .35, raised white cell count .3"""),
    _condition("kidney stone", "urinary tract", "urgent", 4, 0.36, (18, 45, 82), (0.75, 0.25, 0, 0), """
        flank pain .9, pain radiating to the groin .62, nausea .55, vomiting .42, blood in urine .55,
        sweating .25, flank tenderness .3, frequent urination .18, urinary urgency .18, rapid heart rate .2,
        abdominal pain .2"""),
    _condition("benign prostatic hyperplasia", "prostate", "routine", 4, 0, (46, 70, 93), (0, 0, 0.2, 0.8), """
        weak urine stream .82, night-time urination .72, frequent urination .58, urinary urgency .42,
        poor sleep .2, high blood pressure .4, burning on urination .05, fatigue .12"""),
    _condition("migraine", "nerves", "routine", 6, 0.75, (8, 32, 68), (0.6, 0.3, 0, 0.1), """
        throbbing one-sided headache .75, headache .3, nausea .62, light sensitivity .7, vomiting .3,
        visual aura .25, blurred vision .15, stress at work .2, poor sleep .2, neck stiffness .05, fatigue .15"""),
    _condition("ischemic stroke", "nerves", "emergency", 4, 0.49, (36, 74, 97), (0.9, 0.1, 0, 0), """
        one-sided weakness .78, speech difficulty .6, facial droop .58, numbness on one side .38, confusion .2,
        high blood pressure .65, irregular heartbeat .28, raised blood pressure .55, smoker .28,
        high cholesterol .38, blurred vision .15, headache .15"""),
    _condition("bacterial meningitis", "nerves", "emergency", 2, 0.47, (0.3, 18, 82), (0.4, 0.6, 0, 0), """
        fever .88, headache .82, neck stiffness .72, confusion .48, vomiting .45, light sensitivity .42,
        rash of small red spots .3, rapid heart rate .4, raised white cell count .35, raised CRP .35, chills .3,
        nausea .3"""),
    _condition("type 2 diabetes", "hormones", "routine", 6, 0.46, (26, 56, 88), (0, 0, 0.35, 0.65), """
        excessive thirst .68, frequent urination .68, fatigue .55, blurred vision .35, obesity .62,
        weight loss .25, high glucose .5, high blood pressure .5, high cholesterol .42, night-time urination .35,
        skin break on the foot .12"""),
    _condition("hypothyroidism", "hormones", "routine", 5, 0.84, (18, 52, 85), (0, 0, 0.15, 0.85), """
        fatigue .82, weight gain .6, cold intolerance .6, constipation .48, dry skin .55, hair loss .38,
        low mood .3, slow pulse .32, heavy periods .2, enlarged thyroid .22, leg swelling .12, body aches .15,
        high cholesterol .2"""),
    _condition("Graves disease", "hormones", "urgent", 2, 0.82, (16, 40, 72), (0, 0, 0.35, 0.65), """
        palpitations .68, weight loss .62, heat intolerance .55, tremor .58, sweating .42, rapid heart rate .58,
        enlarged thyroid .48, poor sleep .35, fatigue .42, diarrhea .2, hair loss .18"""),
    _condition("gout", "joints", "routine", 4, 0.22, (28, 58, 90), (0.35, 0.62, 0.03, 0), """
        red hot toe joint .8, regular beer and red meat .48, obesity .42, high blood pressure .48,
        raised uric acid .48, knee pain .15, fever .12, raised CRP .2, joint pain in the hands .08"""),
    _condition("rheumatoid arthritis", "joints", "routine", 3, 0.73, (20, 52, 82), (0, 0, 0.3, 0.7), """
        joint pain in the hands .85, morning stiffness .75, swollen finger joints .65, fatigue .5, knee pain .22,
        raised CRP .4, weight loss .15, smoker .28, anemia on blood count .2, poor sleep .15"""),
    _condition("iron deficiency anemia", "blood", "routine", 5, 0.78, (12, 38, 85), (0, 0, 0.3, 0.7), """
        fatigue .85, pallor .58, shortness of breath .42, palpitations .28, heavy periods .5,
        anemia on blood count .5, headache .22, hair loss .25, cold intolerance .15, vegetarian diet .2,
        rapid heart rate .2"""),
    _condition("major depression", "mind", "urgent", 6, 0.64, (14, 36, 82), (0, 0, 0.4, 0.6), """
        low mood .9, loss of interest .75, poor sleep .68, fatigue .6, feeling worthless .5, loss of appetite .4,
        weight loss .2, weight gain .15, stress at work .35, headache .15"""),
)
# fmt: on

"""The findings of the built-in patients: kind, frequency by chance, ages, and ways to say each of them.

Plain data written for this project from general medical knowledge. The frequencies are for teaching a small model and
testing a pipeline; they are not epidemiology, and nobody should be treated by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distmed.cases.case import Sex

FindingKind = Literal["symptom", "sign", "history", "test"]


@dataclass(frozen=True)
class Finding:
    """`base`: frequency in those whose disease does not cause it; `ages`: years in which it can be told or can occur.

    The first two phrases can be denied ("no fever"); a third may be a measured value, which cannot.
    """

    name: str
    kind: FindingKind
    base: float
    phrases: tuple[str, ...]
    ages: tuple[float, float]


def _table(kind: FindingKind, lines: str) -> dict[str, Finding]:
    """Lines of `name | base | other wordings, … | from age | to age`."""
    findings = {}
    for line in lines.strip().splitlines():
        name, base, wordings, start, end = (cell.strip() for cell in line.split("|"))
        phrases = (name, *(wording.strip() for wording in wordings.split(",") if wording.strip()))
        findings[name] = Finding(name, kind, float(base), phrases, (float(start or 0), float(end or 120)))
    return findings


FINDINGS: dict[str, Finding] = {
    **_table(
        "symptom",
        """
        abdominal pain             | .04  | belly pain, stomach ache                                      | 3 |
        blurred vision             | .02  | hazy vision, blurry sight                                 | 5 |
        body aches                 | .04  | muscle aches, myalgia                                         | 4 |
        burning on urination       | .01  | dysuria, pain on passing urine                                | 3 |
        calf pain                  | .01  | painful calf                                                  | 10 |
        chest pain                 | .03  | chest tightness, pressure in the chest                        | 8 |
        chest pain on breathing    | .01  | pleuritic chest pain, pain with a deep breath          | 8 |
        chills                     | .03  | shivering, rigors                                             | 3 |
        cold intolerance           | .01  | sensitivity to cold, always feeling cold                           | 12 |
        confusion                  | .01  | disorientation, confused behavior                                  | 10 |
        constipation               | .05  | hard stools, infrequent stools                                | 1 |
        cough                      | .08  | coughing                                                      |   |
        diarrhea                   | .03  | loose stools, watery stools                                   |   |
        ear pain                   | .01  | earache, pulling at the ear                                   |   |
        excessive thirst           | .01  | polydipsia, constant thirst                                    | 5 |
        facial droop               | .002 | drooping face, mouth hanging on one side      | 15 |
        fatigue                    | .12  | tiredness, low energy                                         | 5 |
        feeling worthless          | .01  | feelings of guilt, low self-esteem                      | 12 |
        flank pain                 | .01  | pain in the side, loin pain                                   | 8 |
        frequent urination         | .05  | urinary frequency, passing urine often                        | 5 |
        hair loss                  | .03  | thinning hair, hair falling out                               | 15 |
        headache                   | .09  | aching head, cephalgia                                         | 5 |
        heartburn                  | .05  | acid reflux after meals, burning behind the breastbone        | 12 |
        heat intolerance           | .01  | sensitivity to heat, always feeling hot                         | 12 |
        joint pain in the hands    | .03  | painful finger joints, aching knuckles                        | 18 |
        knee pain                  | .05  | painful knee, sore knee                                       | 12 |
        leg swelling               | .04  | swollen ankles, ankle edema                                   | 18 |
        light sensitivity          | .01  | photophobia, eyes hurting in light                             | 6 |
        loss of appetite           | .05  | poor appetite, eating little                                |   |
        loss of interest           | .02  | anhedonia, lost pleasure in hobbies                             | 12 |
        low mood                   | .05  | feeling down, sadness                                         | 10 |
        morning stiffness          | .03  | stiff joints in the morning, stiffness over an hour on waking | 18 |
        nausea                     | .05  | feeling sick to the stomach, queasy                           | 5 |
        neck stiffness             | .005 | stiff neck, rigid neck                              | 2 |
        night-time urination       | .06  | nocturia, getting up at night to urinate                         | 15 |
        numbness on one side       | .003 | one-sided tingling, hemisensory loss                          | 15 |
        one-sided weakness         | .002 | hemiparesis, weak arm and leg on one side                     | 15 |
        orthopnea                  | .005 | breathlessness lying flat, sleeping on three pillows           | 30 |
        pain moving to the right lower belly | .003 | migrating abdominal pain, pain moving right from the navel | 4 |
        pain radiating to the arm  | .003 | pain spreading to the left arm, pain into arm and jaw         | 25 |
        pain radiating to the groin | .004 | pain shooting to the groin, loin to groin pain               | 15 |
        pain under the right ribs  | .01  | right upper belly pain, right upper quadrant pain             | 15 |
        palpitations               | .03  | racing heart, heart pounding                                  | 10 |
        poor sleep                 | .08  | insomnia, trouble sleeping                                    | 10 |
        red hot toe joint          | .003 | swollen red big toe, big toe too sore for a sheet             | 25 |
        runny nose                 | .05  | rhinorrhea, blocked nose                                      |   |
        shortness of breath        | .04  | breathlessness, dyspnea                                           | 3 |
        sneezing                   | .04  | bouts of sneezing                                                 | 1 |
        sore throat                | .04  | throat pain, pain on swallowing                               | 3 |
        sour taste                 | .01  | acid taste in the mouth, regurgitation                        | 12 |
        speech difficulty          | .003 | slurred speech, trouble finding words                         | 15 |
        sputum                     | .03  | productive cough, bringing up phlegm                          | 12 |
        sweating                   | .03  | cold sweat, clammy skin                                            | 12 |
        throbbing one-sided headache | .01 | pulsating headache on one side, hemicranial pain             | 8 |
        tremor                     | .01  | shaky hands, trembling                                        | 15 |
        urinary urgency            | .03  | sudden urge to urinate, rushing to the toilet             | 8 |
        visual aura                | .003 | zigzag lines before the eyes, flashing lights                 | 8 |
        vomiting                   | .03  | throwing up, emesis                                           |   |
        weak urine stream          | .02  | hesitancy, dribbling after urination                          | 35 |
        weight gain                | .05  | gained weight, putting on weight                              | 15 |
        weight loss                | .03  | weight decline, lost weight without trying                     | 12 |
        """,
    ),
    **_table(
        "sign",
        """
        bulging eardrum            | .003 | red bulging tympanic membrane, eardrum red and dull           |   |
        crackles                   | .02  | rales, crackling over the lung base                           |   |
        dry skin                   | .04  | rough dry skin                                                | 10 |
        enlarged thyroid           | .01  | goiter, thyroid swelling                                      | 15 |
        fever                      | .03  | raised temperature, temperature of 38.6                       |   |
        flank tenderness           | .005 | costovertebral angle tenderness, tenderness over the kidney       | 5 |
        low oxygen saturation      | .01  | hypoxia, saturation of 90 percent                             |   |
        pallor                     | .02  | pale conjunctivae, pale appearance                                 |   |
        raised blood pressure      | .12  | hypertensive reading, blood pressure 160/95                   | 20 |
        rapid breathing            | .02  | tachypnea, respiratory rate of 28                             |   |
        rapid heart rate           | .05  | tachycardia, pulse of 115                                     |   |
        rash of small red spots    | .003 | petechiae, purpura                                            |   |
        raised neck veins          | .004 | jugular venous distension, elevated jugular pressure          | 25 |
        red swollen skin           | .005 | spreading redness, warm red skin with a sharp edge | 10 |
        rebound tenderness         | .004 | guarding, tenderness at McBurney point                            | 4 |
        slow pulse                 | .01  | bradycardia, pulse of 50                                      | 15 |
        swollen finger joints      | .006 | synovitis of the hands, boggy finger joints                   | 18 |
        swollen neck glands        | .02  | cervical lymph nodes, tender neck nodes                       | 1 |
        tender right upper belly   | .006 | positive Murphy sign, pain on pressing under the right ribs   | 15 |
        tonsillar exudate          | .004 | white patches on the tonsils, pus on the tonsils              | 2 |
        wheezing                   | .02  | wheeze, whistling breath                                      |   |
        """,
    ),
    **_table(
        "history",
        """
        childhood eczema           | .06  | atopic eczema, atopic skin                                    |   |
        family history of heart disease | .10 | heart disease in the family, father with a heart attack     | 18 |
        onset after fatty meals    | .02  | worse after fried food, pain after a rich meal               | 15 |
        hay fever                  | .10  | seasonal allergies, allergic rhinitis                         | 4 |
        heavy periods              | .08  | menorrhagia, long heavy periods                                | 13 | 52
        high blood pressure        | .20  | hypertension, HTN                                             | 30 |
        high cholesterol           | .14  | hyperlipidemia, raised cholesterol                            | 30 |
        sick household contact     | .06  | sick contact at home, others at home with the same illness     |   |
        irregular heartbeat        | .04  | atrial fibrillation, AF                                       | 45 |
        obesity                    | .18  | marked overweight, BMI of 33                                  | 10 |
        recent cold                | .06  | cold last week, upper airway infection recently               |   |
        recent surgery or long travel | .02 | hip operation last month, long-haul flight last week        | 18 |
        regular beer and red meat  | .08  | heavy beer drinker, rich diet with alcohol                    | 20 |
        skin break on the foot     | .03  | athlete's foot, small cut on the leg                          | 10 |
        smoker                     | .18  | tobacco use, one pack a day                            | 18 |
        stress at work             | .08  | recent bereavement, job loss                                  | 18 |
        suspect food eaten         | .02  | buffet meal yesterday, shared meal that made others ill        | 1 |
        vegetarian diet            | .04  | meat-free diet                                                  | 5 |
        """,
    ),
    **_table(
        "test",
        """
        anemia on blood count      | .02  | low hemoglobin, hemoglobin of 9                               |   |
        blood in urine             | .01  | hematuria, red cells on dipstick                              | 3 |
        high glucose               | .03  | glucose of 240, raised blood sugar                            | 5 |
        infiltrate on chest film   | .006 | consolidation on X-ray, lobar opacity                         |   |
        leukocytes in urine        | .01  | positive nitrite, pyuria                                      | 1 |
        raised CRP                 | .04  | high inflammatory markers, CRP of 90                          |   |
        raised troponin            | .004 | positive troponin, troponin leak                              | 20 |
        raised uric acid           | .03  | high urate, urate of 9                                        | 20 |
        raised white cell count    | .03  | leukocytosis, white cells of 15                               |   |
        ST changes on ECG          | .006 | ST elevation, ischemic ECG changes                            | 20 |
        """,
    ),
}

ONLY: dict[str, Sex] = {"heavy periods": "female", "weak urine stream": "male"}
"""Findings that one sex can have."""

OPPOSITES = {
    a: b
    for pair in (
        ("cold intolerance", "heat intolerance"),
        ("constipation", "diarrhea"),
        ("rapid heart rate", "slow pulse"),
        ("weight gain", "weight loss"),
    )
    for a, b in (pair, pair[::-1])
}
"""No patient has both."""

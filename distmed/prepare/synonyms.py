"""Medical synonyms: abbreviations with their long forms, and words that mean the same, swapped in a text.

Plain data written for this project, and the function that uses it. A long form may always be shortened; a short form is
spelled out only where it has one meaning in clinical English (PE is also a physical examination, RA also room air).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ABBREVIATIONS = """
AAA = abdominal aortic aneurysm
ABPM = ambulatory blood pressure monitoring
ACEI = angiotensin-converting enzyme inhibitor
ACS ~ acute coronary syndrome
ADHD = attention deficit hyperactivity disorder
AF ~ atrial fibrillation
AIDS = acquired immunodeficiency syndrome
AKI = acute kidney injury
ALL ~ acute lymphoblastic leukemia
ALS ~ amyotrophic lateral sclerosis
ALT ~ alanine aminotransferase
AML ~ acute myeloid leukemia
ANA ~ antinuclear antibodies
ARDS = acute respiratory distress syndrome
ARF ~ acute renal failure
AS ~ aortic stenosis
ASD ~ atrial septal defect
AST ~ aspartate aminotransferase
AVM ~ arteriovenous malformation
BMI = body mass index
BNP = brain natriuretic peptide
BP ~ blood pressure
BPH = benign prostatic hyperplasia
BPPV = benign paroxysmal positional vertigo
BUN = blood urea nitrogen
CABG = coronary artery bypass grafting
CAD ~ coronary artery disease
CAP ~ community-acquired pneumonia
CBC = complete blood count
CF ~ cystic fibrosis
CHF = congestive heart failure
CKD = chronic kidney disease
CLL = chronic lymphocytic leukemia
CML = chronic myeloid leukemia
CNS = central nervous system
COPD = chronic obstructive pulmonary disease
CRP = C-reactive protein
CSF = cerebrospinal fluid
CVA ~ cerebrovascular accident
CXR = chest X-ray
DIC = disseminated intravascular coagulation
DKA = diabetic ketoacidosis
DM ~ diabetes mellitus
DMD ~ Duchenne muscular dystrophy
DVT = deep vein thrombosis
ECG = electrocardiogram
ECMO = extracorporeal membrane oxygenation
EEG = electroencephalogram
EGD = esophagogastroduodenoscopy
EMG = electromyography
ENT = ear, nose and throat
ERCP = endoscopic retrograde cholangiopancreatography
ESR = erythrocyte sedimentation rate
ESRD = end-stage renal disease
FSGS = focal segmental glomerulosclerosis
FUO = fever of unknown origin
GBS ~ Guillain-Barré syndrome
GCS = Glasgow coma scale
GERD = gastroesophageal reflux disease
GFR = glomerular filtration rate
GI ~ gastrointestinal
GU ~ genitourinary
HAV = hepatitis A virus
HbA1c = glycated hemoglobin
HBV = hepatitis B virus
HCC ~ hepatocellular carcinoma
HCM ~ hypertrophic cardiomyopathy
HCV = hepatitis C virus
HELLP = hemolysis, elevated liver enzymes and low platelets
HIV = human immunodeficiency virus
HPV = human papillomavirus
HSV = herpes simplex virus
HTN = hypertension
HUS ~ hemolytic uremic syndrome
IBD = inflammatory bowel disease
IBS = irritable bowel syndrome
ICP ~ intracranial pressure
ICU = intensive care unit
INR ~ international normalized ratio
ITP ~ immune thrombocytopenia
IUGR = intrauterine growth restriction
JIA = juvenile idiopathic arthritis
JVD = jugular venous distension
LBBB = left bundle branch block
LDH ~ lactate dehydrogenase
LVEF = left ventricular ejection fraction
LVH = left ventricular hypertrophy
MDD ~ major depressive disorder
MI ~ myocardial infarction
MR ~ mitral regurgitation
MRI = magnetic resonance imaging
MRSA = methicillin-resistant Staphylococcus aureus
MS ~ multiple sclerosis
MVP ~ mitral valve prolapse
NAFLD = nonalcoholic fatty liver disease
NSAID = nonsteroidal anti-inflammatory drug
NSTEMI = non-ST-elevation myocardial infarction
OA ~ osteoarthritis
OCD ~ obsessive-compulsive disorder
OSA = obstructive sleep apnea
PAD ~ peripheral artery disease
PCI ~ percutaneous coronary intervention
PCOS = polycystic ovary syndrome
PDA ~ patent ductus arteriosus
PE ~ pulmonary embolism
PFT ~ pulmonary function test
PID ~ pelvic inflammatory disease
PKU = phenylketonuria
PMR ~ polymyalgia rheumatica
PTSD = post-traumatic stress disorder
RA ~ rheumatoid arthritis
RBBB = right bundle branch block
RBC ~ red blood cell
RSV = respiratory syncytial virus
SBP ~ systolic blood pressure
SIADH = syndrome of inappropriate antidiuretic hormone secretion
SLE = systemic lupus erythematosus
SMA ~ spinal muscular atrophy
SOB ~ shortness of breath
STEMI = ST-elevation myocardial infarction
SVT = supraventricular tachycardia
TB ~ tuberculosis
TBI ~ traumatic brain injury
TIA = transient ischemic attack
TSH = thyroid-stimulating hormone
TTP ~ thrombotic thrombocytopenic purpura
UC ~ ulcerative colitis
URI = upper respiratory infection
UTI = urinary tract infection
VSD = ventricular septal defect
VT ~ ventricular tachycardia
VTE = venous thromboembolism
WBC ~ white blood cell
WPW = Wolff-Parkinson-White syndrome
"""
"""`=`: swapped both ways; `~`: only from the long form to the short one, which has other meanings too."""

_SYNONYMS = """
abdominal pain = belly pain
arthralgia = joint pain
asthenia > weakness
athlete's foot > tinea pedis
blood in the urine = hematuria
black tarry stools = melena
breathlessness when lying flat = orthopnea
breathlessness > dyspnea
cephalalgia > headache
chickenpox > varicella
cholelithiasis = gallstones
coughing up blood = hemoptysis
difficulty swallowing = dysphagia
double vision = diplopia
dry mouth = xerostomia
dyspnea = shortness of breath
dysuria = painful urination
ear pain = otalgia
ecchymosis > bruise
emesis > vomiting
enuresis = bedwetting
epistaxis = nosebleed
excessive sweating = hyperhidrosis
excessive thirst = polydipsia
excessive urination = polyuria
farsightedness = hyperopia
feverish > febrile
hair loss > alopecia
heartburn = pyrosis
heavy menstrual bleeding = menorrhagia
high blood pressure > hypertension
high blood sugar = hyperglycemia
high cholesterol > hypercholesterolemia
hives > urticaria
icterus > jaundice
influenza > flu
itching > pruritus
kidney stones = nephrolithiasis
loss of appetite > anorexia
low blood pressure > hypotension
low blood sugar = hypoglycemia
low platelets = thrombocytopenia
lockjaw > trismus
muscle pain = myalgia
nearsightedness = myopia
night-time urination = nocturia
painful menstruation = dysmenorrhea
painful sex = dyspareunia
painful swallowing = odynophagia
paresthesia > tingling
pink eye > conjunctivitis
pyrexia > fever
rapid breathing > tachypnea
rapid heart rate > tachycardia
rectal bleeding > hematochezia
redness of the skin > erythema
ringing in the ears = tinnitus
runny nose > rhinorrhea
sensitivity to light = photophobia
shingles > herpes zoster
sleepiness = somnolence
slow heart rate > bradycardia
sore throat > pharyngitis
swollen lymph nodes > lymphadenopathy
syncope = fainting
vomiting of blood = hematemesis
whooping cough > pertussis
"""
"""`=`: the same, swapped both ways; `>`: not turned back, for the right is wider, or part of other names (yellow fever)."""


def _table() -> tuple[dict[str, str], dict[str, str]]:
    """From short forms (as they are written) and from words (in lower case) to what may stand in their place."""
    short: dict[str, str] = {}
    words: dict[str, str] = {}
    for line in _ABBREVIATIONS.strip().splitlines():
        left, sign, right = re.split(r" ([=~]) ", line)
        words[right.lower()] = left
        if sign == "=":
            short[left] = right
    for line in _SYNONYMS.strip().splitlines():
        left, sign, right = re.split(r" ([=>]) ", line)
        words.setdefault(left, right)
        if sign == "=":
            words.setdefault(right, left)
    return short, words


SHORT, WORDS = _table()

_FORMS = re.compile(
    r"(?<![\w-])(?P<article>[Aa]n? )?(?:(?P<short>{})|(?P<word>(?i:{})))(?![\w-])".format(
        *("|".join(map(re.escape, sorted(table, key=len, reverse=True))) for table in (SHORT, WORDS))
    )
)
_SPELLED_WITH_A_VOWEL = frozenset("AEFHILMNORSX")
_AN = re.compile(r"[aeio]|u(?!rin|ni|ro)|hour", re.IGNORECASE)


def swapped(text: str, uniform: Callable[[], float]) -> str:
    """The text with about half of the known forms in other words; `uniform` draws from [0, 1), once for each form found."""

    def swap(match: re.Match[str]) -> str:
        if uniform() < 0.5:
            return match[0]
        if match["short"]:
            new = SHORT[match["short"]]
        else:
            new = WORDS[match["word"].lower()]
            if match["word"][0].isupper():
                new = new[0].upper() + new[1:]
        if match["article"] is None:
            return new[0].upper() + new[1:] if match["short"] and _begins(text, match.start()) else new
        return f"{match['article'][0]}{'n' if _takes_an(new) else ''} {new}"

    return _FORMS.sub(swap, text)


def _begins(text: str, at: int) -> bool:
    """Whether a sentence or a list item begins there."""
    before = text[:at].rstrip(" ")
    return not before or before[-1] in ".!?\n"


def _takes_an(word: str) -> bool:
    first = word.split()[0]
    if sum(letter.isupper() for letter in first) > 1 and first != "STEMI":
        return first[0] in _SPELLED_WITH_A_VOWEL
    return _AN.match(word) is not None

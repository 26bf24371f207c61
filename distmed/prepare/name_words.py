"""Words that decide about names: what is never a name, what is one only within a sentence, and common given names.

Plain data written for this project, for `names.py`.
"""

from __future__ import annotations

_NOT_NAMES = """
a an and the or of for to in on at by with from as is was were are be been has have had this that these those he she
they it his her their him them we i you who which not no yes none nil also but if then than so per via monday tuesday
wednesday thursday friday saturday sunday january february march   july  september october november
december today tomorrow yesterday date time age sex gender male female dob mrn ssn phone tel fax email address zip
city state home cell work number no. id name patient pt pts mr mrs ms dr md do rn np pa phd hospital clinic center
centre medical health department unit ward room floor emergency er ed icu or office service services surgery surgical
medicine internal family pediatric pediatrics cardiology oncology neurology nephrology urology radiology pathology
psychiatry dermatology gastroenterology endocrinology rheumatology hematology pulmonology orthopedics ophthalmology
obstetrics gynecology anesthesia anesthesiology infectious critical care primary physician provider attending
consultant resident nurse practitioner assistant doctor surgeon specialist therapist pharmacist manager worker
director chief staff team history present illness chief complaint past social review systems physical examination exam
assessment plan impression findings medications medication allergies allergy vitals vital signs labs laboratory
results imaging procedure procedures diagnosis diagnoses discharge admission admitted discharged summary note notes
report reports consult consultation progress follow followup visit presents presented presenting reports reported
denies denied states stated complains complained describes described endorses notes noted alive deceased dead died
healthy well unknown living diabetes hypertension cancer stroke asthma copd heart disease attack failure alert awake
oriented stable normal abnormal negative positive acute chronic mild moderate severe left right bilateral upper lower
lives works smokes drinks uses quit married single divorced widowed retired employed unemployed disabled education
educational blood pressure pulse temperature respiratory respirations oxygen saturation weight height bmi rate rhythm
pain fever cough chest abdominal head neck back skin eyes ears nose throat lungs abdomen extremities neuro
neurological psychiatric general constitutional cardiovascular gastrointestinal genitourinary musculoskeletal heent
hpi pmh psh fh sh ros pe cc a&p x-ray ct mri ekg ecg ultrasound echo echocardiogram scan biopsy culture cultures urine
urinalysis serum glucose hemoglobin platelet platelets count creatinine sodium potassium calcium troponin insulin
metformin lisinopril aspirin warfarin heparin vitamin tablet capsule dose unit units daily twice weekly monthly please
thank thanks dear sincerely regards respectfully re regarding attn status code full advance directive directives power
attorney proxy insurance medicare medicaid member policy group account stage grade type class level score scale index
test tests screen screening therapy treatment regimen protocol trial study january-february english spanish french
mandarin hispanic caucasian african american asian    interpreter nausea vomiting diarrhea headache
dizziness fatigue weakness dyspnea edema rash seizure seizures syncope anxiety depression dementia pneumonia sepsis
infection anemia obesity arthritis osteoporosis hyperlipidemia hypothyroidism cirrhosis hepatitis street avenue road
lane drive boulevard court way place apt suite north south east west united states when while after before during
since until because although however therefore given due secondary likely possible probable  would can could
should must shall might  be being do does did done let recommend recommended recommends recommendation
recommendations continue continued start started stop stopped increase decrease agree agreed agrees advised advises
called calls spoke discussed reviewed signed dictated transcribed electronically authenticated verified new old year
years month months week weeks day days hour hours minute minutes ago later appears appeared remains remained underwent
received receives takes took taking tolerated first last middle next previous prior other both all any each every some
many most more less contact contacts relationship relation spouse husband wife mother father son daughter brother
sister parent guardian evaluation management operative preoperative postoperative anesthetic specimen gross
microscopic comment comments addendum final wound nursing respiratory-therapy therapy occupational speech case manager
social worker transfer transferred congestive coronary artery bypass atrial fibrillation myocardial infarction
pulmonary embolism deep vein thrombosis renal kidney hepatic liver breast lung colon prostate thyroid brain spine bone
joint knee hip shoulder ankle wrist elbow hand foot bowel bladder sounds murmur murmurs gallop gallops rub rubs
wheezes rales rhonchi tenderness guarding rebound masses brand generic drug drugs drip infusion injection intravenous
oral topical sublingual intramuscular subcutaneous pressure hg mm mg ml mcg kg cm bpm
"""
NOT_NAMES = frozenset(_NOT_NAMES.split())
"""In lower case. A name ends before such a word, so "Dr. Lee Cardiology" gives "Lee"."""

_PHRASE_WORDS = """
of pain pains ache aches fever chills cough breath breathing bleeding bleed swelling vomiting nausea diarrhea rash itching
burning weakness numbness tingling stiffness tightness shortness dizziness fatigue injury injuries trauma falls
fracture fractures ulcer ulcers lesion lesions nodule nodules infection infections failure arrest attack
stroke seizure seizures palpitations headache headaches disease syndrome disorder dystrophy cancer tumor edema pressure
pressures enzymes markers monitoring stress imaging scan scans study studies test tests testing workup
antibiotics steroids insulin heparin fluids contrast tenderness spasm spasms cramps soreness fullness congestion
accident overdose muscular cardiac abdominal rectal vaginal thoracic lumbar cervical pelvic cranial
allergy allergies catheter catheters tube tubes drain drains culture cultures graft grafts precautions isolation
"""
PHRASE_WORDS = frozenset(_PHRASE_WORDS.split())
"""In lower case. Words of complaints, tests and treatments, which headings and forms write with capitals as names are."""

_NOT_ALONE = """
present pending available same self self-pay deferred applicable aware notified see above below attached telephone telehealth
psych peds ortho neuro cards onc rehab trauma hospitalist team covering rotating none unassigned assigned yes tbd consented
said says told tells asked asks wants thinks thought saw sees gave gives came went here there out back just really still very
gone knows knew felt feels made makes sent hello hi hey okay ok sure yeah yep nope oh ah um uh mm hmm wow great alright sorry
right absolutely exactly perfect excellent fine bye welcome elective emergent urgent born delivered relapse flare triage
"""
NOT_ALONE = frozenset(_NOT_ALONE.split())
"""In lower case. What follows a label or a title in the place of a name, and is none."""

_ABBREVIATIONS = """
ali ana art ash cam das gad ham hus ida lam mac mai pan pat ros sah tam tia
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""In lower case. Names that in capitals are also diseases, tests or drugs."""

_AMBIGUOUS = """
may will mark grant rose hope grace chase bill art drew price young brown green long short small little rich hand foot
head day summer cook baker hunter fisher carpenter mason cooper taylor miller law lane park parks field fields wood
woods stone rivers brooks banks hill ford wells west north best good goodman noble sharp strong swift frank ernest
rusty ruby amber pearl ivy iris violet daisy lily olive robin jay drake fox wolf bear bush berry cherry bell ball
cross church bishop pope king prince knight duke earl judge major sergeant love joy faith charity chance lucky star
sunny sky storm frost snow winter autumn spring rain cloud gray grey black white gold silver dean page read sage case
curry rice lamb bacon burns payne pain moody gross savage cash bond booth cole gene guy pat sue nick rob bob peg dale
glen heath cliff forest marsh meadows miles march june april august dawn eve weeks holiday friday monday temple castle
house barnes hall waters pool lake ocean bay shore beach port graves wilson parkinson addison cushing crohn down
marfan turner paget hodgkin barrett grave
"""
AMBIGUOUS = frozenset(_AMBIGUOUS.split())
"""In lower case. Family and given names that are also words, or eponyms: alone they are replaced only within a sentence."""

GIVEN = (
    "James|Robert|John|Michael|David|William|Richard|Joseph|Thomas|Christopher|Charles|Daniel|Matthew|Anthony|Donald|Steven|Paul|Andrew|"
    "Joshua|Kenneth|Kevin|Brian|Timothy|Ronald|Jason|George|Edward|Jeffrey|Ryan|Jacob|Nicholas|Gary|Eric|Jonathan|Stephen|Larry|Justin|"
    "Scott|Brandon|Benjamin|Samuel|Gregory|Alexander|Patrick|Raymond|Dennis|Jerry|Tyler|Aaron|Jose|Adam|Nathan|Henry|Zachary|Douglas|Peter|"
    "Kyle|Noah|Ethan|Jeremy|Walter|Christian|Keith|Roger|Terry|Gerald|Harold|Sean|Carl|Arthur|Lawrence|Jesse|Bryan|Billy|Bruce|Gabriel|"
    "Joe|Logan|Alan|Juan|Albert|Willie|Elijah|Wayne|Randy|Vincent|Mason|Roy|Ralph|Bobby|Russell|Bradley|Philip|Eugene|Carlos|Luis|Miguel|"
    "Mary|Patricia|Jennifer|Linda|Elizabeth|Barbara|Susan|Jessica|Karen|Sarah|Lisa|Nancy|Sandra|Ashley|Emily|Kimberly|Betty|Margaret|Donna|"
    "Michelle|Carol|Amanda|Melissa|Deborah|Stephanie|Rebecca|Sharon|Laura|Cynthia|Dorothy|Amy|Kathleen|Angela|Shirley|Brenda|Emma|Anna|"
    "Pamela|Nicole|Samantha|Katherine|Christine|Helen|Debra|Rachel|Carolyn|Janet|Maria|Catherine|Heather|Diane|Olivia|Julie|Joyce|Ruth|"
    "Virginia|Victoria|Kelly|Lauren|Christina|Joan|Evelyn|Judith|Andrea|Hannah|Megan|Cheryl|Jacqueline|Martha|Madison|Teresa|Gloria|Sara|"
    "Janice|Ann|Anne|Kathryn|Abigail|Sophia|Frances|Jean|Alice|Judy|Isabella|Julia|Denise|Beverly|Amber|Theresa|Danielle|Marilyn|Brittany|"
    "Diana|Natalie|Charlotte|Marie|Kayla|Alexis|Lori|Rosa|Carmen|Ana|Fatima|Mohammed|Mohamed|Muhammad|Ahmed|Ali|Omar|Hassan|Ibrahim|Wei|"
    "Priya|Raj|Anil|Sunita|Ravi|Yuki|Kenji|Hiroshi|Olga|Ivan|Dmitri|Svetlana|Hans|Klaus|Ingrid|Sven|Pierre|Jacques|Giovanni|Giulia|Sofia|"
    "Bob|Jim|Tom|Tim|Mike|Dave|Steve|Matt|Tony|Greg|Jeff|Chris|Liz|Kate|Katie|Lucy|Jane|Sally|Peggy|Debbie"
)

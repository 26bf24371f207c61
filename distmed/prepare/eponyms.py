"""Eponyms: a name that belongs to a disease, a sign or an instrument, and to no person of the case.

A place in a text flows in, a yes or no flows out. The words are plain data written for this project.
"""

from __future__ import annotations

import regex

_DISCOVERED = (
    r"disease|syndrome|signs?|test|score|scale|criteria|classification|palsy|phenomenon|dystrophy|anomaly|malformation|"
    r"lymphoma|sarcoma|ataxia|chorea|contracture|esophagus|thyroiditis|ophthalmopathy|orbitopathy|dermatopathy|nodes?|nodules?|"
    r"bodies|triad|tetralogy|maneuver|manoeuvre|reflex|pupil|rings?|spots?|stain|staging|method|equation|formula|index|"
    r"law|deformity|diverticulum|duct|canal|tubercle|purpura|arteritis|vasculitis|granuloma|granulomatosis|plot|curve|"
    r"oxybarbiturate|solution|lactate|spotted fever|virus|bacillus|parkinsonism|loop"
)
"""What is called after those who described it."""
_ANYBODYS = (
    r"tumou?r|carcinoma|fracture|ulcer|body|cells?|procedure|operation|repair|lines?|culture|catheter|tube|drain|stage|grade|"
    r"response|reaction|nephropathy|neuropathy|encephalopathy|cirrhosis|hernia|glands?|tendon|position|respiration|breathing|"
    r"murmur|pulse|block|waves?|psychosis|aphasia|area|fever|patch|hearing|abdomen|gangrene|paralysis|neuralgia|"
    r"migraine|transformation|osteotomy|arthroplasty|gastrectomy|pouch|shunt|graft"
)
"""What patients have as well: an eponym stands directly before it, without "'s"."""
_GAP = r"(?:[^\S\n]|-|\n(?=\p{Ll}))"
_NO_ADJECTIVE = (
    r"(?i:an?|the|any|some|no|not|and|or|of|for|to|on|in|at|with|by|as|but|if|is|was|are|were|be|has|had|have|did|does|do|"
    r"can|could|will|would|may|might|should|denies|reports|presents|shows|gives|needs|had|got|his|her|vital|several|serial|"
    r"initial|additional|medical|surgical|physical|clinical|total|final|\p{L}+ed)\b"
)
_ADJECTIVE = (
    rf"(?!{_NO_ADJECTIVE})(?:\p{{Lu}}\p{{L}}*|\p{{Ll}}+(?:ar|al|ic|ous|oid|ive|ary|like|type|plus|form)|cell|eye|s)"
)
_EPONYM = regex.compile(
    rf"(?:['’]s|s['’]|['’]){_GAP}+(?i:{_DISCOVERED})\b|"
    rf"{_GAP}+(?:(?:{_ADJECTIVE}{_GAP}){{0,2}}?(?i:{_DISCOVERED})|(?i:{_ANYBODYS}))\b"
)

_CERTAIN = regex.compile(
    rf"{_GAP}+(?i:disease|syndrome|sign|phenomenon|dystrophy|anomaly|criteria|classification|triad)\b"
)

_EPONYMS = """
adams addison albright alexander alport alzheimer angelman ann apgar arbor argyll arnold asherman asperger auer
babinski baker balint ballard bankart barlow barre barrett barthel bartholin bartter batten bechterew beck becker
beckwith behcet behçet bell bence bennett berger bernard bernstein bethesda billroth binet bishop blalock blumberg
boerhaave bonnet bowen braden bright broca brodie brown brown-sequard bruce brudzinski brugada bruton budd buerger
bunnell burkitt byler caffey canavan caplan carnett caroli castleman cestan chagas charcot charcot-marie-tooth charles
charlson chediak cheyne chiari child christian chvostek clark cobb cockayne cockcroft codman cogan colles conn cooley
coombs cornell corrigan cotton courvoisier cowden creutzfeldt crigler crohn cronkhite cullen curling cushing dandy
danlos darier dercum devic diamond dick dix doppler down dravet dressler duane dubin duchenne duke dukes dupuytren
ebstein edwards ehlers eisenmenger epstein epworth erb erlenmeyer evans ewing fabry fallot fanconi farber felty
finkelstein fisher fitz fleischner foley forrester fournier framingham freiberg friedreich fuchs galeazzi garcin
gardner gaucher gehrig gerstmann gilbert gilles gitelman glasgow gleason goodpasture gorham gorlin gottron gowers
graham gram grave graves grey guillain gunther hailey hallpike hamilton hamman hand hansen harris harrison hartnell
hartnup hashimoto hawkins heberden heinz henoch hirschsprung hodgkin hoehn hoffa hoffman hoffmann holter homan homans
horner howell hunt hunter huntington hurler hutchinson hutchison jackson jacob jacobson janeway jefferson jenner
jervell joseph joubert kallmann kanner kaplan kaposi kartagener kasai kawasaki kayser kearns kehr kennedy kernig
kienbock killip kimmelstiel klatskin klinefelter klippel klumpke koch kocher koplik korsakoff krabbe krukenberg
kugelberg kussmaul köhler lachman lambert landau langerhans larsen lasegue leber legg leigh lennox leopold leriche
lesch levine lewis lewy lhermitte libman liddle likert lisfranc lister little loffler lou louis ludwig lund lyme lynch
löffler machado mallory mantoux marfan marie marjolin martin mary maslow mayer mcardle mcburney mccune mcmurray meckel
meige meigs melkersson mendelson menetrier meniere menkes merkel mirizzi mobitz moebius monteggia morgagni moro
morquio morton mueller munchausen murphy myerson ménière nelson niemann nissen noonan norwood oddi ogilvie ollier
ondine oppenheim ortolani osgood osler osler-weber-rendu paget pancoast papanicolaou parkinson parry patau patrick
pavlov pearson perthes peutz peyronie pfeiffer phalen pick pierre plummer poland pompe pott potter potts prader
prinzmetal quincke ramsay rankin ranson raynaud reed refsum reinke reiter rendu rett reye richter riedel ringer rinne
ritter roberts robin rockall rokitansky romberg rome rorschach roth rothmund rotor roux rovsing rubinstein russell
sachs salter samter sanfilippo schatzki scheie schilling schirmer schlatter schmidt schober schonlein schwann
schönlein seldinger sever sezary sheehan shone sickle silver sims sipple sister sjogren sjögren smith snellen sprengel
spurling stanford stargardt starling stein steinert stevens stickler still stokes strumpell sturge swan sweet sydenham
syme takayasu takotsubo tanner tay thomas thompson thomsen tietze tinel todd tooth tourette treacher trendelenburg
trousseau turcot turner tzanck unna usher valsalva van vater vincent virchow vogt volkmann von waardenburg wada
waldenstrom waldenström wallenberg warthin waterhouse weber wechsler wegener weil wells werdnig wermer werner wernicke
west whipple whitaker white wilkins willebrand willi williams wilms wilson winter wiskott wolf wolff wood woods wright
yates yergason zellweger zenker zollinger
"""
EPONYMS = frozenset(_EPONYMS.split())
"""In lower case."""


def followed_by_eponym_noun(text: str, end: int) -> bool:
    """Whether "disease", "syndrome", "sign", … follows: then an unknown name is a discoverer's."""
    return _EPONYM.match(text, end) is not None


def is_eponym(text: str, start: int, end: int) -> bool:
    """Whether a name of a person in the same text is another's here: one of medicine before such a noun, or any directly
    before "syndrome". "Okoro's disease" is the person's."""
    if _CERTAIN.match(text, end):
        return True
    words = text[start:end].lower().split()
    return bool(words) and words[-1].strip("'’") in EPONYMS and followed_by_eponym_noun(text, end)

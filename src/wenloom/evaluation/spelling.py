"""British spellings made American, by rules and stems, so that either counts as the same word."""

import functools
import re

_OUR = ("arb ard arm behavi cand clam clang col demean discol dishon disfav dol enam endeav fav ferv flav harb hon hum lab "
        "misdemean neighb od parl ranc rig rum sav savi splend succ tum val vap vig").split()  # fmt: skip
"""Beginnings of words in -our, as col(our)."""
_RE = ("accout calib cent epicent fib goit kilomet centimet millimet lit lust louv manoeuv maneuv meag met mit och reconnoit "
       "saltpet sabu scept sep sepulch somb spect theat amphitheat titre").split()  # fmt: skip
"""Beginnings of words in -re, as cent(re)."""
_RE_ENDINGS = {"": "", "s": "s", "d": "ed"}
_DOUBLED = ("apparel bevel cancel carol channel chisel counsel cudgel dial dishevel drivel duel enamel equal fuel funnel "
            "grovel initial jewel kennel label laurel level libel marshal marvel medal metal model panel parcel pedal "
            "pencil quarrel ravel unravel revel rival shovel shrivel signal snivel snorkel spiral squirrel stencil swivel "
            "symbol tassel tinsel total towel travel trowel tunnel weasel yodel worship kidnap").split()  # fmt: skip
"""Words whose last letter is doubled before -ed, -ing and -er."""
_ISE = frozenset(("advertise advise anise appraise apprise arise braise bruise chaise chastise circumcise clockwise compromise "
                  "comprise concise counterclockwise crevise cruise demise despise devise disguise edelweiss enfranchise enterprise "
                  "excise exercise expertise fraise franchise guise improvise incise liaise likewise malaise marquise merchandise "
                  "noise otherwise paradise poise porpoise praise precise premise promise raise reprise revise rise supervise "
                  "surmise surprise televise tortoise treatise turquoise valise vise wise").split())  # fmt: skip
"""Words in -ise that Americans write so, too."""
_STEMS = [
    ("anaesth", "anesth"), ("anaem", "anem"), ("archaeo", "archeo"), ("caesar", "cesar"), ("encyclopaed", "encycloped"), ("faec", "fec"),
    ("foet", "fet"), ("gynaec", "gynec"), ("haem", "hem"), ("leukaem", "leukem"), ("manoeuv", "maneuv"), ("mediaev", "mediev"),
    ("oesoph", "esoph"), ("oestr", "estr"), ("orthopaed", "orthoped"), ("paed", "ped"), ("palaeo", "paleo"), ("diarrhoea", "diarrhea"),
    ("plough", "plow"), ("mould", "mold"), ("smoulder", "smolder"), ("moult", "molt"), ("grey", "gray"), ("sulph", "sulf"),
    ("aluminium", "aluminum"), ("yoghurt", "yogurt"), ("draught", "draft"), ("sceptic", "skeptic"), ("tyre", "tire"), ("gaol", "jail"),
    ("pyjama", "pajama"), ("cheque", "check"), ("programme", "program"), ("storey", "story"), ("jewellery", "jewelry"),
    ("woollen", "woolen"), ("fulfil", "fulfill"), ("skilful", "skillful"), ("wilful", "willful"), ("enrol", "enroll"), ("instal", "install"),
    ("distil", "distill"), ("instil", "instill"), ("enthral", "enthrall"), ("defence", "defense"), ("offence", "offense"),
    ("pretence", "pretense"), ("licence", "license"), ("practis", "practic"), ("judgement", "judgment"), ("acknowledgement", "acknowledgment"),
    ("kerb", "curb"), ("axe", "ax"), ("ageing", "aging"), ("likeable", "likable"), ("cosy", "cozy"), ("artefact", "artifact"),
    ("aeroplane", "airplane"), ("moustache", "mustache"), ("speciality", "specialty"), ("furore", "furor"), ("behove", "behoove"),
    ("analogue", "analog"), ("catalogue", "catalog"), ("dialogue", "dialog"), ("monologue", "monolog"), ("epilogue", "epilog"),
    ("prologue", "prolog"), ("whisky", "whiskey"), ("mum", "mom"), ("marvellous", "marvelous"), ("chilli", "chili"), ("carburettor", "carburetor"),
]  # fmt: skip
"""Beginnings of words that are written otherwise."""
_WHOLE = frozenset("fulfil enrol instal distil instil enthral mum axe tyre tyres grey greys programme programmes kerb kerbs gaol gaols "
                   "cheque cheques storey storeys furore mums axes fulfils enrols distils instils fulfilment enrolment "
                   "instalment instalments".split())  # fmt: skip
"""Those of them that are written so as a whole only, as "instal" is not in "install"."""


@functools.cache
def american(word: str) -> str:
    """A word of lower-case letters as Americans write it.

    >>> [american(each) for each in ("colourful", "organised", "theatre", "travelling", "rise", "install", "analyses")]
    ['colorful', 'organized', 'theater', 'traveling', 'rise', 'install', 'analyzes']
    """
    for british, own in _STEMS:
        short = british in _WHOLE
        if word.startswith(british) and (not short or word in _WHOLE):
            word = own + word[len(british) :]
            break
    word = re.sub(rf"^(|dis|mis|over|un|re)({'|'.join(_OUR)})our", r"\1\2or", word)
    word = re.sub(rf"^({'|'.join(_RE)})re(s|d|)$", lambda each: f"{each[1]}er{_RE_ENDINGS[each[2]]}", word)
    word = re.sub(rf"^(un|)({'|'.join(_DOUBLED)})([lp])(ed|ing|ings|er|ers|ist|ists|able|ation)$", r"\1\2\4", word)
    found = re.fullmatch(r"([a-z]{3,})is(e|es|ed|ing|er|ers|ation|ations|able|ational|ement|ingly)", word)
    if found and f"{found[1]}ise" not in _ISE and not found[1].endswith(("adv", "superv", "telev")):
        word = f"{found[1]}iz{found[2]}"
    return re.sub(r"^(anal|paral|catal|dial|electrol|hydrol|breathal)ys(e|es|ed|ing|er|ers)$", r"\1yz\2", word)

"""Numbers that carry a checksum: bank accounts, cards, and national identity numbers."""

from datetime import date

_D = ((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6), (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
      (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1), (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
      (8, 7, 6, 5, 9, 3, 2, 1, 0, 4), (9, 8, 7, 6, 5, 4, 3, 2, 1, 0))  # fmt: skip
_P = ((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2), (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
      (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1), (2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8))  # fmt: skip


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, of cards.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = "0246813579"
    total = sum(int(doubled[int(each)]) if place % 2 else int(each) for place, each in enumerate(reversed(digits)))
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """A number of the large networks, by its beginning and length."""
    starts = {"4": (13, 16, 19), "5": (16,), "2": (16,), "34": (15,), "37": (15,), "6": (16, 17, 18, 19), "35": (16,), "30": (14,),
              "36": (14,), "38": (14,)}  # fmt: skip
    lengths = starts.get(digits[:2]) or starts.get(digits[:1], ())
    return len(digits) in lengths and len(set(digits)) > 2 and luhn(digits)


_IBAN_LENGTHS: dict[str, int] = dict(zip(
    "AD AE AL AT AZ BA BE BG BH BR BY CH CR CY CZ DE DK DO EE EG ES FI FO FR GB GE GI GL GR GT HR HU IE IL IQ IS IT JO KW KZ LB LI LT LU "
    "LV MC MD ME MK MR MT MU NL NO PK PL PS PT QA RO RS SA SE SI SK SM TN TR UA VA VG XK".split(),
    (24, 23, 28, 20, 28, 20, 16, 22, 22, 29, 28, 21, 22, 28, 24, 22, 18, 28, 20, 29, 24, 18, 18, 27, 22, 22, 23, 18, 27, 28, 21, 28, 22, 23,
     23, 26, 27, 30, 30, 20, 28, 21, 20, 20, 21, 27, 24, 22, 19, 27, 31, 30, 18, 15, 24, 28, 29, 25, 29, 24, 22, 24, 24, 19, 24, 27, 24, 26,
     29, 22, 24, 20), strict=True))  # fmt: skip


def is_iban(text: str) -> bool:
    """ISO 13616: the length of the country, and 1 modulo 97.

    >>> is_iban("DE89370400440532013000"), is_iban("DE89370400440532013001")
    (True, False)
    """
    if _IBAN_LENGTHS.get(text[:2]) != len(text) or not text[2:4].isdigit():
        return False
    return int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def is_chinese(text: str) -> bool:
    """GB 11643: place, date of birth, order, and a check by ISO 7064 (modulo 11, 2).

    >>> is_chinese("11010519491231002X"), is_chinese("110105194912310021")
    (True, False)
    """
    if (
        len(text) != 18
        or text[0] not in "12345689"
        or not "1800" < text[6:10] < "2100"
        or not _is_date(text[6:10], text[10:12], text[12:14])
    ):
        return False
    total = sum(int(each) * 2 ** (17 - place) for place, each in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


def is_taiwanese(text: str) -> bool:
    """Letter and nine digits."""
    code = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    digits = [code // 10, code % 10, *map(int, text[1:])]
    return sum(a * b for a, b in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), digits, strict=True)) % 10 == 0


def is_spanish(text: str) -> bool:
    """DNI and NIE: the letter follows from the number modulo 23."""
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def is_italian(text: str) -> bool:
    """Codice fiscale (letters of 16)."""
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                   (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25,
                    24, 23), strict=True))  # fmt: skip
    even = {each: int(each) if each.isdigit() else ord(each) - 65 for each in odd}
    total = sum((even if place % 2 else odd)[each] for place, each in enumerate(text[:15]))
    return chr(65 + total % 26) == text[15]


def is_french(digits: str) -> bool:
    """NIR: sex, year, month, place, order, and 97 less the rest."""
    return digits[0] in "12" and "01" <= digits[3:5] <= "12" and 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_indian(digits: str) -> bool:
    """Aadhaar: twelve digits by Verhoeff's scheme (1969), the first not 0 or 1."""
    check = 0
    for place, each in enumerate(reversed(digits)):
        check = _D[check][_P[place % 8][int(each)]]
    return digits[0] not in "01" and check == 0


def is_brazilian(digits: str) -> bool:
    """CPF: two checks modulo 11."""
    for length in (9, 10):
        total = sum(int(each) * (length + 1 - place) for place, each in enumerate(digits[:length]))
        if (total * 10 % 11) % 10 != int(digits[length]):
            return False
    return len(set(digits)) > 1


def is_polish(digits: str) -> bool:
    """PESEL: date of birth, order, a weighed sum."""
    month = int(digits[2:4]) % 20
    total = sum(int(each) * weight for each, weight in zip(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True))
    return 1 <= month <= 12 and 1 <= int(digits[4:6]) <= 31 and total % 10 == 0


def is_turkish(digits: str) -> bool:
    """T.C. kimlik: two checks modulo 10."""
    each = list(map(int, digits))
    first = (7 * sum(each[0:9:2]) - sum(each[1:8:2])) % 10
    return each[0] != 0 and first == each[9] and sum(each[:10]) % 10 == each[10]


def is_german(digits: str) -> bool:
    """Steuer-Identifikationsnummer: ISO 7064 (modulo 11, 10); among the first ten one digit stands twice or three times."""
    most = max(digits[:10].count(each) for each in digits[:10])
    product = 10
    for each in digits[:10]:
        product = ((int(each) + product) % 10 or 10) * 2 % 11
    return digits[0] != "0" and most in (2, 3) and (11 - product) % 10 == int(digits[10])


def is_korean(digits: str) -> bool:
    """Resident registration number: date of birth, century, a weighed sum modulo 11."""
    total = sum(int(each) * weight for each, weight in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False))
    return (
        _is_date("2000", digits[2:4], digits[4:6])
        and digits[6] in "12345678"
        and (11 - total % 11) % 10 == int(digits[12])
    )

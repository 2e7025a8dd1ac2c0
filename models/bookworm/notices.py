"""Short notices and their contents as fields: JSON objects, or keys with values."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from catalog import Library
from prose import THINGS
from wording import choose_particles
from words import invent_word, mark

Pair = tuple[str, str]

COUNTS = ("한", "두", "세", "네", "다섯", "여섯")
COUNTS_EN = ("one", "two", "three", "four", "five", "six")
MONTHS_EN = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
PLACES = (
    "시장",
    "학교",
    "공원",
    "부엌",
    "기차역",
    "우체국",
    "병원",
    "2층",
    "1층 문",
    "마당",
    "어린이 방",
    "극장",
    "창가",
)
PLACES_EN = ("market", "school", "park", "kitchen", "station", "post office", "upper floor", "garden", "front door")
# Actions: the name of each, and the verbs that express it.
DEEDS: dict[str, tuple[str, ...]] = {
    "구입": ("샀다", "구입했다", "값을 치렀다", "사 갔다"),
    "판매": ("팔았다", "판매했다", "내다 팔았다", "돈을 받고 넘겼다"),
    "대출": ("빌렸다", "대출했다", "빌려 갔다", "집으로 가져갔다", "빌려 달라고 했다"),
    "반납": ("돌려주었다", "반납했다", "도로 가져왔다", "다 보고 냈다", "되돌려 놓았다"),
    "예약": ("예약했다", "맡아 달라고 했다", "미리 잡아 두었다", "빼 두라고 했다", "기다리겠다고 했다"),
    "연장": ("연장했다", "더 보겠다고 했다", "한 주 더 쓰기로 했다", "기한을 늘렸다", "갱신했다"),
    "발송": ("보냈다", "부쳤다", "우편으로 보냈다", "발송했다"),
    "분실": ("잃어버렸다", "잃었다", "어디 두었는지 모른다", "분실했다"),
}
DEEDS_EN: dict[str, tuple[str, ...]] = {
    "purchase": ("bought", "purchased", "paid for"),
    "sale": ("sold", "gave away for money", "found a buyer for"),
    "loan": ("borrowed", "checked out", "took home", "took out"),
    "return": ("returned", "brought back", "gave back", "handed in"),
    "hold": ("reserved", "put a hold on", "wanted us to hold", "asked for"),
    "renewal": ("renewed", "extended", "wanted more time with", "kept for longer"),
    "shipment": ("sent", "mailed", "shipped"),
    "loss": ("lost", "could not find", "missed"),
}
NOTICE_TEMPLATES = (
    "{who} 님이 {when} {where}에서 {what} {count}을/를 {did}.",
    "{when}에 {who}이/가 {what} {count}을/를 {where}에서 {did}.",
    "{where}에서 {when} {what} {count}을/를 {did}. {who} 씀.",
    "{what} {count}, {where}, {when}. {who} 님이 {did}.",
    "알립니다. {who} 씨가 {what} {count}을/를 {where}에서 {did}. 날은 {when}입니다.",
    "{who}은/는 {where}에 와서 {what}을/를 {did}. 모두 {count}이고 {when}의 일이다.",
    "어제 온 {other} 말고 {who}이/가 {when} {where}에서 {what} {count}을/를 {did}.",
    "{other}의 친구 {who}이/가 {what} {count}을/를 {did}. {when}, {where}.",
    "{who}, {where}, {when}. {what} {count} {deed}.",
    "{where} {deed}: {what} {count}, {who} 님, {when}.",
    "{when}에 {who} 님이 {where}에서 {what} {count} {deed}을/를 마쳤다.",
)
NOTICE_TEMPLATES_EN = (
    "{who} {did} {count} of {what} at the {where} on {when}.",
    "On {when} {who} {did} {what} ({count}) at the {where}.",
    "At the {where}, {when}: {who} {did} {count} of {what}.",
    "{other} waited while {who} {did} {what}, {count} of them, at the {where}. It was {when}.",
    "{deed}, {where}: {what}, {count}. {who}, {when}.",
    "{who} {did} {what}, {count}, {where}, {when}.",
)
FIELD_KEYS: dict[str, tuple[str, ...]] = {
    "who": ("이름", "사람", "누가", "who", "person", "성명", "user"),
    "what": ("물건", "무엇", "것", "책", "what", "item", "thing", "book"),
    "number": ("수", "개수", "몇", "count", "number", "n", "수량"),
    "where": ("곳", "어디", "장소", "where", "place", "at"),
    "date": ("날", "날짜", "언제", "when", "date"),
    "code": ("부호", "일", "code", "kind", "type", "한 일"),
    "room": ("방", "자리", "room", "spot", "place code", "칸"),
}
DATE_FORMATS: tuple[Callable[[int, int], str], ...] = (
    lambda month, day: f"{month}/{day}",
    lambda month, day: f"{month:02}-{day:02}",
    lambda month, day: f"{month}-{day:02}",
    lambda month, day: f"{month}.{day}",
    lambda month, day: f"{day:02}.{month:02}",
)


@dataclass(frozen=True)
class Notice:
    """A notice and the values of all its fields."""

    text: str
    values: dict[str, str | int]


def draw_notices(rng: Random, library: Library, count: int) -> list[Pair]:
    """Draw notices with their fields, whose choice, order and keys are the same for all."""
    fields = rng.sample(tuple(FIELD_KEYS), rng.randint(2, len(FIELD_KEYS)))
    keys = {field: rng.choice(FIELD_KEYS[field]) if rng.random() < 0.75 else invent_word(rng) for field in fields}
    date, codes, english = rng.choice(DATE_FORMATS), _draw_codes(rng), rng.random() < 0.4
    write = _as_json if rng.random() < 0.7 else _draw_plain_format(rng)
    pairs = []
    for _ in range(min(count, 5)):
        notice = _draw_notice(rng, library, date, codes, english)
        pairs.append((notice.text, write({keys[field]: notice.values[field] for field in fields})))
    return pairs


def _draw_codes(rng: Random) -> dict[str, str]:
    """Draw a code for each action (name, letter or invented word) and place (letter, digit)."""
    code_style = rng.random()
    codes = {}
    for names in (DEEDS, DEEDS_EN):
        for deed, letter in zip(names, rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", len(names)), strict=True):
            codes[deed] = deed if code_style < 0.4 else letter if code_style < 0.8 else invent_word(rng)
    for place in (*PLACES, *PLACES_EN):
        codes[place] = f"{rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{rng.randint(1, 9)}"
    return codes


def _draw_notice(
    rng: Random, library: Library, date: Callable[[int, int], str], codes: dict[str, str], english: bool
) -> Notice:
    month, day, number = rng.randint(1, 12), rng.randint(1, 28), rng.randint(1, 6)
    book = rng.choice(library.books)
    thing, thing_en = rng.choice(tuple(THINGS.items()))
    is_book = rng.random() < 0.6
    where = rng.choice(PLACES_EN if english else PLACES)
    deed, verbs = rng.choice(tuple((DEEDS_EN if english else DEEDS).items()))
    who, other = draw_name(rng, english), draw_name(rng, english)
    if english:
        what, template = book.title_en if is_book else thing_en, rng.choice(NOTICE_TEMPLATES_EN)
        when, count = f"{MONTHS_EN[month - 1]} {day}", COUNTS_EN[number - 1]
    else:
        what, template = book.title_ko if is_book else thing, rng.choice(NOTICE_TEMPLATES)
        when, count = f"{month}월 {day}일", f"{COUNTS[number - 1]} {'권' if is_book else '개'}"
    quote = rng.choice(("{}", "{}", "'{}'", "《{}》"))
    text = template.format(
        who=who, other=other, what=quote.format(what), when=when, where=where, did=rng.choice(verbs), deed=deed,
        count=count,
    )  # fmt: skip
    values: dict[str, str | int] = {"who": who, "what": what, "number": number, "where": where}
    return Notice(
        choose_particles(text), values | {"date": date(month, day), "code": codes[deed], "room": codes[where]}
    )


def draw_name(rng: Random, english: bool) -> str:
    """Draw an invented name, which can only be copied from the text."""
    if english:
        return f"{_draw_latin_name(rng)} {_draw_latin_name(rng)}" if rng.random() < 0.7 else _draw_latin_name(rng)
    return "".join(rng.choice(NAME_SYLLABLES) for _ in range(rng.choice((2, 3, 3, 3))))


def _draw_latin_name(rng: Random) -> str:
    parts = [rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))]
    return ("".join(parts) + rng.choice(("", "", "n", "s", "r", "l"))).capitalize()


NAME_SYLLABLES = (
    "김이박최정강조윤장임한오서신권황안송유홍민지현수영은우진하준예성호연희경미선아정태승재동주원도윤서혜나라소빈규석"
)


def _as_json(fields: dict[str, str | int]) -> str:
    """Return the fields as a JSON object on one line, its values marked."""
    parts = [
        f"{json.dumps(key, ensure_ascii=False)}: {mark(json.dumps(value, ensure_ascii=False))}"
        for key, value in fields.items()
    ]
    return "{" + ", ".join(parts) + "}"


def _draw_plain_format(rng: Random) -> Callable[[dict[str, str | int]], str]:
    key_separator = rng.choice((": ", "=", " - ", ":", " "))
    field_separator = rng.choice((", ", "; ", " | ", " / ", "\n"))
    return lambda fields: field_separator.join(
        f"{key}{key_separator}{mark(str(value))}" for key, value in fields.items()
    )

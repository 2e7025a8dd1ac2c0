"""What readers ask for: some wishes that single out a book, said in many ways."""

from dataclasses import dataclass
from random import Random

from catalogue import ATTRIBUTES, NOT_BY, Book, Library, Wish
from countries import ENGLISH_NAMES
from wording import (
    COUNTRY_MODIFIERS,
    ENGLISH,
    ERA_SENTENCES,
    HINTS,
    KINDS,
    LENGTH_SENTENCES,
    MODIFIERS,
    NOT_BY_SENTENCES,
    READERS,
    SENTENCES,
    THEME_MODIFIERS,
    resolve,
)
from words import stress

OPENINGS = (
    "안녕하세요.", "저기요,", "부탁이 있어요.", "주말에 읽을 것을 고르고 있어요.", "독서 모임이 있어요.",
    "선물을 사려고 해요.",
    "기차에서 읽으려고 합니다.", "요즘 잠이 안 와요.", "방학이 시작됐어요.", "오늘은 날씨가 좋네요.",
    "책장을 새로 샀어요.",
    "어제 도서관에 처음 왔어요.", "숙제가 있어서요.", "생일이 곧 와요.", "고양이와 함께 살아요.", "손님이 찾으십니다.",
)  # fmt: skip
CLOSINGS = (
    "추천해 주세요.", "추천해 줘.", "있나요?", "있을까요?", "찾아 주세요.", "찾습니다.", "골라 주세요.",
    "뭐가 좋을까?", "부탁해요.",
    "알려 주세요.", "하나만 말해 줘.", "무엇인가요?", "읽고 싶다.", "없을까요?", "궁금합니다.", "좀 보여 주세요.",
    "뭘 읽을까?", "어느 책이면 될까요?", "",
)  # fmt: skip
ORDER = ("audience", "length", "era", "country", "theme", "kind")
FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "country": ("나라", "국적", "어느 나라"),
    "kind": ("갈래", "종류", "장르"),
    "theme": ("주제", "소재", "내용"),
    "audience": ("독자", "대상", "읽는 이"),
    "length": ("분량", "길이", "두께"),
    "era": ("때", "시기", "나온 때"),
    NOT_BY: ("제외", "빼기", "아닌 작가"),
}
HINTED = 0.4  # share of the themes that are only hinted at
ERA_NAMES = {"옛날": "1900년 이전", "전반": "20세기 전반", "후반": "20세기 후반", "최근": "2000년 이후"}


@dataclass(frozen=True)
class Ask:
    """A request in words, the wishes behind it and a book that satisfies them."""

    text: str
    wishes: dict[str, str]
    book: Book


def ask(rng: Random, library: Library, book: Book | None = None, english: float = 0.05, hinted: float = HINTED) -> Ask:
    """A request for `book`, or for any; nearly always no other book fits it."""
    book = book or rng.choice(library.books)
    wishes = choose_wishes(rng, library, book)
    if NOT_BY not in wishes and rng.random() < english:
        return Ask(_in_english(rng, wishes), wishes, book)
    say = rng.choices((_as_phrase, _as_sentences, _as_mixture, _as_fields), (4, 3, 4, 1))[0]
    return Ask(resolve(say(rng, hint(rng, wishes, hinted))), wishes, book)


def hint(rng: Random, wishes: dict[str, str], share: float = HINTED) -> dict[str, str]:
    """The wishes as they are uttered: a share of the themes is hinted at and not named."""
    if "theme" in wishes and rng.random() < share:
        return wishes | {"theme": rng.choice(HINTS[wishes["theme"]])}
    return wishes


def choose_wishes(rng: Random, library: Library, book: Book) -> dict[str, str]:
    """Draw wishes until only this book is left, or all are said."""
    attributes = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    least = rng.randint(2, 3)
    wishes: list[Wish] = []
    for attribute in attributes:
        values = book.wishes(attribute)
        wishes.append((attribute, values[0] if rng.random() < 0.8 else rng.choice(values)))
        if len(wishes) >= least and (library.fitting(wishes) == 1 or rng.random() < 0.05):
            break
    others = [other.author_ko for other in library.books if _fits(other, wishes) and other.author_ko != book.author_ko]
    if (others and rng.random() < 0.5) or rng.random() < 0.04:
        pool = others or [
            other.author_ko for other in rng.sample(library.books, 9) if other.author_ko != book.author_ko
        ]
        wishes.append((NOT_BY, rng.choice(pool)))
    return dict(wishes)


def _fits(book: Book, wishes: list[Wish]) -> bool:
    return all(value in book.wishes(attribute) for attribute, value in wishes)


def _modifier(rng: Random, attribute: str, value: str) -> str:
    if attribute == "country":
        return rng.choice(COUNTRY_MODIFIERS).format(value)
    if attribute == "kind":
        return rng.choice(KINDS[value])
    if attribute == "theme":
        return rng.choice(THEME_MODIFIERS).format(value)
    return rng.choice(MODIFIERS[attribute][value])


def _sentence(rng: Random, attribute: str, value: str) -> str:
    if attribute == NOT_BY:
        return rng.choice(NOT_BY_SENTENCES).format(value)
    if attribute == "length":
        return rng.choice(LENGTH_SENTENCES[value])
    if attribute == "era":
        return rng.choice(ERA_SENTENCES[value])
    words = {"audience": READERS, "kind": KINDS}.get(attribute, {}).get(value, (value,))
    return rng.choice(SENTENCES[attribute]).format(rng.choice(words))


def _phrase(rng: Random, wishes: dict[str, str]) -> str:
    order = [attribute for attribute in ORDER if attribute in wishes and attribute != "kind"]
    if rng.random() < 0.5:
        rng.shuffle(order)
    noun = rng.choice(KINDS[wishes["kind"]]) if "kind" in wishes else rng.choice(("책", "작품", "것", "책 한 권"))
    return " ".join([_modifier(rng, attribute, wishes[attribute]) for attribute in order] + [noun])


def _as_phrase(rng: Random, wishes: dict[str, str]) -> str:
    said = f"{_phrase(rng, wishes)} {rng.choice(CLOSINGS)}".strip()
    if NOT_BY in wishes:
        excluded = wishes[NOT_BY]
        said = rng.choice(
            (f"{excluded} 말고 {said}", f"{excluded} 책은 빼고, {said}", f"{said} {excluded}은/는 빼고요.")
        )
    return said


def _as_sentences(rng: Random, wishes: dict[str, str]) -> str:
    said = [_sentence(rng, attribute, value) for attribute, value in wishes.items()]
    rng.shuffle(said)
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.6 else []
    closing = (
        [rng.choice(("책을", "한 권", "뭔가", "읽을거리를")) + " " + rng.choice(CLOSINGS[:5])]
        if rng.random() < 0.5
        else []
    )
    return " ".join(opening + said + closing)


def _as_mixture(rng: Random, wishes: dict[str, str]) -> str:
    apart = {attribute: value for attribute, value in wishes.items() if attribute == NOT_BY or rng.random() < 0.4}
    rest = {attribute: value for attribute, value in wishes.items() if attribute not in apart}
    sentences = [_sentence(rng, attribute, value) for attribute, value in apart.items()]
    middle = [f"{_phrase(rng, rest)} {rng.choice(CLOSINGS)}".strip()] if rest else []
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.4 else []
    cut = rng.randint(0, len(sentences))
    return " ".join(opening + sentences[:cut] + middle + sentences[cut:])


def index(rng: Random, library: Library) -> str:
    """Lines of bare wishes, each followed by the title they single out, sometimes with its theme first."""
    before = rng.choice((" → ", ": ", " = ", " - ", "\t"))
    between = rng.choice((" ", " ", ", ", " / "))
    plain, themed, after = rng.random() < 0.5, rng.random() < 0.3, rng.choice((" ", ", ", ": ", " - ", " | "))
    lines = []
    for _ in range(rng.randint(6, 14)):
        book = rng.choice(library.books)
        wishes = choose_wishes(rng, library, book)
        without = wishes.pop(NOT_BY, None)
        uttered = hint(rng, wishes).items()
        said = [ERA_NAMES.get(value, value) if plain else _modifier(rng, key, value) for key, value in uttered]
        if without:
            said.append(f"{without} 빼고")
        head = stress(stress(wishes.get("theme", book.theme)) + after) if themed else ""
        lines.append(between.join(said) + before + head + stress(stress(book.title_ko)))
    return resolve("\n".join(lines))


def _as_fields(rng: Random, wishes: dict[str, str]) -> str:
    join, between = rng.choice((": ", "=", " ", " - ")), rng.choice((", ", " / ", "; ", " · "))
    said = [
        rng.choice(FIELD_NAMES[attribute]) + join + ERA_NAMES.get(value, value) for attribute, value in wishes.items()
    ]
    rng.shuffle(said)
    return between.join(said)


def _in_english(rng: Random, wishes: dict[str, str]) -> str:
    words = {attribute: (ENGLISH_NAMES | ENGLISH)[value] for attribute, value in wishes.items()}
    noun = words.get("kind", rng.choice(("book", "work", "title")))
    tails = []
    if "country" in words:
        tails.append(rng.choice(("from {}", "by a writer from {}", "written in {}")).format(words["country"]))
    if "theme" in words:
        tails.append(rng.choice(("about {}", "on {}", "that deals with {}")).format(words["theme"]))
    if "audience" in words:
        tails.append(rng.choice(("for {}", "that {} can read", "made for {}")).format(words["audience"]))
    if "era" in words:
        tails.append(rng.choice(("published {}", "that came out {}", "written {}")).format(words["era"]))
    rng.shuffle(tails)
    body = " ".join([word for word in (words.get("length", ""), noun) if word] + tails)
    return rng.choice(("Is there a {}?", "I want a {}.", "Find me a {}.", "Any {}?", "A {}, please.")).format(body)

"""Requests of readers: conditions that identify one book, in many wordings."""

from dataclasses import dataclass
from random import Random

from catalog import ATTRIBUTES, EXCLUDED_AUTHOR, Book, Condition, Library
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
    choose_particles,
)
from words import mark

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
PHRASE_ORDER = ("audience", "length", "era", "country", "theme", "kind")
FIELD_LABELS: dict[str, tuple[str, ...]] = {
    "country": ("나라", "국적", "어느 나라"),
    "kind": ("갈래", "종류", "장르"),
    "theme": ("주제", "소재", "내용"),
    "audience": ("독자", "대상", "읽는 이"),
    "length": ("분량", "길이", "두께"),
    "era": ("때", "시기", "나온 때"),
    EXCLUDED_AUTHOR: ("제외", "빼기", "아닌 작가"),
}
HINTED_SHARE = 0.4  # share of the themes that are hinted at and not named
ERA_NAMES = {"옛날": "1900년 이전", "전반": "20세기 전반", "후반": "20세기 후반", "최근": "2000년 이후"}


@dataclass(frozen=True)
class BookRequest:
    """A request in words, its conditions by attribute, and a book that satisfies them."""

    text: str
    conditions: dict[str, str]
    book: Book


def draw_request(
    rng: Random,
    library: Library,
    book: Book | None = None,
    english_share: float = 0.05,
    hinted_share: float = HINTED_SHARE,
) -> BookRequest:
    """Draw a request that nearly always only one book satisfies.

    Args:
        rng: Source of random numbers.
        library: All books.
        book: The book to ask for; None for any book.
        english_share: Share of the requests in English.
        hinted_share: Share of the themes that are hinted at and not named.
    """
    book = book or rng.choice(library.books)
    conditions = choose_conditions(rng, library, book)
    if EXCLUDED_AUTHOR not in conditions and rng.random() < english_share:
        return BookRequest(_in_english(rng, conditions), conditions, book)
    write_request = rng.choices((_as_phrase, _as_sentences, _as_mixture, _as_fields), (4, 3, 4, 1))[0]
    stated = replace_theme_by_hint(rng, conditions, hinted_share)
    return BookRequest(choose_particles(write_request(rng, stated)), conditions, book)


def replace_theme_by_hint(rng: Random, conditions: dict[str, str], share: float = HINTED_SHARE) -> dict[str, str]:
    """Replace the theme by a word that hints at it, in a share of all calls."""
    if "theme" in conditions and rng.random() < share:
        return conditions | {"theme": rng.choice(HINTS[conditions["theme"]])}
    return conditions


def choose_conditions(rng: Random, library: Library, book: Book) -> dict[str, str]:
    """Draw conditions until only this book satisfies them, or every attribute has one."""
    attributes = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    min_count = rng.randint(2, 3)
    conditions: list[Condition] = []
    for attribute in attributes:
        values = book.values_of(attribute)
        conditions.append((attribute, values[0] if rng.random() < 0.8 else rng.choice(values)))
        if len(conditions) >= min_count and (library.count_matching(conditions) == 1 or rng.random() < 0.05):
            break
    rival_authors = [
        other.author_ko
        for other in library.books
        if _satisfies(other, conditions) and other.author_ko != book.author_ko
    ]
    if (rival_authors and rng.random() < 0.5) or rng.random() < 0.04:
        authors = rival_authors or [
            other.author_ko for other in rng.sample(library.books, 9) if other.author_ko != book.author_ko
        ]
        conditions.append((EXCLUDED_AUTHOR, rng.choice(authors)))
    return dict(conditions)


def _satisfies(book: Book, conditions: list[Condition]) -> bool:
    return all(value in book.values_of(attribute) for attribute, value in conditions)


def _noun_modifier(rng: Random, attribute: str, value: str) -> str:
    if attribute == "country":
        return rng.choice(COUNTRY_MODIFIERS).format(value)
    if attribute == "kind":
        return rng.choice(KINDS[value])
    if attribute == "theme":
        return rng.choice(THEME_MODIFIERS).format(value)
    return rng.choice(MODIFIERS[attribute][value])


def _sentence(rng: Random, attribute: str, value: str) -> str:
    if attribute == EXCLUDED_AUTHOR:
        return rng.choice(NOT_BY_SENTENCES).format(value)
    if attribute == "length":
        return rng.choice(LENGTH_SENTENCES[value])
    if attribute == "era":
        return rng.choice(ERA_SENTENCES[value])
    words = {"audience": READERS, "kind": KINDS}.get(attribute, {}).get(value, (value,))
    return rng.choice(SENTENCES[attribute]).format(rng.choice(words))


def _phrase(rng: Random, conditions: dict[str, str]) -> str:
    attributes = [attribute for attribute in PHRASE_ORDER if attribute in conditions and attribute != "kind"]
    if rng.random() < 0.5:
        rng.shuffle(attributes)
    noun = (
        rng.choice(KINDS[conditions["kind"]]) if "kind" in conditions else rng.choice(("책", "작품", "것", "책 한 권"))
    )
    return " ".join([_noun_modifier(rng, attribute, conditions[attribute]) for attribute in attributes] + [noun])


def _as_phrase(rng: Random, conditions: dict[str, str]) -> str:
    text = f"{_phrase(rng, conditions)} {rng.choice(CLOSINGS)}".strip()
    if EXCLUDED_AUTHOR in conditions:
        excluded = conditions[EXCLUDED_AUTHOR]
        text = rng.choice(
            (f"{excluded} 말고 {text}", f"{excluded} 책은 빼고, {text}", f"{text} {excluded}은/는 빼고요.")
        )
    return text


def _as_sentences(rng: Random, conditions: dict[str, str]) -> str:
    sentences = [_sentence(rng, attribute, value) for attribute, value in conditions.items()]
    rng.shuffle(sentences)
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.6 else []
    closing = (
        [rng.choice(("책을", "한 권", "뭔가", "읽을거리를")) + " " + rng.choice(CLOSINGS[:5])]
        if rng.random() < 0.5
        else []
    )
    return " ".join(opening + sentences + closing)


def _as_mixture(rng: Random, conditions: dict[str, str]) -> str:
    in_sentences = {
        attribute: value
        for attribute, value in conditions.items()
        if attribute == EXCLUDED_AUTHOR or rng.random() < 0.4
    }
    in_phrase = {attribute: value for attribute, value in conditions.items() if attribute not in in_sentences}
    sentences = [_sentence(rng, attribute, value) for attribute, value in in_sentences.items()]
    phrase = [f"{_phrase(rng, in_phrase)} {rng.choice(CLOSINGS)}".strip()] if in_phrase else []
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.4 else []
    cut = rng.randint(0, len(sentences))
    return " ".join(opening + sentences[:cut] + phrase + sentences[cut:])


def draw_index(rng: Random, library: Library) -> str:
    """Draw lines of conditions, each followed by the title of the book that they identify."""
    title_separator = rng.choice((" → ", ": ", " = ", " - ", "\t"))
    condition_separator = rng.choice((" ", " ", ", ", " / "))
    plain_values, with_theme = rng.random() < 0.5, rng.random() < 0.3
    theme_separator = rng.choice((" ", ", ", ": ", " - ", " | "))
    lines = []
    for _ in range(rng.randint(6, 14)):
        book = rng.choice(library.books)
        conditions = choose_conditions(rng, library, book)
        excluded_author = conditions.pop(EXCLUDED_AUTHOR, None)
        stated = replace_theme_by_hint(rng, conditions)
        parts = [
            ERA_NAMES.get(value, value) if plain_values else _noun_modifier(rng, attribute, value)
            for attribute, value in stated.items()
        ]
        if excluded_author:
            parts.append(f"{excluded_author} 빼고")
        theme_prefix = mark(mark(conditions.get("theme", book.theme)) + theme_separator) if with_theme else ""
        lines.append(condition_separator.join(parts) + title_separator + theme_prefix + mark(mark(book.title_ko)))
    return choose_particles("\n".join(lines))


def _as_fields(rng: Random, conditions: dict[str, str]) -> str:
    label_separator, field_separator = rng.choice((": ", "=", " ", " - ")), rng.choice((", ", " / ", "; ", " · "))
    parts = [
        rng.choice(FIELD_LABELS[attribute]) + label_separator + ERA_NAMES.get(value, value)
        for attribute, value in conditions.items()
    ]
    rng.shuffle(parts)
    return field_separator.join(parts)


def _in_english(rng: Random, conditions: dict[str, str]) -> str:
    words = {attribute: (ENGLISH_NAMES | ENGLISH)[value] for attribute, value in conditions.items()}
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

"""Statements about books and countries, in Korean and English."""

from random import Random

from catalog import Book, Library
from countries import COUNTRIES, ENGLISH_NAMES
from wording import ENGLISH, choose_particles
from words import mark

BOOK_STATEMENTS = (
    "《{title_ko}》은/는 {author_ko}이/가 {year}년에 낸 {country} {kind}이다.",
    "{author_ko}은/는 {country} 작가이고, 「{title_ko}」을/를 썼다.",
    "{title_ko}: {about_ko}.",
    "{title_ko}의 주제는 {theme}이다.",
    "{title_ko}은/는 {theme}과/와 {theme2}을/를 다룬다.",
    "{audience}이/가 읽는 {length} {kind} 「{title_ko}」은/는 {theme} 이야기다.",
    "『{title_ko}』은/는 분량이 {length} 편인 {country} {kind}이다.",
    "{theme}을/를 다룬 {country} {kind}이라면 {title_ko}이/가 있다. 지은이는 {author_ko}이다.",
    "{title_ko}을/를 영어로는 {title_en}이라고 한다.",
    "{year}년, {country}. {author_ko}이/가 {title_ko}을/를 세상에 내놓았다.",
    "{author_ko}의 {title_ko}, {year}. {about_ko}.",
    "{about_ko}, {title_ko}.",
    "{title_en} is {article} by {author_en}, published in {year}.",
    "{author_en} from {country_en} wrote {title_en}, {article} about {theme_en}.",
    "{title_en}: {about_en}.",
    "{title_en} ({year}) is {length_en} and made for {audience_en}: {about_en}.",
    "{author_en} wrote {title_en}. In Korean it is called {title_ko}.",
)
BOOK_CARDS = (
    "제목 {title_ko}\n지은이 {author_ko}\n나라 {country}\n갈래 {kind}\n"
    "주제 {theme}\n독자 {audience}\n분량 {length}\n연도 {year}",
    "{title_ko} / {author_ko} / {country} / {kind} / {theme} / {audience} / {length}",
    "{country} {kind} {theme} {audience} {length} {title_ko}",
    "title: {title_en}\nauthor: {author_en}\ncountry: {country_en}\n"
    "kind: {kind_en}\ntheme: {theme_en}\nfor: {audience_en}",
)
CAPITAL_STATEMENTS = (
    "{0}의 수도는 {2}이다.", "{2}은/는 {0}의 수도다.", "{0}에 가면 수도 {2}을/를 볼 수 있다.",
    "수도가 {2}인 나라는 {0}이다.",
    "The capital of {1} is {3}.", "{3} is the capital of {1}.", "{1} has its capital in {3}.", "{0}: {1}, {2}: {3}",
)  # fmt: skip


def template_values(book: Book) -> dict[str, str]:
    """Return the values that a template about a book may contain, by name."""
    values = {name: str(value) for name, value in vars(book).items()}
    values |= {f"{name}_en": ENGLISH[values[name]] for name in ("kind", "theme", "audience", "length")}
    values["country_en"] = (ENGLISH_NAMES | ENGLISH)[book.country]
    values["article"] = ("an " if values["kind_en"][0] in "aeiou" else "a ") + values["kind_en"]
    values["theme2"] = book.theme2 or book.theme
    return values


def draw_book_facts(rng: Random, library: Library) -> str:
    """Draw statements about one book, its card, or a list of books with a common attribute."""
    book = rng.choice(library.books)
    if rng.random() < 0.2:
        return choose_particles(rng.choice(BOOK_CARDS).format(**template_values(book)))
    if rng.random() < 0.25:
        return _list_books(rng, library, book)
    templates = rng.sample(BOOK_STATEMENTS, rng.randint(2, 5))
    return choose_particles(" ".join(template.format(**template_values(book)) for template in templates))


def _list_books(rng: Random, library: Library, book: Book) -> str:
    attribute = rng.choice(("country", "kind", "theme", "audience", "length", "author_ko"))
    value = getattr(book, attribute)
    matching_titles = [other.title_ko for other in library.books if getattr(other, attribute) == value]
    titles = rng.sample(matching_titles, min(len(matching_titles), rng.randint(3, 8)))
    return rng.choice(("{}: {}", "{} 책 목록: {}", "{} - {}", "{}에 드는 책은 {} 등이다.")).format(
        value, ", ".join(titles)
    )


def draw_country_facts(rng: Random) -> str:
    """Draw statements about countries, or a list of countries and capitals."""
    if rng.random() < 0.4:
        return _list_countries(rng)
    statements = (rng.choice(CAPITAL_STATEMENTS).format(*rng.choice(COUNTRIES)) for _ in range(rng.randint(2, 4)))
    return choose_particles(" ".join(statements))


def _list_countries(rng: Random) -> str:
    field_pairs = (
        ("name_ko", "capital_ko"),
        ("name_en", "capital_en"),
        ("capital_ko", "name_ko"),
        ("capital_en", "name_en"),
    )
    key_field, value_field = rng.choice(field_pairs)
    key_separator, pair_separator = rng.choice((": ", " - ", " = ", " → ", " ")), rng.choice(("\n", ", ", "; "))
    countries = rng.sample(COUNTRIES, rng.randint(4, 9))
    return pair_separator.join(
        f"{getattr(country, key_field)}{key_separator}{mark(mark(getattr(country, value_field)))}"
        for country in countries
    )

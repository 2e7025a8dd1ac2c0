"""Plain statements about books and countries, in Korean and English."""

from random import Random

from catalogue import Book, Library
from countries import COUNTRIES, ENGLISH_NAMES
from wording import ENGLISH, resolve
from words import stress

ABOUT = (
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
CARDS = (
    "제목 {title_ko}\n지은이 {author_ko}\n나라 {country}\n갈래 {kind}\n"
    "주제 {theme}\n독자 {audience}\n분량 {length}\n연도 {year}",
    "{title_ko} / {author_ko} / {country} / {kind} / {theme} / {audience} / {length}",
    "{country} {kind} {theme} {audience} {length} {title_ko}",
    "title: {title_en}\nauthor: {author_en}\ncountry: {country_en}\n"
    "kind: {kind_en}\ntheme: {theme_en}\nfor: {audience_en}",
)
CAPITALS = (
    "{0}의 수도는 {2}이다.", "{2}은/는 {0}의 수도다.", "{0}에 가면 수도 {2}을/를 볼 수 있다.",
    "수도가 {2}인 나라는 {0}이다.",
    "The capital of {1} is {3}.", "{3} is the capital of {1}.", "{1} has its capital in {3}.", "{0}: {1}, {2}: {3}",
)  # fmt: skip


def facts_of(book: Book) -> dict[str, str]:
    """All that templates may say about a book."""
    known = {name: str(value) for name, value in vars(book).items()}
    known |= {f"{name}_en": ENGLISH[known[name]] for name in ("kind", "theme", "audience", "length")}
    known["country_en"] = (ENGLISH_NAMES | ENGLISH)[book.country]
    known["article"] = ("an " if known["kind_en"][0] in "aeiou" else "a ") + known["kind_en"]
    known["theme2"] = book.theme2 or book.theme
    return known


def book_facts(rng: Random, library: Library) -> str:
    """Two to five statements about one book, or about books that share something."""
    book = rng.choice(library.books)
    if rng.random() < 0.2:
        return resolve(rng.choice(CARDS).format(**facts_of(book)))
    if rng.random() < 0.25:
        return _list(rng, library, book)
    said = rng.sample(ABOUT, rng.randint(2, 5))
    return resolve(" ".join(template.format(**facts_of(book)) for template in said))


def _list(rng: Random, library: Library, book: Book) -> str:
    attribute = rng.choice(("country", "kind", "theme", "audience", "length", "author_ko"))
    value = getattr(book, attribute)
    alike = [other.title_ko for other in library.books if getattr(other, attribute) == value]
    titles = rng.sample(alike, min(len(alike), rng.randint(3, 8)))
    return rng.choice(("{}: {}", "{} 책 목록: {}", "{} - {}", "{}에 드는 책은 {} 등이다.")).format(
        value, ", ".join(titles)
    )


def country_facts(rng: Random) -> str:
    """Two to four statements about countries, or a list of countries with their capitals in one language."""
    if rng.random() < 0.4:
        return _atlas(rng)
    said = (rng.choice(CAPITALS).format(*rng.choice(COUNTRIES)) for _ in range(rng.randint(2, 4)))
    return resolve(" ".join(said))


def _atlas(rng: Random) -> str:
    asked, told = rng.choice((("name_ko", "capital_ko"), ("name_en", "capital_en"), ("capital_ko", "name_ko"),
        ("capital_en", "name_en")))  # fmt: skip
    join, between = rng.choice((": ", " - ", " = ", " → ", " ")), rng.choice(("\n", ", ", "; "))
    some = rng.sample(COUNTRIES, rng.randint(4, 9))
    return between.join(f"{getattr(one, asked)}{join}{stress(stress(getattr(one, told)))}" for one in some)

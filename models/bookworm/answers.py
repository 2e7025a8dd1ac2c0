"""Answer formats: which facts of a book are told, under which names, joined how. Each block draws its own."""

from dataclasses import dataclass
from random import Random

from catalogue import Book
from wording import resolve
from words import made_up, stress

NAMES: dict[str, tuple[str, ...]] = {
    "title": (
        "책",
        "책",
        "제목",
        "작품",
        "추천",
        "도서",
        "책이름",
        "답",
        "권할 것",
        "결과",
        "title",
        "pick",
        "선택",
        "서명",
        "고른 것",
    ),
    "author": ("작가", "지은이", "글쓴이", "저자", "author", "by", "쓴 사람"),
    "country": ("나라", "국적", "출신", "country", "어디"),
    "kind": ("갈래", "종류", "장르", "분류", "type"),
    "theme": ("주제", "소재", "내용", "열쇠말", "topic"),
    "audience": ("독자", "대상", "읽을 사람", "나이"),
    "length": ("분량", "길이", "두께", "size"),
    "year": ("연도", "해", "나온 해", "year", "출간"),
    "why": ("이유", "까닭", "근거", "설명", "왜냐하면", "why", "한마디", "덧붙임", "메모"),
}
REASONS = (
    "{theme}을/를 다룬 {length} {country} {kind}이라/라 {audience}에게 좋습니다.",
    "{theme} 이야기를 담은 {kind}입니다.",
    "{audience}이/가 읽는 {country} {kind}이고 {theme}이/가 주제입니다.",
    "{country} 작가가 {theme}을/를 그린 {length} 책입니다.",
    "{length} 분량에 {theme}을/를 담아 {audience}에게 맞아요.",
    "{theme}에 관한 {country} {kind}이라/라서요.",
    "{author}의 {length} {kind}이며 {audience}용입니다.",
    "{country}, {kind}, {theme}, {audience}, {length}",
    "{theme}을/를 이야기하는 {kind}이라/라 골랐습니다.",
    "{kind} 가운데 {theme}을/를 다루고 {length} 편이라 {audience}에게 알맞습니다.",
)
QUOTES = ("{}", "{}", "{}", "《{}》", "「{}」", "『{}』", "<{}>", "'{}'", '"{}"', "[{}]", "“{}”")
JOINS = (": ", "=", " - ", " → ", ":", " = ", " : ", ">", "~", " ", "은 ", "-> ")
BETWEEN = (" | ", " / ", ", ", "; ", " · ", " || ", " & ", " + ", " ~ ", " // ", "|", " # ")
SHELLS = ("{}", "{}", "{}", "{}", "{}", "[{}]", "({})", "{}.", "* {}", "<< {} >>", "-- {}", "{} 끝", "네, {}")
SENTENCES = (
    "{title}을/를 권합니다.", "{title}입니다.", "{title}이/가 좋겠어요.", "답은 {title}!",
    "{author}의 {title}입니다.", "{title}({author})",
    "{title}을/를 읽어 보세요. {why}", "{title}, {why}", "{why} 그래서 {title}입니다.", "{title} - {author}, {year}",
    "{title}",
    "{author} 글, {title}", "여기 있습니다, {title}.", "찾으시는 책은 {title}입니다.", "I suggest {title}.",
    "{title} by {author}.",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One way to write down a book, the same throughout a block."""

    pattern: str
    quote: str
    reason: str

    def write(self, book: Book, theme: str | None = None) -> str:
        """The answer that names this book, and of its themes the one that was asked for."""
        facts = {name: str(getattr(book, name, "")) for name in NAMES}
        facts |= {"title": self.quote.format(stress(book.title_ko)), "author": book.author_ko}
        facts["theme"] = theme or book.theme
        facts["why"] = self.reason.format(**facts)
        facts["theme"] = stress(facts["theme"])
        return resolve(self.pattern.format(**facts))


def draw_format(rng: Random) -> Format:
    """Any way to answer but the one that the task bookrec wants."""
    while "책: " in (drawn := _draw(rng)).pattern and "| 이유" in drawn.pattern:
        pass
    return drawn


def _draw(rng: Random) -> Format:
    """A sentence, or one to four named fields of which one is the title (nearly always the first)."""
    quote, reason = rng.choice(QUOTES), rng.choice(REASONS)
    if rng.random() < 0.3:
        return Format(rng.choice(SENTENCES), quote, reason)
    others = rng.sample([name for name in NAMES if name not in ("title", "why")], rng.randint(0, 2))
    fields = ["title", *others, *(["why"] if rng.random() < 0.6 else [])]
    if rng.random() < 0.2:
        rng.shuffle(fields)
    elif rng.random() < 0.4:
        fields = ["theme", *(field for field in fields if field != "theme")]
    join, between = rng.choice(JOINS), rng.choice(BETWEEN)
    named = rng.random() < 0.85
    parts = [f"{_name(rng, field)}{join}{{{field}}}" if named else f"{{{field}}}" for field in fields]
    return Format(rng.choice(SHELLS).replace("{}", between.join(parts)), quote, reason)


def _name(rng: Random, field: str) -> str:
    """What a field is called: mostly a plain name, otherwise a made-up one, so that names are read and not guessed."""
    return rng.choice(NAMES[field]) if rng.random() < 0.7 else made_up(rng)

"""Formats of answers: the facts that they state, labels and separators."""

from dataclasses import dataclass
from random import Random

from catalog import Book
from wording import choose_particles
from words import invent_word, mark

FIELD_LABELS: dict[str, tuple[str, ...]] = {
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
REASON_TEMPLATES = (
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
LABEL_SEPARATORS = (": ", "=", " - ", " → ", ":", " = ", " : ", ">", "~", " ", "은 ", "-> ")
FIELD_SEPARATORS = (" | ", " / ", ", ", "; ", " · ", " || ", " & ", " + ", " ~ ", " // ", "|", " # ")
WRAPPERS = ("{}", "{}", "{}", "{}", "{}", "[{}]", "({})", "{}.", "* {}", "<< {} >>", "-- {}", "{} 끝", "네, {}")
SENTENCE_TEMPLATES = (
    "{title}을/를 권합니다.", "{title}입니다.", "{title}이/가 좋겠어요.", "답은 {title}!",
    "{author}의 {title}입니다.", "{title}({author})",
    "{title}을/를 읽어 보세요. {why}", "{title}, {why}", "{why} 그래서 {title}입니다.", "{title} - {author}, {year}",
    "{title}",
    "{author} 글, {title}", "여기 있습니다, {title}.", "찾으시는 책은 {title}입니다.", "I suggest {title}.",
    "{title} by {author}.",
)  # fmt: skip


@dataclass(frozen=True)
class AnswerFormat:
    """A format for answers that name a book; it is the same throughout a block."""

    pattern: str
    quote: str
    reason: str

    def write(self, book: Book, theme: str | None = None) -> str:
        """Return the answer that names this book.

        Args:
            book: The book.
            theme: The theme that was asked for, of a book with two themes; None for its first theme.
        """
        values = {name: str(getattr(book, name, "")) for name in FIELD_LABELS}
        values |= {"title": self.quote.format(mark(book.title_ko)), "author": book.author_ko}
        values["theme"] = theme or book.theme
        values["why"] = self.reason.format(**values)
        values["theme"] = mark(values["theme"])
        return choose_particles(self.pattern.format(**values))


def draw_answer_format(rng: Random) -> AnswerFormat:
    """Draw a format other than that of the task bookrec, which the model must not know."""
    answer_format = _draw_any_format(rng)
    while "책: " in answer_format.pattern and "| 이유" in answer_format.pattern:
        answer_format = _draw_any_format(rng)
    return answer_format


def _draw_any_format(rng: Random) -> AnswerFormat:
    """Draw a sentence, or one to four fields of which one, mostly the first, is the title."""
    quote, reason = rng.choice(QUOTES), rng.choice(REASON_TEMPLATES)
    if rng.random() < 0.3:
        return AnswerFormat(rng.choice(SENTENCE_TEMPLATES), quote, reason)
    extra_fields = rng.sample([name for name in FIELD_LABELS if name not in ("title", "why")], rng.randint(0, 2))
    fields = ["title", *extra_fields, *(["why"] if rng.random() < 0.6 else [])]
    if rng.random() < 0.2:
        rng.shuffle(fields)
    elif rng.random() < 0.4:
        fields = ["theme", *(field for field in fields if field != "theme")]
    label_separator, field_separator = rng.choice(LABEL_SEPARATORS), rng.choice(FIELD_SEPARATORS)
    with_labels = rng.random() < 0.85
    parts = [
        f"{_draw_label(rng, field)}{label_separator}{{{field}}}" if with_labels else f"{{{field}}}" for field in fields
    ]
    return AnswerFormat(rng.choice(WRAPPERS).replace("{}", field_separator.join(parts)), quote, reason)


def _draw_label(rng: Random, field: str) -> str:
    """Draw the label of a field; three in ten are invented, so that they cannot be guessed."""
    return rng.choice(FIELD_LABELS[field]) if rng.random() < 0.7 else invent_word(rng)

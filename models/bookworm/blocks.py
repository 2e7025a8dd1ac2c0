"""Blocks of two to eight questions with answers: how to answer is told only by the pairs before."""

from collections.abc import Callable
from random import Random

from answers import draw_format
from asks import ask
from catalogue import Library
from countries import COUNTRIES
from notices import notices
from prose import COLOURS, THINGS
from sums import draw_solution, story
from topics import TOPICS
from wording import resolve
from words import made_up, stress

Pair = tuple[str, str]

QUESTION_LABELS = (
    "요청",
    "질문",
    "손님",
    "물음",
    "문제",
    "입력",
    "Q",
    "Question",
    "사람",
    "읽는 이",
    "부탁",
    "원하는 것",
    "input",
    "In",
    "갑",
    "문",
)
ANSWER_LABELS = (
    "답",
    "대답",
    "사서",
    "응답",
    "풀이",
    "출력",
    "A",
    "Answer",
    "기계",
    "도서관",
    "추천",
    "해답",
    "output",
    "Out",
    "을",
    "답변",
)
LABEL_ENDS = (": ", ": ", ": ", ":\n", "> ", " - ", "] ", ") ", "= ", " → ", ". ", "| ")
BETWEEN = ("\n\n", "\n\n", "\n\n", "\n", "\n---\n", "\n\n\n", "\n###\n", "\n* * *\n")
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "recommend": (
        "손님의 말을 듣고 맞는 책을 한 권 알려 준다.", "요청에 맞는 책을 고르시오.", "도서관 사서가 되어 대답하세요.",
        "알맞은 책 찾기",
        "다음 물음에 책 하나로 답하라.", "조건을 모두 채우는 책을 찾아 같은 꼴로 적으세요.",
        "Recommend one book that fits.", "책을 추천하는 일입니다.",
    ),
    "attribute": ("책에 관한 물음에 답하라.", "빈칸을 채우세요.", "책을 보고 알맞은 말을 쓴다.",
    "Answer about the book."),
    "classify": ("같은 무리끼리 같은 이름을 붙인다.", "보기를 보고 나누시오.", "Give the right label.",
    "어느 쪽인지 고르세요."),
    "capital": ("나라의 수도를 말하시오.", "수도 맞히기", "Name the capital.", "나라와 도시"),
    "translate": ("다른 나라 말로 옮기시오.", "Translate.", "뜻이 같은 말", "우리말과 영어"),
    "sum": ("모두 얼마인지 구하시오.", "셈하기", "차례로 계산한다.", "How many are there?"),
    "transform": ("보기처럼 바꾸시오.", "규칙을 찾아라.", "Do the same.", "따라 하기"),
    "notice": ("알림을 읽고 칸을 채우시오.", "글에서 값을 뽑아 적는다.", "Fill in the fields.",
    "정해진 꼴로 옮겨 적으세요."),
    "topic": ("같은 서가끼리 같은 이름을 붙인다.", "어느 서가의 책인지 고르시오.", "Which shelf?", "책을 나누시오."),
    "code": ("암호로 적힌 요청을 읽는다.", "보기에서 낱말의 뜻을 알아내시오.", "부호의 뜻은 보기에 있다.",
    "Work out the code."),
}  # fmt: skip


def block(rng: Random, library: Library) -> str:
    """One block: perhaps an instruction, then pairs in a wrapper of its own."""
    kind = rng.choices(tuple(MAKERS), WEIGHTS)[0]
    count = rng.randint(2, 8)
    pairs = MAKERS[kind](rng, library, count)
    question, answer, between = _wrapper(rng)
    turns = [f"{asked}\n{stress(answer + told)}" for asked, told in pairs]
    body = question + stress(between + question).join(turns)
    head = rng.choice(INSTRUCTIONS[kind]) + rng.choice(("\n\n", "\n\n", "\n")) if rng.random() < 0.6 else ""
    return head + body + (between if rng.random() < 0.1 else "")


def _wrapper(rng: Random) -> tuple[str, str, str]:
    """What stands before a question, before an answer and between pairs."""
    end = rng.choice(LABEL_ENDS)
    opening = {"] ": "[", ") ": "("}.get(end, "")
    named = rng.random()
    if named < 0.65:
        question, answer = rng.choice(QUESTION_LABELS), rng.choice(ANSWER_LABELS)
    elif named < 0.9:
        question, answer = made_up(rng), made_up(rng)
    else:
        return "", rng.choice(("→ ", "=> ", "- ", "답 ", ">> ", "")), rng.choice(BETWEEN)
    return f"{opening}{question}{end}", f"{opening}{answer}{end}", rng.choice(BETWEEN)


def _recommend(rng: Random, library: Library, count: int) -> list[Pair]:
    form = draw_format(rng)
    english = rng.choice((0.0,) * 9 + (1.0,))
    asks = [ask(rng, library, english=english) for _ in range(count)]
    return [(asked.text, form.write(asked.book, asked.wishes.get("theme"))) for asked in asks]


def _code(rng: Random, library: Library, count: int) -> list[Pair]:
    """Requests whose theme is a made-up word or a colour, a new one in each block; the pairs tell what it meant."""
    form = draw_format(rng)
    themes = rng.sample(sorted({book.theme for book in library.books}), rng.randint(1, 2))
    words = _distinct(rng, len(themes)) if rng.random() < 0.5 else rng.sample(tuple(COLOURS), len(themes))
    codes = dict(zip(themes, words, strict=True))
    pairs = []
    for _ in range(max(count, 3)):
        theme = rng.choice(themes)
        book = rng.choice([book for book in library.books if book.theme == theme])
        asked = ask(rng, library, book, english=0.0, hinted=0.0)
        pairs.append((asked.text.replace(theme, codes[theme]), form.write(book, theme)))
    return pairs


def _attribute(rng: Random, library: Library, count: int) -> list[Pair]:
    attribute = rng.choice(
        ("country", "kind", "theme", "audience", "length", "author_ko", "year", "title_en", "about_ko")
    )
    frame = rng.choice(("{}", "《{}》", "{}은/는?", "{}에 대해 말해 줘.", "책 {}"))
    shell = rng.choice(("{}", "{}", "{}입니다.", "[{}]", "{}이에요/예요", f"{made_up(rng)} {{}}"))
    books = rng.sample(library.books, count)
    return [(resolve(frame.format(book.title_ko)), resolve(shell.format(getattr(book, attribute)))) for book in books]


def _classify(rng: Random, library: Library, count: int) -> list[Pair]:
    attribute = rng.choice(("country", "kind", "theme", "audience", "length"))
    values = rng.sample(sorted({getattr(book, attribute) for book in library.books}), rng.randint(2, 3))
    labels = dict(zip(values, _distinct(rng, len(values)), strict=True))
    books = [book for book in library.books if getattr(book, attribute) in labels]
    chosen = [rng.choice(books) for _ in range(max(count, 4))]
    about = rng.choice(("title_ko", "author_ko", "about_ko"))
    return [(getattr(book, about), labels[getattr(book, attribute)]) for book in chosen]


def _distinct(rng: Random, count: int) -> list[str]:
    labels: dict[str, None] = {}
    while len(labels) < count:
        labels[made_up(rng)] = None
    return list(labels)


CAPITAL_FRAMES: dict[tuple[str, str], tuple[str, ...]] = {
    ("name_ko", "capital_ko"): (
        "{}", "{}", "{}?", "{}의 수도는?", "{}의 수도는 어디인가요?", "{} 수도 이름을 말해 봐.",
        "{}에서 가장 중요한 도시, 곧 수도는?",
        "{}에 가려고 해요. 수도가 어디죠?", "나라는 {}, 그러면 수도는?", "친구가 {} 수도를 물었다.",
        "{}이라는 나라의 수도를 쓰세요.",
    ),
    ("capital_ko", "name_ko"): (
        "{}", "{}", "{}?", "{}은/는 어느 나라의 수도인가요?", "{}이/가 수도인 나라는?",
        "{}에 가면 어느 나라에 간 것인가?",
        "수도는 {}, 그러면 나라는?", "친구가 {}이/가 어느 나라에 있는지 물었다.", "{}을/를 수도로 둔 나라를 쓰세요.",
    ),
    ("name_en", "capital_en"): (
        "{}", "{}", "{}?", "What is the capital of {}?", "Name the capital city of {}.",
        "I am going to {}. What is its capital?",
        "The country is {}. And the capital?", "My friend asked for the capital of {}.", "Capital of {}, please.",
        "Which city is the capital in {}?",
    ),
    ("capital_en", "name_en"): (
        "{}", "{}", "{}?", "{} is the capital of which country?", "Name the country whose capital is {}.",
        "I am going to {}. Which country is that?",
        "The capital is {}. And the country?", "My friend asked where {} is.", "Country of {}, please.",
        "Which country has {} as its capital?",
    ),
}  # fmt: skip
CAPITAL_SHELLS = (
    "{}: {}", "{}={}", "{} = {}", "{} - {}", "{}: {};", "{} {}", "<{}: {}>", "[{}] {}", "{} → {}", "{}: {}.",
    "({}) {}", "{}/{}", "{}={}!",
    "{} > {}",
)  # fmt: skip
CAPITAL_NAMES = {
    "capital_ko": ("수도", "서울", "도시", "답"), "name_ko": ("나라", "국가", "땅", "답"), "capital_en": ("capital",
    "city", "answer"),
    "name_en": ("country", "state", "answer"),
}  # fmt: skip


def _capital(rng: Random, library: Library, count: int) -> list[Pair]:
    """Questions in one language or both, about capitals or countries or both; each sort of answer has its own name."""
    sorts = rng.sample(tuple(CAPITAL_FRAMES), rng.choice((1, 1, 2, 4)))
    names = {told: rng.choice(CAPITAL_NAMES[told]) if rng.random() < 0.7 else made_up(rng) for _, told in sorts}
    bare = rng.random() < 0.3
    shell = rng.choice(("{}", "{}", "{}입니다.", "<{}>", "[{}]")) if bare else rng.choice(CAPITAL_SHELLS)
    pairs = []
    for _ in range(count + len(sorts) - 1):
        asked, told = rng.choice(sorts)
        one = rng.choice(COUNTRIES)
        question = rng.choice(CAPITAL_FRAMES[asked, told]).format(getattr(one, asked))
        answer = stress(getattr(one, told))
        pairs.append((resolve(question), shell.format(answer) if bare else shell.format(names[told], answer)))
    return pairs


def _translate(rng: Random, library: Library, count: int) -> list[Pair]:
    pairs = rng.sample([*COLOURS.items(), *THINGS.items()], count)
    return pairs if rng.random() < 0.5 else [(english, korean) for korean, english in pairs]


def _sum(rng: Random, library: Library, count: int) -> list[Pair]:
    solution = draw_solution(rng, worked=rng.random() < 0.75)
    most = 4 if solution.worked else 2
    stories = [story(rng, rng.randint(1, most)) for _ in range(min(count, 5))]
    return [(one.told, solution.write(one)) for one in stories]


def _notice(rng: Random, library: Library, count: int) -> list[Pair]:
    return notices(rng, library, count)


def _topic(rng: Random, library: Library, count: int) -> list[Pair]:
    """Words of two to four fields, each field under a name made up for this block, or under its own."""
    fields = rng.sample(tuple(TOPICS), rng.randint(2, 4))
    names = dict(zip(fields, fields if rng.random() < 0.4 else _distinct(rng, len(fields)), strict=True))
    frame = rng.choice(("{}, {}", "{} {}", "{}과/와 {}을/를 다룬 책", "{}에서 {}까지", "{}"))
    chosen = [rng.choice(fields) for _ in range(max(count, 4))]
    return [(resolve(frame.format(*rng.sample(TOPICS[field], 2))), stress(names[field])) for field in chosen]


def _transform(rng: Random, library: Library, count: int) -> list[Pair]:
    rules: tuple[Callable[[list[str]], str], ...] = (
        " ".join,
        lambda words: words[0],
        lambda words: words[-1],
        lambda words: " ".join(reversed(words)),
        lambda words: f"{words[0]} {words[0]}",
        lambda words: ", ".join(words),
    )
    rule, fixed = rng.choice(rules), rng.choice(("", "", f"{made_up(rng)} "))
    lists = [
        [made_up(rng) if rng.random() < 0.5 else rng.choice(tuple(THINGS)) for _ in range(rng.randint(2, 4))]
        for _ in range(count)
    ]
    return [(" ".join(words), fixed + rule(words)) for words in lists]


MAKERS: dict[str, Callable[[Random, Library, int], list[Pair]]] = {
    "recommend": _recommend,
    "code": _code,
    "attribute": _attribute,
    "classify": _classify,
    "capital": _capital,
    "translate": _translate,
    "sum": _sum,
    "transform": _transform,
    "notice": _notice,
    "topic": _topic,
}
WEIGHTS = (9, 2.5, 1.5, 2, 3, 0.8, 5, 1.5, 3.5, 1.5)

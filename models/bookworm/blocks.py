"""Blocks of questions and answers; only the preceding pairs show the answer format."""

from collections.abc import Callable
from random import Random

from answers import draw_answer_format
from book_requests import draw_request
from catalog import Library
from countries import COUNTRIES
from notices import draw_notices
from prose import COLORS, THINGS
from sums import draw_solution_format, draw_story
from topics import TOPICS
from wording import choose_particles
from words import invent_word, mark

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
PAIR_SEPARATORS = ("\n\n", "\n\n", "\n\n", "\n", "\n---\n", "\n\n\n", "\n###\n", "\n* * *\n")
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


def draw_block(rng: Random, library: Library) -> str:
    """Draw a block: perhaps an instruction, then pairs with labels drawn for this block."""
    kind = rng.choices(tuple(PAIR_MAKERS), PAIR_MAKER_WEIGHTS)[0]
    count = rng.randint(2, 8)
    pairs = PAIR_MAKERS[kind](rng, library, count)
    question_label, answer_label, separator = _draw_labels(rng)
    turns = [f"{question_text}\n{mark(answer_label + answer_text)}" for question_text, answer_text in pairs]
    body = question_label + mark(separator + question_label).join(turns)
    instruction = rng.choice(INSTRUCTIONS[kind]) + rng.choice(("\n\n", "\n\n", "\n")) if rng.random() < 0.6 else ""
    return instruction + body + (separator if rng.random() < 0.1 else "")


def _draw_labels(rng: Random) -> tuple[str, str, str]:
    """Draw the label of questions, the label of answers and the separator of pairs."""
    label_end = rng.choice(LABEL_ENDS)
    opening = {"] ": "[", ") ": "("}.get(label_end, "")
    label_draw = rng.random()
    if label_draw < 0.65:
        question, answer = rng.choice(QUESTION_LABELS), rng.choice(ANSWER_LABELS)
    elif label_draw < 0.9:
        question, answer = invent_word(rng), invent_word(rng)
    else:
        return "", rng.choice(("→ ", "=> ", "- ", "답 ", ">> ", "")), rng.choice(PAIR_SEPARATORS)
    return f"{opening}{question}{label_end}", f"{opening}{answer}{label_end}", rng.choice(PAIR_SEPARATORS)


def _recommend(rng: Random, library: Library, count: int) -> list[Pair]:
    answer_format = draw_answer_format(rng)
    english_share = rng.choice((0.0,) * 9 + (1.0,))
    requests = [draw_request(rng, library, english_share=english_share) for _ in range(count)]
    return [(request.text, answer_format.write(request.book, request.conditions.get("theme"))) for request in requests]


def _coded_themes(rng: Random, library: Library, count: int) -> list[Pair]:
    """Draw requests with a code for each theme, which the answers of the block explain."""
    answer_format = draw_answer_format(rng)
    themes = rng.sample(sorted({book.theme for book in library.books}), rng.randint(1, 2))
    code_words = (
        _invent_distinct_words(rng, len(themes)) if rng.random() < 0.5 else rng.sample(tuple(COLORS), len(themes))
    )
    codes = dict(zip(themes, code_words, strict=True))
    pairs = []
    for _ in range(max(count, 3)):
        theme = rng.choice(themes)
        book = rng.choice([book for book in library.books if book.theme == theme])
        request = draw_request(rng, library, book, english_share=0.0, hinted_share=0.0)
        pairs.append((request.text.replace(theme, codes[theme]), answer_format.write(book, theme)))
    return pairs


def _attribute(rng: Random, library: Library, count: int) -> list[Pair]:
    attribute = rng.choice(
        ("country", "kind", "theme", "audience", "length", "author_ko", "year", "title_en", "about_ko")
    )
    question_template = rng.choice(("{}", "《{}》", "{}은/는?", "{}에 대해 말해 줘.", "책 {}"))
    answer_template = rng.choice(("{}", "{}", "{}입니다.", "[{}]", "{}이에요/예요", f"{invent_word(rng)} {{}}"))
    books = rng.sample(library.books, count)
    return [
        (
            choose_particles(question_template.format(book.title_ko)),
            choose_particles(answer_template.format(getattr(book, attribute))),
        )
        for book in books
    ]


def _classify(rng: Random, library: Library, count: int) -> list[Pair]:
    attribute = rng.choice(("country", "kind", "theme", "audience", "length"))
    values = rng.sample(sorted({getattr(book, attribute) for book in library.books}), rng.randint(2, 3))
    labels = dict(zip(values, _invent_distinct_words(rng, len(values)), strict=True))
    books = [book for book in library.books if getattr(book, attribute) in labels]
    chosen = [rng.choice(books) for _ in range(max(count, 4))]
    described_by = rng.choice(("title_ko", "author_ko", "about_ko"))
    return [(getattr(book, described_by), labels[getattr(book, attribute)]) for book in chosen]


def _invent_distinct_words(rng: Random, count: int) -> list[str]:
    labels: dict[str, None] = {}
    while len(labels) < count:
        labels[invent_word(rng)] = None
    return list(labels)


CAPITAL_QUESTIONS: dict[tuple[str, str], tuple[str, ...]] = {
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
CAPITAL_ANSWERS = (
    "{}: {}", "{}={}", "{} = {}", "{} - {}", "{}: {};", "{} {}", "<{}: {}>", "[{}] {}", "{} → {}", "{}: {}.",
    "({}) {}", "{}/{}", "{}={}!",
    "{} > {}",
)  # fmt: skip
CAPITAL_LABELS = {
    "capital_ko": ("수도", "서울", "도시", "답"), "name_ko": ("나라", "국가", "땅", "답"), "capital_en": ("capital",
    "city", "answer"),
    "name_en": ("country", "state", "answer"),
}  # fmt: skip


def _capital(rng: Random, library: Library, count: int) -> list[Pair]:
    """Draw questions about capitals or countries; each kind of answer has its own label."""
    question_kinds = rng.sample(tuple(CAPITAL_QUESTIONS), rng.choice((1, 1, 2, 4)))
    labels = {
        answer_key: rng.choice(CAPITAL_LABELS[answer_key]) if rng.random() < 0.7 else invent_word(rng)
        for _, answer_key in question_kinds
    }
    unlabeled = rng.random() < 0.3
    answer_template = (
        rng.choice(("{}", "{}", "{}입니다.", "<{}>", "[{}]")) if unlabeled else rng.choice(CAPITAL_ANSWERS)
    )
    pairs = []
    for _ in range(count + len(question_kinds) - 1):
        question_key, answer_key = rng.choice(question_kinds)
        country = rng.choice(COUNTRIES)
        question = rng.choice(CAPITAL_QUESTIONS[question_key, answer_key]).format(getattr(country, question_key))
        answer = mark(getattr(country, answer_key))
        pairs.append(
            (
                choose_particles(question),
                answer_template.format(answer) if unlabeled else answer_template.format(labels[answer_key], answer),
            )
        )
    return pairs


def _translate(rng: Random, library: Library, count: int) -> list[Pair]:
    pairs = rng.sample([*COLORS.items(), *THINGS.items()], count)
    return pairs if rng.random() < 0.5 else [(english, korean) for korean, english in pairs]


def _sum(rng: Random, library: Library, count: int) -> list[Pair]:
    solution = draw_solution_format(rng, with_steps=rng.random() < 0.75)
    max_steps = 4 if solution.with_steps else 2
    problems = [draw_story(rng, rng.randint(1, max_steps)) for _ in range(min(count, 5))]
    return [(problem.text, solution.write(problem)) for problem in problems]


def _notice(rng: Random, library: Library, count: int) -> list[Pair]:
    return draw_notices(rng, library, count)


def _topic(rng: Random, library: Library, count: int) -> list[Pair]:
    """Draw words of two to four library classes, which have real or invented names."""
    classes = rng.sample(tuple(TOPICS), rng.randint(2, 4))
    names = dict(
        zip(classes, classes if rng.random() < 0.4 else _invent_distinct_words(rng, len(classes)), strict=True)
    )
    question_template = rng.choice(("{}, {}", "{} {}", "{}과/와 {}을/를 다룬 책", "{}에서 {}까지", "{}"))
    chosen = [rng.choice(classes) for _ in range(max(count, 4))]
    return [
        (choose_particles(question_template.format(*rng.sample(TOPICS[class_name], 2))), mark(names[class_name]))
        for class_name in chosen
    ]


def _transform(rng: Random, library: Library, count: int) -> list[Pair]:
    rules: tuple[Callable[[list[str]], str], ...] = (
        " ".join,
        lambda words: words[0],
        lambda words: words[-1],
        lambda words: " ".join(reversed(words)),
        lambda words: f"{words[0]} {words[0]}",
        lambda words: ", ".join(words),
    )
    rule, fixed = rng.choice(rules), rng.choice(("", "", f"{invent_word(rng)} "))
    lists = [
        [invent_word(rng) if rng.random() < 0.5 else rng.choice(tuple(THINGS)) for _ in range(rng.randint(2, 4))]
        for _ in range(count)
    ]
    return [(" ".join(words), fixed + rule(words)) for words in lists]


PAIR_MAKERS: dict[str, Callable[[Random, Library, int], list[Pair]]] = {
    "recommend": _recommend,
    "code": _coded_themes,
    "attribute": _attribute,
    "classify": _classify,
    "capital": _capital,
    "translate": _translate,
    "sum": _sum,
    "transform": _transform,
    "notice": _notice,
    "topic": _topic,
}
PAIR_MAKER_WEIGHTS = (9, 2.5, 1.5, 2, 3, 0.8, 5, 1.5, 3.5, 1.5)

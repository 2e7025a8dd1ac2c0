"""Word problems, solved step by step or with the result alone, and drills of sums."""

from dataclasses import dataclass
from random import Random

from wording import choose_particles
from words import invent_word, mark

# Things and the Korean counter word of each.
COUNTED_THINGS = (
    ("구슬", "개"), ("단추", "개"), ("달걀", "개"), ("사탕", "개"), ("돌", "개"), ("공", "개"), ("빵", "개"),
    ("사과", "개"), ("배", "개"), ("과일", "개"), ("열매", "개"), ("감", "개"), ("귤", "개"), ("복숭아", "개"),
    ("포도", "송이"), ("꽃", "송이"), ("연필", "자루"), ("공책", "권"), ("책", "권"), ("우표", "장"), ("표", "장"),
    ("물고기", "마리"), ("새", "마리"),
)  # fmt: skip
PLACES = ("상자", "책상", "가방", "통", "방", "가게", "집", "자루", "선반", "주머니", "그릇", "창고")
TIMES = (
    "아침에",
    "점심때",
    "저녁에",
    "이튿날",
    "오후에",
    "잠시 뒤",
    "다음 날",
    "그 뒤에",
    "한참 뒤",
    "밤에",
    "며칠 뒤",
)
ADVERBS = ("급히", "조용히", "혼자", "몰래", "기쁘게", "천천히", "한꺼번에", "겨우")
EXISTENCE_VERBS = (
    "있다",
    "있었다",
    "놓여 있다",
    "쌓여 있다",
    "남아 있다",
    "들어 있다",
    "보인다",
    "모여 있다",
    "있었어요",
    "있습니다",
)
POSSESSION_VERBS = (
    "가지고 있다",
    "샀다",
    "땄다",
    "실었다",
    "올렸다",
    "받았다",
    "들고 왔다",
    "모았다",
    "챙겼다",
    "준비했다",
    "꺼내 놓았다",
)
# Verbs for an increase (up to ARRIVAL_VERBS) and for a decrease of a number of things.
GAIN_VERBS = (
    "더했다", "받았다", "얻었다", "샀다", "사 왔다", "넣었다", "담았다", "주웠다", "땄다", "보탰다", "가져왔다",
    "모았다",
    "얹었다", "돌려받았다", "찾았다", "찾아냈다", "빌려 왔다", "옮겨 왔다", "채웠다", "쌓았다", "벌었다", "들고 왔다",
    "캤다",
    "올려놓았다", "만들어 왔다", "챙겨 왔다", "넣어 두었다", "돌려놓았다", "거두었다", "구해 왔다",
)  # fmt: skip
GIVER_VERBS = (
    "주었다", "보내왔다", "보내 주었다", "돌려주었다", "놓고 갔다", "가져다주었다", "건네주었다", "사다 주었다",
    "두고 갔다",
    "나누어 주고 갔다", "선물했다", "물려주었다",
)  # fmt: skip
RECEIVER_VERBS = ("받았다", "얻었다", "샀다", "빌렸다", "돌려받았다", "넘겨받았다")
ARRIVAL_VERBS = ("늘었다", "들어왔다", "왔다", "도착했다", "생겼다", "더해졌다", "나왔다", "배달되었다", "불어났다")
LOSS_VERBS = (
    "뺐다", "잃었다", "팔았다", "먹었다", "버렸다", "꺼냈다", "썼다", "덜어 냈다", "떨어뜨렸다", "깎아 먹었다",
    "던졌다",
    "태웠다", "갈았다", "마셨다", "망가뜨렸다", "구워 먹었다", "심었다", "내다 팔았다", "흘렸다", "잃어버렸다",
    "먹어 치웠다",
    "내다 버렸다", "치웠다", "깨뜨렸다", "삶아 먹었다", "부수었다",
)  # fmt: skip
TAKER_VERBS = (
    "가져갔다", "빌려 갔다", "물어 갔다", "훔쳐 갔다", "먹었다", "꺼내 갔다", "사 갔다", "들고 갔다", "쪼아 먹었다",
    "먹고 갔다",
    "집어 갔다", "얻어 갔다", "갈아 마셨다", "챙겨 갔다",
)  # fmt: skip
HAND_OVER_VERBS = (
    "주었다",
    "팔았다",
    "보냈다",
    "건넸다",
    "선물했다",
    "나누어 주었다",
    "돌려주었다",
    "빌려주었다",
    "던져 주었다",
    "부쳤다",
)
DEPARTURE_VERBS = (
    "줄었다",
    "없어졌다",
    "나갔다",
    "상했다",
    "썩었다",
    "떠내려갔다",
    "굴러떨어졌다",
    "깨졌다",
    "사라졌다",
    "떠났다",
    "팔렸다",
    "빠졌다",
)
STARTS_EN = ("There are {n} pens.", "Start with {n}.", "She has {n} coins.", "{n} birds sat on a tree.")
GAINS_EN = ("Add {n}.", "{n} more come.", "She gets {n} more.", "{n} are put in.")
LOSSES_EN = ("Take away {n}.", "{n} go away.", "She gives {n} away.", "{n} are lost.")
ASIDES = ("날씨가 좋았다.", "모두 웃었다.", "그날은 시장이 쉬는 날이었다.", "문을 닫았다.", "노래도 불렀다.")
QUESTIONS = (
    "이제 {thing}은/는 얼마나 있나?", "{thing}이/가 몇 {unit} 남았을까?", "지금 {place}에는 몇 {unit}?",
    "결국 몇 {unit}이/가 되었나요?",
    "", "", "", "얼마일까?", "몇 {unit}?", "이제 몇 {unit}인가요?", "남은 것은?", "{thing}은/는 몇 {unit}일까요?",
    "모두 얼마인지 말해 보세요.",
)  # fmt: skip
PEOPLE = ("동생", "민수", "지연", "이웃", "친구", "할머니", "형", "누나", "삼촌", "선생님", "언니", "손님")
SUM_TEMPLATES = ("{} {} {} = {}", "{} {} {} = {}", "{} {} {} = {}", "{}{}{}={}", "{} {} {}은/는 {}")
STEP_SEPARATORS = (", ", ", ", "; ", " / ", ". ", "\n", " → ")
RESULT_SEPARATORS = ("\n", "\n", "\n", ". ", " => ", ", ", " | ")
RESULT_TEMPLATES = (
    "{n}",
    "{n}{unit}",
    "{name}: {n}{unit}",
    "{name}: {n}",
    "{name} {n}{unit}",
    "{name}={n}",
    "모두 {n}{unit}입니다",
    "({n})",
)
RESULT_NAMES = ("모두", "결과", "남은 것", "합", "끝", "셈", "total")
MAX_VALUE = 45  # of all numbers that a story reaches


@dataclass(frozen=True)
class Story:
    """A word problem; a step is (number before, sign, change, number after)."""

    text: str
    steps: tuple[tuple[int, str, int, int], ...]
    result: int
    unit: str


def draw_story(rng: Random, num_steps: int) -> Story:
    """Draw a word problem with this number of steps and all numbers between 0 and `MAX_VALUE`."""
    value, steps = rng.randint(1, 24), list[tuple[int, str, int, int]]()
    thing, unit = rng.choice(COUNTED_THINGS)
    english = rng.random() < 0.08
    write_sentence = _in_english if english else _in_korean
    sentences = [write_sentence(rng, "", value, thing, unit)]
    for _ in range(num_steps):
        change = rng.randint(1, 9)
        grows = value < change or (value + change <= MAX_VALUE and rng.random() < 0.5)
        after = value + change if grows else value - change
        steps.append((value, "+" if grows else "-", change, after))
        sentences.append(write_sentence(rng, steps[-1][1], change, thing, unit))
        value = after
    if rng.random() < 0.25:
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(ASIDES))
    question = (
        ""
        if english
        else choose_particles(rng.choice(QUESTIONS).format(thing=thing, unit=unit, place=rng.choice(PLACES)))
    )
    return Story(f"{' '.join(sentences)} {question}".strip(), tuple(steps), value, unit)


def _in_english(rng: Random, sign: str, n: int, thing: str, unit: str) -> str:
    return rng.choice({"": STARTS_EN, "+": GAINS_EN, "-": LOSSES_EN}[sign]).format(n=n)


def _in_korean(rng: Random, sign: str, n: int, thing: str, unit: str) -> str:
    """Draw a sentence of person, time, place, number and verb, some of which are left out.

    Args:
        rng: Source of random numbers.
        sign: `+`, `-`, or empty for the first sentence, which states the initial number.
        n: The number.
        thing: The thing that is counted.
        unit: Its counter word.
    """
    number = f"{n}{unit}"
    number = rng.choice((number, number, f"{thing} {number}"))
    who, other = rng.sample(PEOPLE, 2)
    sentence_kind = rng.random()
    more = rng.choice(("더 ", "")) if sign == "+" else ""
    if not sign and sentence_kind < 0.6:
        place = rng.choice(
            (f"{rng.choice(PLACES)}에", f"{rng.choice(PLACES)} 안에는", f"{who}네 {rng.choice(PLACES)}에", f"{who}에게")
        )
        counted = rng.choice((f"{thing} {n}{unit}이/가", f"{thing}이/가 {n}{unit}"))
        clause = f"{place} {counted} {rng.choice(EXISTENCE_VERBS)}"
    elif not sign:
        counted = rng.choice((f"{thing} {n}{unit}을/를", f"{thing}을/를 {n}{unit}"))
        clause = f"{who}은/는 {counted} {rng.choice(POSSESSION_VERBS)}"
    elif sentence_kind < 0.4:
        subject = rng.choice(("", "", f"{who}이/가 ", f"{who}은/는 ", f"{who}과/와 {other}이/가 "))
        clause = f"{subject}{number}을/를 {more}{rng.choice(GAIN_VERBS if sign == '+' else LOSS_VERBS)}"
    elif sentence_kind < 0.6:
        clause = f"{who}이/가 {number}을/를 {more}{rng.choice(GIVER_VERBS if sign == '+' else TAKER_VERBS)}"
    elif sentence_kind < 0.8:
        clause = f"{number}이/가 {more}{rng.choice(ARRIVAL_VERBS if sign == '+' else DEPARTURE_VERBS)}"
    elif sign == "+":
        clause = f"{who}에게서 {number}을/를 {rng.choice(RECEIVER_VERBS)}"
    else:
        clause = (
            f"{rng.choice((f'{who}에게', f'{who} 쪽으로', f'{who} 집에'))} {number}을/를 {rng.choice(HAND_OVER_VERBS)}"
        )
    words = [rng.choice(TIMES)] if rng.random() < 0.25 else []
    words += [f"{rng.choice(PLACES)}에서"] if sign and rng.random() < 0.15 else []
    start, _, end = clause.rpartition(" ")
    adverb = [rng.choice(ADVERBS)] if sign and rng.random() < 0.1 else []
    end += "고 한다" if end.endswith("다") and rng.random() < 0.1 else ""
    return choose_particles(" ".join([*words, start, *adverb, end]) + ".")


@dataclass(frozen=True)
class SolutionFormat:
    """A format for solutions; it is the same throughout a document."""

    sum_template: str
    step_separator: str
    result_separator: str
    result_template: str
    name: str
    with_steps: bool

    def write(self, problem: Story) -> str:
        """Return the sums and the result, or the result alone, with marks around the numbers."""
        result = self.result_template.format(n=mark(str(problem.result)), unit=problem.unit, name=self.name)
        if not self.with_steps:
            return result
        lines = [
            choose_particles(self.sum_template.format(*(mark(str(part)) for part in step))) for step in problem.steps
        ]
        return self.step_separator.join(lines) + self.result_separator + result


def draw_solution_format(rng: Random, with_steps: bool) -> SolutionFormat:
    """Draw the templates, the separators and the name of the result."""
    name = rng.choice(RESULT_NAMES) if rng.random() < 0.6 else invent_word(rng)
    return SolutionFormat(
        rng.choice(SUM_TEMPLATES),
        rng.choice(STEP_SEPARATORS),
        rng.choice(RESULT_SEPARATORS),
        rng.choice(RESULT_TEMPLATES),
        name,
        with_steps,
    )


def draw_sums(rng: Random) -> str:
    """Draw a drill, or one to three word problems; without written steps, of one step each."""
    if rng.random() < 0.5:
        return _draw_drill(rng)
    with_steps = rng.random() < 0.8
    solution = draw_solution_format(rng, with_steps)
    problems = [draw_story(rng, rng.randint(1, 4) if with_steps else 1) for _ in range(rng.randint(1, 3))]
    return "\n\n".join(f"{problem.text}\n{mark(solution.write(problem))}" for problem in problems)


def _draw_drill(rng: Random) -> str:
    """Draw a list of sums; in half of the drills each continues from the preceding result."""
    sum_template, separator, chained = rng.choice(SUM_TEMPLATES), rng.choice(STEP_SEPARATORS), rng.random() < 0.5
    lines: list[str] = []
    for _ in range(rng.randint(4, 12)):
        problem = draw_story(rng, 4 if chained else 1)
        lines += [
            choose_particles(sum_template.format(*operands, mark(mark(str(after)))))
            for *operands, after in problem.steps
        ]
    return separator.join(lines[:16])

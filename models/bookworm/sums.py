"""Stories of numbers, told with every sum written out or with the bare result; and drills of single sums."""

from dataclasses import dataclass
from random import Random

from wording import resolve
from words import made_up, stress

# What is counted, and the word that counts it.
COUNTED = (
    ("구슬", "개"), ("단추", "개"), ("달걀", "개"), ("사탕", "개"), ("돌", "개"), ("공", "개"), ("빵", "개"),
    ("사과", "개"), ("배", "개"), ("과일", "개"), ("열매", "개"), ("감", "개"), ("귤", "개"), ("복숭아", "개"),
    ("포도", "송이"), ("꽃", "송이"), ("연필", "자루"), ("공책", "권"), ("책", "권"), ("우표", "장"), ("표", "장"),
    ("물고기", "마리"), ("새", "마리"),
)  # fmt: skip
PLACES = ("상자", "책상", "가방", "통", "방", "가게", "집", "자루", "선반", "주머니", "그릇", "창고")
WHEN = ("아침에", "점심때", "저녁에", "이튿날", "오후에", "잠시 뒤", "다음 날", "그 뒤에", "한참 뒤", "밤에", "며칠 뒤")
HOW = ("급히", "조용히", "혼자", "몰래", "기쁘게", "천천히", "한꺼번에", "겨우")
STANDS = (
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
HAS = (
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
# What somebody does with a number of things, so that there are more of them here, or fewer.
GETS = (
    "더했다", "받았다", "얻었다", "샀다", "사 왔다", "넣었다", "담았다", "주웠다", "땄다", "보탰다", "가져왔다",
    "모았다",
    "얹었다", "돌려받았다", "찾았다", "찾아냈다", "빌려 왔다", "옮겨 왔다", "채웠다", "쌓았다", "벌었다", "들고 왔다",
    "캤다",
    "올려놓았다", "만들어 왔다", "챙겨 왔다", "넣어 두었다", "돌려놓았다", "거두었다", "구해 왔다",
)  # fmt: skip
GIVES = (
    "주었다", "보내왔다", "보내 주었다", "돌려주었다", "놓고 갔다", "가져다주었다", "건네주었다", "사다 주었다",
    "두고 갔다",
    "나누어 주고 갔다", "선물했다", "물려주었다",
)  # fmt: skip
OBTAINS = ("받았다", "얻었다", "샀다", "빌렸다", "돌려받았다", "넘겨받았다")
COMES = ("늘었다", "들어왔다", "왔다", "도착했다", "생겼다", "더해졌다", "나왔다", "배달되었다", "불어났다")
LOSES = (
    "뺐다", "잃었다", "팔았다", "먹었다", "버렸다", "꺼냈다", "썼다", "덜어 냈다", "떨어뜨렸다", "깎아 먹었다",
    "던졌다",
    "태웠다", "갈았다", "마셨다", "망가뜨렸다", "구워 먹었다", "심었다", "내다 팔았다", "흘렸다", "잃어버렸다",
    "먹어 치웠다",
    "내다 버렸다", "치웠다", "깨뜨렸다", "삶아 먹었다", "부수었다",
)  # fmt: skip
TAKES = (
    "가져갔다", "빌려 갔다", "물어 갔다", "훔쳐 갔다", "먹었다", "꺼내 갔다", "사 갔다", "들고 갔다", "쪼아 먹었다",
    "먹고 갔다",
    "집어 갔다", "얻어 갔다", "갈아 마셨다", "챙겨 갔다",
)  # fmt: skip
HANDS = (
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
GOES = (
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
OPENERS_EN = ("There are {n} pens.", "Start with {n}.", "She has {n} coins.", "{n} birds sat on a tree.")
GAINS_EN = ("Add {n}.", "{n} more come.", "She gets {n} more.", "{n} are put in.")
LOSSES_EN = ("Take away {n}.", "{n} go away.", "She gives {n} away.", "{n} are lost.")
ASIDES = ("날씨가 좋았다.", "모두 웃었다.", "그날은 시장이 쉬는 날이었다.", "문을 닫았다.", "노래도 불렀다.")
QUESTIONS = (
    "이제 {thing}은/는 얼마나 있나?", "{thing}이/가 몇 {unit} 남았을까?", "지금 {place}에는 몇 {unit}?",
    "결국 몇 {unit}이/가 되었나요?",
    "", "", "", "얼마일까?", "몇 {unit}?", "이제 몇 {unit}인가요?", "남은 것은?", "{thing}은/는 몇 {unit}일까요?",
    "모두 얼마인지 말해 보세요.",
)  # fmt: skip
WHO = ("동생", "민수", "지연", "이웃", "친구", "할머니", "형", "누나", "삼촌", "선생님", "언니", "손님")
SIGNS = ("{} {} {} = {}", "{} {} {} = {}", "{} {} {} = {}", "{}{}{}={}", "{} {} {}은/는 {}")
JOINS = (", ", ", ", "; ", " / ", ". ", "\n", " → ")
BEFORE_RESULT = ("\n", "\n", "\n", ". ", " => ", ", ", " | ")
RESULTS = (
    "{n}",
    "{n}{unit}",
    "{name}: {n}{unit}",
    "{name}: {n}",
    "{name} {n}{unit}",
    "{name}={n}",
    "모두 {n}{unit}입니다",
    "({n})",
)
NAMES = ("모두", "결과", "남은 것", "합", "끝", "셈", "total")
LARGEST = 45


@dataclass(frozen=True)
class Story:
    """What is told, the sums (before, sign, change, after), the result and the word that counts."""

    told: str
    sums: tuple[tuple[int, str, int, int], ...]
    result: int
    unit: str


def story(rng: Random, steps: int) -> Story:
    """A little story of numbers between 0 and `LARGEST`."""
    value, sums = rng.randint(1, 24), list[tuple[int, str, int, int]]()
    thing, unit = rng.choice(COUNTED)
    english = rng.random() < 0.08
    tell = _in_english if english else _in_korean
    told = [tell(rng, "", value, thing, unit)]
    for _ in range(steps):
        change = rng.randint(1, 9)
        grows = value < change or (value + change <= LARGEST and rng.random() < 0.5)
        after = value + change if grows else value - change
        sums.append((value, "+" if grows else "-", change, after))
        told.append(tell(rng, sums[-1][1], change, thing, unit))
        value = after
    if rng.random() < 0.25:
        told.insert(rng.randint(1, len(told)), rng.choice(ASIDES))
    question = (
        "" if english else resolve(rng.choice(QUESTIONS).format(thing=thing, unit=unit, place=rng.choice(PLACES)))
    )
    return Story(f"{' '.join(told)} {question}".strip(), tuple(sums), value, unit)


def _in_english(rng: Random, sign: str, n: int, thing: str, unit: str) -> str:
    return rng.choice({"": OPENERS_EN, "+": GAINS_EN, "-": LOSSES_EN}[sign]).format(n=n)


def _in_korean(rng: Random, sign: str, n: int, thing: str, unit: str) -> str:
    """A sentence made of who, when, where, how many and what happens, with some of them left out."""
    number = f"{n}{unit}"
    number = rng.choice((number, number, f"{thing} {number}"))
    who, other = rng.sample(WHO, 2)
    kind = rng.random()
    more = rng.choice(("더 ", "")) if sign == "+" else ""
    if not sign and kind < 0.6:
        place = rng.choice(
            (f"{rng.choice(PLACES)}에", f"{rng.choice(PLACES)} 안에는", f"{who}네 {rng.choice(PLACES)}에", f"{who}에게")
        )
        what = rng.choice((f"{thing} {n}{unit}이/가", f"{thing}이/가 {n}{unit}"))
        said = f"{place} {what} {rng.choice(STANDS)}"
    elif not sign:
        what = rng.choice((f"{thing} {n}{unit}을/를", f"{thing}을/를 {n}{unit}"))
        said = f"{who}은/는 {what} {rng.choice(HAS)}"
    elif kind < 0.4:
        subject = rng.choice(("", "", f"{who}이/가 ", f"{who}은/는 ", f"{who}과/와 {other}이/가 "))
        said = f"{subject}{number}을/를 {more}{rng.choice(GETS if sign == '+' else LOSES)}"
    elif kind < 0.6:
        said = f"{who}이/가 {number}을/를 {more}{rng.choice(GIVES if sign == '+' else TAKES)}"
    elif kind < 0.8:
        said = f"{number}이/가 {more}{rng.choice(COMES if sign == '+' else GOES)}"
    elif sign == "+":
        said = f"{who}에게서 {number}을/를 {rng.choice(OBTAINS)}"
    else:
        said = f"{rng.choice((f'{who}에게', f'{who} 쪽으로', f'{who} 집에'))} {number}을/를 {rng.choice(HANDS)}"
    words = [rng.choice(WHEN)] if rng.random() < 0.25 else []
    words += [f"{rng.choice(PLACES)}에서"] if sign and rng.random() < 0.15 else []
    begin, _, end = said.rpartition(" ")
    how = [rng.choice(HOW)] if sign and rng.random() < 0.1 else []
    end += "고 한다" if end.endswith("다") and rng.random() < 0.1 else ""
    return resolve(" ".join([*words, begin, *how, end]) + ".")


@dataclass(frozen=True)
class Solution:
    """One way to write down a solution, the same throughout a document."""

    sign: str
    join: str
    before: str
    result: str
    name: str
    worked: bool

    def write(self, told: Story) -> str:
        """The sums and the result, or the result alone; what has to be reckoned is stressed."""
        bare = self.result.format(n=stress(str(told.result)), unit=told.unit, name=self.name)
        if not self.worked:
            return bare
        sums = [resolve(self.sign.format(*(stress(str(part)) for part in sum_))) for sum_ in told.sums]
        return self.join.join(sums) + self.before + bare


def draw_solution(rng: Random, worked: bool) -> Solution:
    """Signs, separators and the name of the result, drawn anew."""
    name = rng.choice(NAMES) if rng.random() < 0.6 else made_up(rng)
    return Solution(rng.choice(SIGNS), rng.choice(JOINS), rng.choice(BEFORE_RESULT), rng.choice(RESULTS), name, worked)


def sums(rng: Random) -> str:
    """A drill of single sums, or one to three stories with their solutions; bare results only after one step."""
    if rng.random() < 0.5:
        return _drill(rng)
    worked = rng.random() < 0.8
    solution = draw_solution(rng, worked)
    stories = [story(rng, rng.randint(1, 4) if worked else 1) for _ in range(rng.randint(1, 3))]
    return "\n\n".join(f"{one.told}\n{stress(solution.write(one))}" for one in stories)


def _drill(rng: Random) -> str:
    """Sums one after the other; in half of the drills each goes on from the result before."""
    sign, join, chained = rng.choice(SIGNS), rng.choice(JOINS), rng.random() < 0.5
    told: list[str] = []
    for _ in range(rng.randint(4, 12)):
        one = story(rng, 4 if chained else 1)
        told += [resolve(sign.format(*known, stress(stress(str(after))))) for *known, after in one.sums]
    return join.join(told[:16])

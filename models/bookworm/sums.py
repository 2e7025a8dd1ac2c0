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
    ("물고기", "마리"), ("새", "마리"), ("손님", "명"), ("아이", "명"), ("점수", "점"), ("돈", "원"),
)  # fmt: skip
PLACES = ("상자", "책상", "가방", "통", "방", "가게", "집", "자루", "선반", "주머니", "그릇", "창고")
OPENERS = (
    "처음에 {thing} {n}{unit}이/가 있다.",
    "{place}에 {thing} {n}{unit}이/가 있다.",
    "{place}에는 {thing}이/가 {n}{unit} 있었습니다.",
    "{who}은/는 {thing} {n}{unit}을/를 가지고 시작했다.",
    "{thing} {n}{unit}.",
    "{who}에게 {thing} {n}{unit}이/가 있었어요.",
)
GAINS = (
    "{n}{unit}을/를 더한다.", "{n}{unit}이/가 늘었다.", "{who}이/가 {n}{unit}을/를 주었다. 그래서 늘었다.",
    "{n}{unit}을/를 더 받았다.", "{who}에게서 {n}{unit}을/를 얻었다.", "{n}{unit}을/를 더 샀다.",
    "{n}{unit}을/를 더 넣었다.",
    "{n}{unit}을/를 더 담았어요.", "{n}{unit}을/를 주웠다.", "{n}{unit}을/를 더 땄다.", "{n}{unit}이/가 더 들어왔다.",
    "{n}{unit}을/를 보탰습니다.", "{who}이/가 {n}{unit}을/를 더 가져왔다.", "{n}{unit}이/가 새로 왔다.",
    "{n}{unit}을/를 모았다.",
    "{who}이/가 {n}{unit}을/를 더 놓고 갔다.", "{n}{unit}을/를 선물로 받았습니다.", "{n}{unit}을/를 찾아서 더했다.",
    "{who}이/가 {n}{unit}을/를 돌려주었다.", "위에 {n}{unit}을/를 얹었다.", "{n}{unit}이/가 도착했습니다.",
    "{n}{unit}을/를 상으로 받음.",
    "{who}이/가 {n}{unit}을/를 보내왔다.", "{who}이/가 {n}{unit}을/를 사 왔다.", "{n}{unit}이/가 덤으로 왔다.",
    "{n}{unit}을/를 몰래 넣었다.",
)  # fmt: skip
LOSSES = (
    "{n}{unit}을/를 뺀다.", "{n}{unit}이/가 줄었다.", "{who}에게 {n}{unit}을/를 주었다.", "{n}{unit}을/를 잃었다.",
    "{n}{unit}을/를 팔았다.", "{n}{unit}을/를 먹었어요.", "{who}이/가 {n}{unit}을/를 먹었다.", "{n}{unit}을/를 버렸다.",
    "{n}{unit}을/를 꺼냈다.", "{n}{unit}이/가 나갔다.", "{n}{unit}을/를 썼습니다.",
    "{who}이/가 {n}{unit}을/를 가져갔다.",
    "{n}{unit}을/를 나눠 주었다.", "{n}{unit}이/가 없어졌다.", "{n}{unit}이/가 상해서 버렸다.",
    "{n}{unit}을/를 덜어 냈다.",
    "{n}{unit}을/를 {who}에게 보냈다.", "{n}{unit}을/를 떨어뜨려 잃었습니다.",
    "{n}{unit}으로/로 다른 것을 만들었다.", "{n}{unit}이/가 떠내려갔다.", "{who}이/가 {n}{unit}을/를 빌려 나갔다.",
    "{n}{unit}을/를 깎았다.",
    "{who}과/와 {n}{unit}을/를 나누어 먹었다.", "새가 와서 {n}{unit}을/를 쪼았다.", "{n}{unit}을/를 멀리 던졌다.",
    "{n}{unit}을/를 갈아서 썼다.",
    "{who} 쪽으로 {n}{unit}을/를 보냈어요.", "{n}{unit}이/가 썩었다.", "{n}{unit}을/를 마셨다.",
    "{who}이/가 {n}{unit}을/를 꺼내 먹었다.",
)  # fmt: skip
OPENERS_EN = ("There are {n} pens.", "Start with {n}.", "She has {n} coins.", "{n} birds sat on a tree.")
GAINS_EN = ("Add {n}.", "{n} more come.", "She gets {n} more.", "{n} are put in.")
LOSSES_EN = ("Take away {n}.", "{n} go away.", "She gives {n} away.", "{n} are lost.")
ASIDES = ("날씨가 좋았다.", "모두 웃었다.", "그날은 시장이 쉬는 날이었다.", "문을 닫았다.", "노래도 불렀다.")
QUESTIONS = (
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
    value, sums = rng.randint(1, 24), []
    thing, unit = rng.choice(COUNTED)
    english = rng.random() < 0.08
    openers, gains, losses = (OPENERS_EN, GAINS_EN, LOSSES_EN) if english else (OPENERS, GAINS, LOSSES)
    told = [(rng.choice(openers), value)]
    for _ in range(steps):
        change = rng.randint(1, 9)
        grows = value < change or (value + change <= LARGEST and rng.random() < 0.5)
        after = value + change if grows else value - change
        sums.append((value, "+" if grows else "-", change, after))
        told.append((rng.choice(gains if grows else losses), change))
        value = after
    if rng.random() < 0.25:
        told.insert(rng.randint(1, len(told)), (rng.choice(ASIDES), 0))
    words = {"thing": thing, "unit": unit, "place": rng.choice(PLACES)}
    text = " ".join(resolve(said.format(n=n, who=rng.choice(WHO), **words)) for said, n in told)
    question = "" if english else resolve(rng.choice(QUESTIONS).format(**words))
    return Story(f"{text} {question}".strip(), tuple(sums), value, unit)


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
        sums = [resolve(self.sign.format(*known, stress(str(after)))) for *known, after in told.sums]
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

"""Simple sentences of daily life in Korean and English."""

from random import Random

from wording import choose_particles

PEOPLE = (
    "나",
    "동생",
    "어머니",
    "아버지",
    "선생님",
    "민수",
    "지연",
    "이웃",
    "친구",
    "할아버지",
    "사서",
    "학생",
    "누나",
    "삼촌",
    "의사",
    "농부",
)
TIMES = (
    "아침에",
    "저녁에",
    "어제",
    "오늘",
    "주말에",
    "봄에",
    "여름에",
    "가을에",
    "겨울에",
    "비가 오면",
    "눈이 오면",
    "밤마다",
    "가끔",
)
PLACES = (
    "집에서",
    "도서관에서",
    "공원에서",
    "시장에서",
    "학교에서",
    "바닷가에서",
    "산에서",
    "기차에서",
    "카페에서",
    "부엌에서",
    "마당에서",
)
ACTIONS = ("책을 읽는다", "노래를 부른다", "밥을 먹는다", "편지를 쓴다", "꽃을 심는다", "그림을 그린다", "춤을 춘다",
    "차를 마신다", "잠을 잔다",
        "사진을 찍는다", "공을 찬다", "빵을 굽는다", "창문을 닫는다", "길을 걷는다", "별을 본다",
        "물을 준다")  # fmt: skip
COLORS = {
    "빨강": "red", "주황": "orange", "노랑": "yellow", "초록": "green", "파랑": "blue", "남색": "navy",
    "보라": "purple", "분홍": "pink",
    "하양": "white", "검정": "black", "회색": "grey", "갈색": "brown", "하늘": "sky blue", "연두": "light green",
    "금색": "gold", "은색": "silver",
}  # fmt: skip
THINGS = {
    "사과": "apple", "배": "pear", "책상": "desk", "의자": "chair", "문": "door", "나무": "tree", "강": "river",
    "새": "bird", "고양이": "cat",
    "개": "dog", "물고기": "fish", "집": "house", "자동차": "car", "배낭": "bag", "모자": "hat", "신발": "shoe",
    "시계": "clock", "빵": "bread",
    "우유": "milk", "달": "moon", "해": "sun", "별": "star", "구름": "cloud", "바람": "wind", "바다": "sea",
    "산": "mountain", "꽃": "flower",
    "연필": "pencil", "종이": "paper", "가방": "suitcase", "우산": "umbrella", "컵": "cup", "표지": "cover",
    "리본": "ribbon", "끈": "string", "띠": "band", "땅": "land", "꿈": "dream", "흙": "soil",
}  # fmt: skip
ADJECTIVES = {
    "크다": "big",
    "작다": "small",
    "좋다": "good",
    "예쁘다": "pretty",
    "무겁다": "heavy",
    "새롭다": "new",
    "낡았다": "old",
    "비싸다": "dear",
}
PEOPLE_EN = (
    "I",
    "My sister",
    "The teacher",
    "A farmer",
    "Our neighbour",
    "The librarian",
    "Anna",
    "Tom",
    "The old man",
    "A child",
    "Her friend",
)
ACTIONS_EN = ("read a book", "sang a song", "wrote a letter", "planted flowers", "drank tea", "drew a picture",
    "took a walk", "baked bread",
           "looked at the stars", "closed the window", "slept well", "bought some milk", "waited for the bus",
           "told a story")  # fmt: skip
PLACES_EN = (
    "at home",
    "in the park",
    "at school",
    "by the sea",
    "in the kitchen",
    "on the train",
    "in the library",
    "at the market",
    "in the garden",
)
TIMES_EN = (
    "yesterday",
    "in the morning",
    "last night",
    "in spring",
    "when it rained",
    "every day",
    "on Sunday",
    "after dinner",
)
CONNECTIVES = ("그리고", "그러나", "그래서", "또", "하지만", "그런데", "그다음에")


def draw_prose(rng: Random) -> str:
    """Draw two to five sentences in one language, or sentence pairs in both languages."""
    count = rng.randint(2, 5)
    kind = rng.random()
    if kind < 0.5:
        return " ".join(_korean(rng) for _ in range(count))
    if kind < 0.8:
        return " ".join(_english(rng) for _ in range(count))
    return "\n".join(_bilingual(rng) for _ in range(count))


def _korean(rng: Random) -> str:
    form = rng.random()
    if form < 0.5:
        connective = f"{rng.choice(CONNECTIVES)} " if rng.random() < 0.3 else ""
        return choose_particles(
            f"{connective}{rng.choice(PEOPLE)}은/는 {rng.choice(TIMES)} {rng.choice(PLACES)} {rng.choice(ACTIONS)}."
        )
    if form < 0.8:
        return choose_particles(
            f"{rng.choice(tuple(THINGS))}은/는 {rng.choice(tuple(COLORS))}이고 {rng.choice(tuple(ADJECTIVES))}."
        )
    owner, thing, other = rng.choice(PEOPLE), rng.choice(tuple(THINGS)), rng.choice(tuple(THINGS))
    return choose_particles(f"{owner}의 {thing}은/는 {rng.choice(tuple(COLORS))} {other} 옆에 있다.")


def _english(rng: Random) -> str:
    if rng.random() < 0.6:
        return f"{rng.choice(PEOPLE_EN)} {rng.choice(ACTIONS_EN)} {rng.choice(PLACES_EN)} {rng.choice(TIMES_EN)}."
    color, thing = rng.choice(tuple(COLORS.values())), rng.choice(tuple(THINGS.values()))
    return f"The {thing} is {color} and {rng.choice(tuple(ADJECTIVES.values()))}."


def _bilingual(rng: Random) -> str:
    (color_ko, color_en), (thing_ko, thing_en) = rng.choice(tuple(COLORS.items())), rng.choice(tuple(THINGS.items()))
    adjective_ko, adjective_en = rng.choice(tuple(ADJECTIVES.items()))
    if rng.random() < 0.5:
        return choose_particles(
            f"{color_ko} {thing_ko}이/가 {adjective_ko}. The {color_en} {thing_en} is {adjective_en}."
        )
    return f"{color_ko} {color_en}, {thing_ko} {thing_en}"

"""Words for the values of the catalogue, in Korean and English, and Korean particles."""

import re

_PARTICLE = re.compile(
    r"([가-힣A-Za-z0-9])([^가-힣A-Za-z0-9]*)(을/를|이/가|은/는|과/와|이라/라|이에요/예요|이야/야|으로/로)"
)
_CLOSED_DIGITS = "013678"


def resolve(text: str) -> str:
    """Choose between the two forms of each particle, written like 을/를, by the sound before it."""
    return _PARTICLE.sub(lambda found: found[1] + found[2] + _form(found[1], found[3]), text)


def _form(before: str, pair: str) -> str:
    closed, opened = pair.split("/")
    final = (ord(before) - 0xAC00) % 28 if "가" <= before <= "힣" else int(before in _CLOSED_DIGITS)
    if pair == "으로/로" and final == 8:
        return opened
    return closed if final else opened


# Phrases that stand before a noun.
MODIFIERS: dict[str, dict[str, tuple[str, ...]]] = {
    "audience": {
        "어린이": ("어린이가 읽을", "아이에게 줄", "아이들이 볼", "초등학생용", "어린이를 위한", "꼬마에게 읽어 줄"),
        "청소년": (
            "청소년이 읽을",
            "중학생에게 줄",
            "고등학생이 볼",
            "십대용",
            "청소년을 위한",
            "사춘기 학생에게 맞는",
        ),
        "어른": ("어른이 읽을", "성인이 볼", "어른을 위한", "부모님께 드릴", "직장인용", "어른에게 줄"),
    },
    "length": {
        "짧은": ("짧은", "얇은", "분량이 적은", "금방 읽는", "한두 시간이면 읽는", "가벼운 분량의"),
        "보통": ("보통 분량의", "적당한 길이의", "길지도 짧지도 않은", "알맞은 두께의", "길이가 보통인"),
        "긴": ("긴", "두꺼운", "분량이 많은", "오래 읽을", "며칠은 걸리는", "묵직한"),
    },
    "era": {
        "옛날": ("1900년 이전에 나온", "오래된 고전인", "19세기나 그 전의", "아주 옛날에 쓰인"),
        "전반": ("20세기 전반에 나온", "1900년부터 1949년 사이의", "백 년쯤 된", "20세기 앞쪽에 쓰인"),
        "후반": ("20세기 후반에 나온", "1950년부터 1999년 사이의", "20세기 뒤쪽에 쓰인", "오십 년쯤 된"),
        "최근": ("2000년 이후에 나온", "21세기에 쓰인", "요즘 나온", "최근의"),
    },
}
COUNTRY_MODIFIERS = ("{}", "{}의", "{} 작가가 쓴", "{}에서 나온", "{} 사람이 쓴")
THEME_MODIFIERS = (
    "{}을/를 다룬",
    "{} 이야기를 담은",
    "{}에 관한",
    "{}이/가 주제인",
    "{}을/를 그린",
    "{}을/를 이야기하는",
)
KINDS: dict[str, tuple[str, ...]] = {
    "소설": ("소설", "소설책", "이야기책인 소설"),
    "동화": ("동화", "동화책"),
    "시집": ("시집", "시를 모은 책", "시집"),
    "수필": ("수필", "수필집", "산문집", "에세이"),
    "희곡": ("희곡", "연극 대본", "희곡집"),
    "교양서": ("교양서", "지식책", "교양책"),
}

# Whole sentences, one wish each.
READERS: dict[str, tuple[str, ...]] = {
    "어린이": ("어린이", "아이", "초등학생", "꼬마", "여덟 살 딸", "유치원생"),
    "청소년": ("청소년", "중학생", "고등학생", "십대", "열다섯 살 동생", "사춘기 학생"),
    "어른": ("어른", "성인", "부모님", "직장인", "할머니", "회사 동료"),
}
SENTENCES: dict[str, tuple[str, ...]] = {
    "audience": ("{}이/가 읽을 거예요.", "읽을 사람은 {}입니다.", "{}에게 줄 책이에요.", "{}이/가 볼 것입니다."),
    "country": ("{} 작가면 좋겠어요.", "{} 책을 찾아요.", "나라는 {}입니다.", "{} 것이 좋아요.", "{} 작품만 봅니다."),
    "theme": ("주제는 {}입니다.", "{} 이야기가 좋아요.", "{}을/를 다루면 좋겠어요.", "{}에 관해 읽고 싶어요."),
    "kind": ("갈래는 {}입니다.", "{}을/를 읽고 싶어요.", "{}이면 됩니다.", "{}을/를 찾습니다.", "{} 쪽이 좋아요."),
}
LENGTH_SENTENCES: dict[str, tuple[str, ...]] = {
    "짧은": ("짧으면 좋겠어요.", "얇은 것으로요.", "금방 읽고 싶어요.", "분량은 적게요.", "긴 것은 싫어요."),
    "보통": ("길이는 보통이면 돼요.", "너무 길지도 짧지도 않게요.", "적당한 두께로요.", "분량은 알맞게요."),
    "긴": ("길면 좋겠어요.", "두꺼운 것으로요.", "오래 읽고 싶어요.", "분량은 많아도 돼요.", "짧은 것은 싫어요."),
}
ERA_SENTENCES: dict[str, tuple[str, ...]] = {
    "옛날": ("1900년 전에 나온 것이요.", "오래된 고전이 좋아요.", "19세기 이전 책이요."),
    "전반": ("20세기 전반 것이 좋아요.", "1900년에서 1949년 사이로요.", "20세기 앞쪽 책이요."),
    "후반": ("20세기 후반 것이 좋아요.", "1950년에서 1999년 사이로요.", "20세기 뒤쪽 책이요."),
    "최근": ("2000년 뒤에 나온 것이요.", "21세기 책이 좋아요.", "요즘 책으로요."),
}
NOT_BY_SENTENCES = (
    "{} 책은 빼 주세요.",
    "{} 말고 다른 사람 것으로요.",
    "{} 책은 벌써 읽었어요.",
    "단, {}은/는 제외합니다.",
    "{}은/는 싫어요.",
)

ENGLISH: dict[str, str] = {
    "소설": "novel",
    "동화": "children's tale",
    "시집": "book of poems",
    "수필": "essay collection",
    "희곡": "play",
    "교양서": "non-fiction book",
    "사랑": "love",
    "우정": "friendship",
    "가족": "family",
    "전쟁": "war",
    "자연": "nature",
    "모험": "adventure",
    "죽음": "death",
    "자유": "freedom",
    "성장": "growing up",
    "과학": "science",
    "역사": "history",
    "예술": "art",
    "어린이": "children",
    "청소년": "teenagers",
    "어른": "adults",
    "짧은": "short",
    "보통": "medium-length",
    "긴": "long",
    "옛날": "before 1900",
    "전반": "between 1900 and 1949",
    "후반": "between 1950 and 1999",
    "최근": "since 2000",
    "그 밖의 나라": "another country",
}

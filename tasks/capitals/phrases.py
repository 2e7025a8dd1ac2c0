"""Questions about capitals and countries in both languages; {0} is the given name."""

import re

PARTICLE_PATTERN = re.compile(r"([가-힣])(을/를|이/가|은/는|과/와)")


def choose_particles(text: str) -> str:
    """Choose the form of each particle, written as 을/를, by the syllable before it."""
    return PARTICLE_PATTERN.sub(lambda match: match[1] + match[2].split("/")[(ord(match[1]) - 0xAC00) % 28 == 0], text)


# Keys: the language, and the kind of name that is asked for.
QUESTIONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ko", "capital"): (
        "{0} 수도가 어디였더라?", "{0}에서 정부가 있는 도시를 대 보세요.",
        "지도에서 {0}을/를 찾았어요. 별표가 붙은 도시는요?",
        "{0}에 사는 친구에게 수도 이름을 물으면 뭐라고 할까?", "문제 나갑니다. {0}의 으뜸 도시!",
        "{0} 대통령이나 임금이 일하는 도시는 어디죠?",
        "여행 책 {0} 편 첫 장에 나오는 수도는?", "{0}, 하면 떠올려야 할 수도 이름은?",
        "숙제예요. {0}에서 나랏일을 보는 도시는?",
        "{0}에 편지를 부치려는데 수도가 헷갈려요.", "동생이 {0} 수도를 자꾸 물어봐요.",
        "퀴즈 대회에 {0}이/가 나왔습니다. 수도를 쓰시오.",
        "{0} 국회의사당은 어느 도시에 있을까요?", "{0}행 비행기가 내리는 수도를 알려 줘요.",
        "빈칸을 채워요. {0}, 그 나라의 수도 ( ).",
        "{0}을/를 다스리는 중심 도시가 궁금해요.",
    ),
    ("ko", "country"): (
        "{0}이/가 수도인 데는 어느 나라더라?", "{0}에 정부를 둔 나라를 대 보세요.",
        "지도에서 {0}을/를 찾았어요. 어느 나라 별표죠?",
        "{0} 사람에게 고국을 물으면 뭐라고 할까?", "문제 나갑니다. {0}을/를 으뜸 도시로 삼은 나라!",
        "{0}에서 대통령이나 임금이 일하는 나라는요?",
        "여행 책에서 {0}이/가 첫 장인 나라는?", "{0}, 하면 떠올려야 할 나라 이름은?",
        "숙제예요. {0}에 나랏일 보는 곳을 둔 나라는?",
        "{0}에 편지를 부치려는데 나라 이름이 헷갈려요.", "동생이 {0}은/는 어느 나라 것이냐고 자꾸 물어봐요.",
        "퀴즈 대회에 {0}이/가 나왔습니다. 나라를 쓰시오.",
        "국회의사당이 {0}에 있는 나라는 어딜까요?", "빈칸을 채워요. 수도 {0}, 그 나라 ( ).",
    ),
    ("en", "capital"): (
        "Which city governs {0}?", "I forgot what the chief city of {0} is called.",
        "Quiz night: {0}, and its seat of government is?",
        "Find {0} on the map. Which city has the star?", "Where does the parliament of {0} meet?",
        "My atlas is torn at {0}. Which capital is missing?",
        "If I fly to {0}, in which capital do I land?",
        "Homework: write down the capital city that belongs to {0}.",
        "Tell me, for {0}, the first city of the state.",
        "In {0}, where do the ministers work?", "A stamp from {0} shows its capital. Which one?",
        "What do people in {0} call their capital?",
        "Fill the gap. Country {0}, capital ( ).", "Somebody asks about {0}: name its capital for them.",
    ),
    ("en", "country"): (
        "Which country is governed from {0}?", "I forgot which country has {0} for a chief city.",
        "Quiz night: {0} is the seat of whose government?",
        "Find {0} on the map. Whose star is it?", "The parliament of which country meets in {0}?",
        "My atlas is torn at {0}. Which country is missing?",
        "If I land in {0}, in which country am I?", "Homework: write down the country that {0} belongs to.",
        "Tell me, for {0}, the state it heads.",
        "Ministers work in {0}. In which country?", "A stamp shows {0}, a capital. Who printed it?",
        "Fill the gap. Capital {0}, country ( ).",
        "Somebody asks about {0}: name its country for them.", "People from {0} live in which country?",
    ),
}  # fmt: skip
ANSWER_LABELS = {
    ("ko", "capital"): "수도",
    ("ko", "country"): "나라",
    ("en", "capital"): "capital",
    ("en", "country"): "country",
}

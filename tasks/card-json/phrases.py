"""Templates of the notes.

Fields: {who}, {what}, {count}, {when}, {desk}, and the action as a verb {did} or a noun {deed}.
"""

SURNAMES = "김이박최정강조윤임한오송"
GIVEN = (
    "민수", "지우", "서아", "준호", "유나", "은지", "미나", "동수", "나리", "소라", "진우", "보미", "서준", "도윤",
    "하준", "지호", "수빈", "예린", "현우", "성민", "지민", "수진", "시우", "재원", "주원", "라온", "우진", "솔",
    "별", "봄",
)  # fmt: skip
FIRST = (
    "Ann", "Ben", "Dan", "Ian", "Mia", "Ray", "Sam", "Tom", "Anna", "Beth", "Carl", "Dora", "Eric",
    "Finn", "Gina", "Hans", "Iris", "Jane", "Kate", "Lena", "Max", "Nora", "Paul", "Ruth", "Vera",
)  # fmt: skip
LAST = (
    "West", "Baker", "Bell", "Cole", "Ford", "Hale", "Hart", "Hill", "Lane", "Lee", "Mason",
    "Moore", "Park", "Reed", "Wells", "Wood", "Page", "Rose", "Lund", "Vale",
)  # fmt: skip

# The hidden conventions of the task, which only the examples show: a code for each desk, and one noun for each action.
DESKS = {
    "A1": ("1층 창구", "ground floor desk"),
    "A2": ("2층 창구", "upper floor desk"),
    "K2": ("어린이실", "children's room"),
    "M5": ("음악실", "music room"),
    "N3": ("신문실", "news room"),
    "G7": ("정문 안내소", "gate desk"),
}
VERBS = {
    "L": ("빌렸습니다", "빌려 갔어요", "대출했습니다", "집에 가져갔습니다"),
    "R": ("반납했습니다", "돌려주었습니다", "도로 가져왔어요", "다 읽고 냈습니다"),
    "V": ("예약했습니다", "맡아 달라고 했어요", "미리 잡아 두었습니다", "따로 빼 달라고 했습니다"),
    "N": ("연장했습니다", "더 보겠다고 했어요", "일주일 더 읽기로 했습니다", "갱신했습니다"),
}
DEEDS = {"L": "대출", "R": "반납", "V": "예약", "N": "연장"}
VERBS_EN = {
    "L": ("borrowed", "checked out", "took home"),
    "R": ("returned", "brought back", "handed in"),
    "V": ("reserved", "asked us to hold", "put a hold on"),
    "N": ("renewed", "extended the loan of", "asked for more time with"),
}
DEEDS_EN = {"L": "loan", "R": "return", "V": "hold", "N": "renewal"}
COUNTS = ("한 권", "두 권", "세 권", "네 권", "다섯 권")
COUNTS_EN = ("one copy", "two copies", "three copies", "four copies", "five copies")
MONTHS_EN = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

TEXTS = (
    "{when} {desk}: {who} 님이 {what} {count}을 {did}.",
    "{who} 님이 {desk}에 들러 {what} {count}을 {did}. 날짜는 {when}.",
    "{desk}에서 {who} 님이 {what} {count}을 {did}. {when} 일입니다.",
    "{when}, {who} 님, {what} {count} {deed}. 장소는 {desk}.",
    "{what} {count} {deed}. {who} 님, {desk}, {when}.",
    "{who} 님이 {when}에 {desk}로 와서 {what} {count}을 {did}.",
    "{what} {count}은 {when} {desk}에서 {who} 님이 {did}.",
    "{when} 아침 {desk}. {who} 님이 {what} {count}을 {did}.",
    "{when} 저녁에 {who} 님이 {what} {count}을 {desk}에서 {did}.",
    "이름 {who}, {desk}, {when}. {what} {count} {deed}.",
    "{deed} 기록: {who} 님, {what} {count}, {when}, {desk}.",
    "{desk} {deed}: {what} {count}, {who} 님, {when}.",
    "{who} 님은 {when}에 {what} {count}을 {did}. {desk} 일입니다.",
    "방금 {desk}에서 {what} {count}을 {who} 님이 {did}. 오늘은 {when}입니다.",
    "오늘 {when}, {who} 님이 {what} {count}을 {did}. {desk}에서요.",
    "{who} 님 이야기입니다. {when}에 {what} {count}을 {desk}에서 {did}.",
    "{who} 님의 {deed}을 적어 주세요. {what} {count}, {desk}, {when}.",
    "{when}에 {what} {count} {deed}을 {who} 님이 {desk}에서 부탁했습니다.",
    "{desk} 담당입니다. {when}에 {who} 님이 {what} {count}을 {did}.",
    "{who} 님이 {what} {count} {deed}을 마쳤어요. {when}, {desk}.",
    "{count}입니다. {who} 님이 {desk}에서 {when}에 {what} 책을 {did}.",
    "{deed}한 사람은 {who} 님, 책은 {what} {count}. {when}, {desk}.",
    "{what}, {count}, {deed}. {when} {desk}에서 {who} 님.",
)
TEXTS_EN = (
    "{when}, {desk}: {who} {did} {what}, {count}.",
    "{who} came to the {desk} on {when} and {did} {what}, {count}.",
    "Desk slip, {deed}: {what}, {count}. {who}, {desk}, {when}.",
    "{who} was at the {desk} and {did} {count} of {what}. The day was {when}.",
    "At the {desk} {who} {did} {what} on {when}, {count} in all.",
    "Please note that {who} {did} {what}, {count}, on {when} at the {desk}.",
    "Name {who}, book {what}, {count}, {deed}, {when}, {desk}.",
    "It was {when} when {who} {did} {what} at the {desk}, {count}.",
    "A {deed} at the {desk}: {who}, {what}, {count}, {when}.",
    "On {when} a reader named {who} {did} {count} of {what}, {desk}.",
    "{who} {did} {what}. That is {count}, {desk}, {when}.",
    "This is the {desk}. {who} {did} {what} on {when}, {count}.",
    "{what}, {count}, {deed} for {who} on {when} at the {desk}.",
    "Today, {when}, {who} {did} {count} of {what} at the {desk}.",
)

GREETINGS = (
    "안녕하세요.", "비가 오네요.", "날이 춥습니다.", "수고하십니다.", "바쁜 하루였어요.", "점심 먹고 적습니다.",
    "눈이 옵니다.", "오늘은 조용합니다.", "짧게 적을게요.", "바람이 시원해요.",
)  # fmt: skip
PARTINGS = (
    "고맙습니다.",
    "잘 부탁해요.",
    "내일 봐요.",
    "확인 바랍니다.",
    "이만 줄입니다.",
    "좋은 하루 되세요.",
    "저는 퇴근합니다.",
)
GREETINGS_EN = (
    "Hello.",
    "Good morning.",
    "It is raining.",
    "A busy day.",
    "Cold today.",
    "Just a short note.",
    "Nice sun.",
)
PARTINGS_EN = ("Thank you.", "See you.", "Please file it.", "I am off now.", "Have a good day.", "That is all.")

# Distractors, another person {other} or another day {then}: a clause before the note, or a sentence after it.
CLAUSES = (
    "어제 왔던 {other} 님 말고,",
    "{other} 님이 아니라 다른 분입니다.",
    "{other} 님 것은 이미 적었고,",
    "{then} 것과는 따로입니다.",
)
ASIDES = (
    "{other} 님은 구경만 했습니다.",
    "옆에 있던 {other} 님은 그냥 갔어요.",
    "{then}에는 문을 닫습니다.",
    "지난 {then} 일은 빼 주세요.",
    "다음 모임은 {then}입니다.",
    "{other} 님에게도 알려 주세요.",
)
CLAUSES_EN = ("Not {other}, who came before.", "{other} only looked around.", "Leave out what I wrote on {then}.")
ASIDES_EN = (
    "{other} was there too.",
    "We are closed on {then}.",
    "Tell {other} as well.",
    "The note of {then} is another one.",
    "{other} just waited.",
)

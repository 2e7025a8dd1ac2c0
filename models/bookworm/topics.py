"""Words and the field of knowledge each belongs to: lists, statements, neighbours."""

import csv
from collections import defaultdict
from pathlib import Path
from random import Random

from wording import resolve
from words import stress

FILE = Path(__file__).parents[2] / "tasks" / "kdc" / "topics.csv"
STATEMENTS = (
    "{0}은/는 {field}에 드는 말이다.",
    "{0}을/를 알고 싶으면 {field} 서가로 간다.",
    "{0}, {1}, {2}: 모두 {field}.",
    "{0}과/와 {1}은/는 같은 서가에 꽂힌다.",
    "{field}에는 {0}, {1}, {2} 같은 것이 있다.",
    "{0}에 관한 책이라면 {1}에 관한 책 옆에 있다.",
    "{0}을/를 배우는 사람은 {1}도 배운다.",
)


def read() -> dict[str, tuple[str, ...]]:
    """The words of each field."""
    fields: dict[str, list[str]] = defaultdict(list)
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            fields[row["class"]].append(row["topic"])
    return {field: tuple(words) for field, words in fields.items()}


TOPICS = read()


def topics(rng: Random) -> str:
    """A list of one field's words, or statements about some."""
    field = rng.choice(tuple(TOPICS))
    if rng.random() < 0.5:
        words = rng.sample(TOPICS[field], rng.randint(5, 12))
        head = rng.choice((f"{field}: ", f"{field} - ", f"{field}\n", ""))
        return head + stress(rng.choice((", ", " ", " / ", "\n")).join(words))
    said = [rng.choice(STATEMENTS).format(*rng.sample(TOPICS[field], 3), field=field) for _ in range(rng.randint(2, 4))]
    return resolve(" ".join(said))

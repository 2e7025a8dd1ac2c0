"""Words and the library class of each, as lists and as statements."""

import csv
from collections import defaultdict
from pathlib import Path
from random import Random

from wording import choose_particles
from words import mark

TOPICS_FILE = Path(__file__).parents[2] / "tasks" / "kdc" / "topics.csv"
STATEMENTS = (
    "{0}은/는 {field}에 드는 말이다.",
    "{0}을/를 알고 싶으면 {field} 서가로 간다.",
    "{0}, {1}, {2}: 모두 {field}.",
    "{0}과/와 {1}은/는 같은 서가에 꽂힌다.",
    "{field}에는 {0}, {1}, {2} 같은 것이 있다.",
    "{0}에 관한 책이라면 {1}에 관한 책 옆에 있다.",
    "{0}을/를 배우는 사람은 {1}도 배운다.",
)


def read_topics() -> dict[str, tuple[str, ...]]:
    """Return the words of each library class, from topics.csv."""
    fields: dict[str, list[str]] = defaultdict(list)
    with TOPICS_FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            fields[row["class"]].append(row["topic"])
    return {field: tuple(words) for field, words in fields.items()}


TOPICS = read_topics()


def draw_topic_text(rng: Random) -> str:
    """Draw a list of words of one library class, or statements about a few of them."""
    field = rng.choice(tuple(TOPICS))
    if rng.random() < 0.5:
        words = rng.sample(TOPICS[field], rng.randint(5, 12))
        head = rng.choice((f"{field}: ", f"{field} - ", f"{field}\n", ""))
        return head + mark(rng.choice((", ", " ", " / ", "\n")).join(words))
    statements = [
        rng.choice(STATEMENTS).format(*rng.sample(TOPICS[field], 3), field=field) for _ in range(rng.randint(2, 4))
    ]
    return choose_particles(" ".join(statements))

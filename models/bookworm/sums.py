"""Sums told step by step, and the same asked for the bare result."""

from random import Random

OPENERS = (
    "처음에 {}개가 있다.",
    "상자에 구슬이 {}개 있다.",
    "{}명이 버스에 탔다.",
    "돈이 {}원 있다.",
    "책이 {}권 있다.",
    "Start with {}.",
)
GAINS = ("{}개를 더한다.", "{}개가 늘었다.", "{}개를 받는다.", "Add {}.")
LOSSES = ("{}개를 뺀다.", "{}개가 줄었다.", "{}개를 준다.", "Take away {}.")


def story(rng: Random, steps: int) -> tuple[str, str, str]:
    """A little story of numbers, its solution step by step, and the bare result."""
    value = rng.randint(2, 40)
    told, solved = [rng.choice(OPENERS).format(value)], []
    for _ in range(steps):
        change = rng.randint(1, 20)
        grows = value < 12 or (value < 80 and rng.random() < 0.5)
        change = change if grows else min(change, value)
        after = value + change if grows else value - change
        told.append(rng.choice(GAINS if grows else LOSSES).format(change))
        solved.append(f"{value} {'+' if grows else '-'} {change} = {after}")
        value = after
    return " ".join(told), ", ".join(solved), str(value)


def sums(rng: Random) -> str:
    """One to four stories with their solutions; bare results only where they are easy."""
    steps, blunt = rng.randint(1, 3), rng.random() < 0.4
    lines = []
    for _ in range(rng.randint(1, 4)):
        told, solved, result = story(rng, 1 if blunt else steps)
        lines.append(f"{told} 모두 {result}." if blunt else f"{told} {solved}. 모두 {result}.")
    return "\n".join(lines)

"""The training text: an endless, seeded stream of documents, none of them written by hand.

`python models/bookworm/corpus.py 20` shows the first twenty.
"""

import sys
from collections.abc import Callable, Iterator
from random import Random

from answers import draw_format
from asks import ask, index
from blocks import block
from catalogue import Library, load
from copying import copying, echo, syllables
from facts import book_facts, country_facts
from prose import prose
from sums import sums
from topics import topics
from words import stress, weigh

TRAIN_SEED, VALIDATION_SEED = 1, 2
DOCUMENTS = 90_000  # the training reads no more


def reader(rng: Random, library: Library) -> str:
    """Requests outside of blocks: one to three, each answered in its own way."""
    lines = []
    for _ in range(rng.randint(1, 3)):
        asked = ask(rng, library)
        answer = draw_format(rng).write(asked.book, asked.wishes.get("theme"))
        lines.append(asked.text + rng.choice((" ", "\n", " - ", " → ")) + stress(answer))
    return "\n".join(lines)


def spelling(rng: Random, library: Library) -> str:
    """Some words of another document with a sign between all letters, so that every letter is met by itself."""
    words = weigh(rng.choice((block, reader, book_facts))(rng, library))[0].split()
    begin = rng.randrange(len(words))
    return rng.choice((" ", "-", " ", ".", "_")).join("".join(words[begin : begin + 12]))


# Documents of each sort and their share in all documents (blocks are long: they are most of the tokens).
SORTS: tuple[tuple[float, Callable[[Random, Library], str]], ...] = (
    (0.44, block),
    (0.16, index),
    (0.08, reader),
    (0.05, book_facts),
    (0.03, lambda rng, library: prose(rng)),
    (0.04, lambda rng, library: country_facts(rng)),
    (0.03, lambda rng, library: topics(rng)),
    (0.08, lambda rng, library: sums(rng)),
    (0.045, lambda rng, library: copying(rng)),
    (0.02, lambda rng, library: echo(rng)),
    (0.01, lambda rng, library: syllables(rng)),
    (0.02, spelling),
)


def marked_documents(seed: int, library: Library | None = None) -> Iterator[str]:
    """All documents of a seed, one after the other, without end, with marks on answers and titles."""
    library = library or load()
    rng = Random(seed)
    shares, makers = [share for share, _ in SORTS], [maker for _, maker in SORTS]
    while True:
        yield rng.choices(makers, shares)[0](rng, library)


def documents(seed: int, library: Library | None = None) -> Iterator[str]:
    """The same as the model reads them, without marks."""
    return (weigh(document)[0] for document in marked_documents(seed, library))


if __name__ == "__main__":
    for _, document in zip(range(int(sys.argv[1])), documents(seed=0), strict=False):
        print(document, end="\n\n<|end|>\n\n")

"""The training text: an endless stream of generated documents, determined by the seed.

`python models/bookworm/corpus.py 20` prints 20 documents.
"""

import sys
from collections.abc import Callable, Iterator
from random import Random

from answers import draw_answer_format
from blocks import draw_block
from book_requests import draw_index, draw_request
from catalog import Library, load_library
from copying import draw_copies, draw_repeated_words, draw_syllables
from facts import draw_book_facts, draw_country_facts
from prose import draw_prose
from sums import draw_sums
from topics import draw_topic_text
from words import mark, strip_marks

TRAIN_SEED, VALIDATION_SEED = 1, 2
NUM_TRAIN_DOCUMENTS = 90_000  # upper bound of the documents that training reads


def draw_answered_requests(rng: Random, library: Library) -> str:
    """Draw one to three requests, each with an answer in a format of its own."""
    lines = []
    for _ in range(rng.randint(1, 3)):
        request = draw_request(rng, library)
        answer = draw_answer_format(rng).write(request.book, request.conditions.get("theme"))
        lines.append(request.text + rng.choice((" ", "\n", " - ", " → ")) + mark(answer))
    return "\n".join(lines)


def draw_spelled_words(rng: Random, library: Library) -> str:
    """Draw up to 12 words of a document, spelled out so that each letter is a token."""
    words = strip_marks(rng.choice((draw_block, draw_answered_requests, draw_book_facts))(rng, library))[0].split()
    start = rng.randrange(len(words))
    return rng.choice((" ", "-", " ", ".", "_")).join("".join(words[start : start + 12]))


# Kinds of documents with their shares of all documents. Blocks are long, so most of the tokens are in them.
DOCUMENT_KINDS: tuple[tuple[float, Callable[[Random, Library], str]], ...] = (
    (0.44, draw_block),
    (0.16, draw_index),
    (0.08, draw_answered_requests),
    (0.05, draw_book_facts),
    (0.03, lambda rng, library: draw_prose(rng)),
    (0.04, lambda rng, library: draw_country_facts(rng)),
    (0.03, lambda rng, library: draw_topic_text(rng)),
    (0.08, lambda rng, library: draw_sums(rng)),
    (0.045, lambda rng, library: draw_copies(rng)),
    (0.02, lambda rng, library: draw_repeated_words(rng)),
    (0.01, lambda rng, library: draw_syllables(rng)),
    (0.02, draw_spelled_words),
)


def marked_documents(seed: int, library: Library | None = None) -> Iterator[str]:
    """Yield documents without end, with marks around answers and titles (see `words`)."""
    library = library or load_library()
    rng = Random(seed)
    shares, makers = [share for share, _ in DOCUMENT_KINDS], [maker for _, maker in DOCUMENT_KINDS]
    while True:
        yield rng.choices(makers, shares)[0](rng, library)


def documents(seed: int, library: Library | None = None) -> Iterator[str]:
    """Yield the same documents without marks, as the model reads them."""
    return (strip_marks(document)[0] for document in marked_documents(seed, library))


if __name__ == "__main__":
    for _, document in zip(range(int(sys.argv[1])), documents(seed=0), strict=False):
        print(document, end="\n\n<|end|>\n\n")

"""Write text.jsonl: `python tasks/general/make.py`; the same every time.

The text is of the kinds that the shipped base model has read, from a seed that its training never used.
"""

import json
import sys
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "models" / "bookworm"))

from blocks import block  # noqa: E402
from catalogue import load  # noqa: E402
from corpus import reader  # noqa: E402
from facts import book_facts, country_facts  # noqa: E402
from prose import prose  # noqa: E402
from sums import sums  # noqa: E402
from topics import topics  # noqa: E402
from words import weigh  # noqa: E402

SEED = 4
TEXTS = 240


def make() -> str:
    """The content of text.jsonl: every kind of text in turn."""
    rng, library = Random(SEED), load()
    kinds = (
        lambda: prose(rng),
        lambda: book_facts(rng, library),
        lambda: country_facts(rng),
        lambda: topics(rng),
        lambda: block(rng, library),
        lambda: reader(rng, library),
        lambda: sums(rng),
    )
    texts = (weigh(kinds[number % len(kinds)]())[0] for number in range(TEXTS))
    rows = ({"id": f"general-{number:03}", "text": text} for number, text in enumerate(texts, 1))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    (HERE / "text.jsonl").write_text(make(), encoding="utf-8", newline="\n")

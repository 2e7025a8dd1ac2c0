"""Write text.jsonl, deterministically: `python tasks/general/make.py`.

The text has the kinds of documents that bookworm was trained on, from a seed that its training did not use.
"""

import json
import sys
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "models" / "bookworm"))

from blocks import draw_block  # noqa: E402
from catalog import load_library  # noqa: E402
from corpus import draw_answered_requests  # noqa: E402
from facts import draw_book_facts, draw_country_facts  # noqa: E402
from prose import draw_prose  # noqa: E402
from sums import draw_sums  # noqa: E402
from topics import draw_topic_text  # noqa: E402
from words import strip_marks  # noqa: E402

SEED = 4
NUM_TEXTS = 240


def make() -> str:
    """Return the content of text.jsonl, with each kind of document in turn."""
    rng, library = Random(SEED), load_library()
    generators = (
        lambda: draw_prose(rng),
        lambda: draw_book_facts(rng, library),
        lambda: draw_country_facts(rng),
        lambda: draw_topic_text(rng),
        lambda: draw_block(rng, library),
        lambda: draw_answered_requests(rng, library),
        lambda: draw_sums(rng),
    )
    texts = [strip_marks(generators[number % len(generators)]())[0] for number in range(NUM_TEXTS)]
    rows = [{"id": f"general-{number:03}", "text": text} for number, text in enumerate(texts, 1)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    (HERE / "text.jsonl").write_text(make(), encoding="utf-8", newline="\n")

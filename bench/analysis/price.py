"""Price of a machine per hour, in the currency of the user."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bench.errors import UserError
from bench.i18n import Message

SECONDS_PER_HOUR = 3600
MAX_DECIMALS = 10
PATTERN = re.compile(r"(?P<before>[^\d\s.,+-]*)\s*(?P<amount>\d[\d,]*(?:\.\d+)?|\.\d+)\s*(?P<after>[^\d\s.,+-]*)")
HINT = Message("a number with or without its currency, e.g. 0.60, $0.60, 800원 or 0.6EUR")


@dataclass(frozen=True)
class HourlyPrice:
    """Price of an hour of the machine that the runs were made on.

    Attributes:
        amount: Price of an hour.
        before: Currency before an amount, e.g. `$`; empty if there is none.
        after: Currency behind an amount, e.g. `원`; empty if there is none.
    """

    amount: float
    before: str = ""
    after: str = ""

    @classmethod
    def parse(cls, text: str) -> HourlyPrice:
        """Parse the value of `--price-per-hour`.

        Raises:
            UserError: The text is no price.
        """
        match = PATTERN.fullmatch(text.strip())
        if match is None or (match["before"] and match["after"]):
            raise UserError(Message("--price-per-hour {text}: not a price", text=text), hint=HINT)
        return cls(float(match["amount"].replace(",", "")), match["before"], match["after"])

    def of_seconds(self, seconds: float) -> float:
        """Return the price of a time."""
        return self.amount * seconds / SECONDS_PER_HOUR

    def format(self, amount: float) -> str:
        """Write an amount with its currency and two digits or more: `$0.0042`, `1,250원`."""
        decimals = 0 if amount >= 100 else 2
        if 0 < amount < 0.1:
            decimals = min(1 - math.floor(math.log10(amount)), MAX_DECIMALS)
        return f"{self.before}{amount:,.{decimals}f}{self.after}"

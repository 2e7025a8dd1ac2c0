"""Constraints on generated answers: grammars, and the tokens that they allow."""

"""Texts of names, messages and answers are safe for each output and stay readable."""

from __future__ import annotations

import json

import pytest

from bench import escape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07\x9b0m\x7f", r"\u001b[31mred\u0007\u009b0m\u007f"),
        ("a\tb\nc\r\nd\re", "a\tb\nc\nd" + r"\u000de"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\ud800", r"\ud800"),
        ("한국어 – 26 °C, 👩\u200d🔬 می\u200cخواهم", "한국어 – 26 °C, 👩\u200d🔬 می\u200cخواهم"),
    ],
)
def test_clean_text_control_characters_become_escapes(text: str, expected: str) -> None:
    assert escape.clean_text(text) == expected


def test_clean_text_keeps_json_valid_and_equal() -> None:
    document = {"name": "a\x1b\x9b\u202e\nb"}
    assert json.loads(escape.clean_text(json.dumps(document, ensure_ascii=False))) == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*a* [x](y) `c` ~d~ $e$ f|g \\h", r"\*a\* \[x\](y) \`c\` \~d\~ \$e\$ f\|g \\h"),
        ("<b> &lt; a & b", "&lt;b> &amp;lt; a & b"),
        ("_a_ few_shot_k", r"\_a\_ few_shot_k"),
        ("# head\n- item", r"\# head - item"),
        ("1. item", r"1\. item"),
        ("-0.5 1.5 (95 %)", "-0.5 1.5 (95 %)"),
        ("@team org/model@main", "@<!-- -->team org/model@main"),
        ("\x1b[1m", r"\\u001b\[1m"),
        ("기준선: 판단 불가", "기준선: 판단 불가"),
    ],
)
def test_escape_markdown_text_is_shown_as_it_is(text: str, expected: str) -> None:
    assert escape.escape_markdown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("a\nb", "`a b`"), (" ", "`   `")]
)
def test_markdown_code_span_cannot_be_left(text: str, expected: str) -> None:
    assert escape.markdown_code(text) == expected


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@x", "\t=1", "\r=1", "\n=1", "＝1"])
def test_csv_cell_formula_begins_with_an_apostrophe(text: str) -> None:
    assert escape.csv_cell(text) == f"'{escape.clean_text(text)}"


@pytest.mark.parametrize("value", [-1.5, None, "-1.5", "+3", "lora", "a=b", "한국어", 7])
def test_csv_cell_number_or_plain_text_stays(value: object) -> None:
    assert escape.csv_cell(value) == value


def test_xml_text_illegal_characters_become_escapes() -> None:
    assert escape.xml_text("a\x00\x1b\ud800\ufffe\x80é한👍\n") == r"a\u0000\u001b\ud800\ufffe\u0080é한👍" + "\n"


def test_clean_workflow_output_commands_lose_their_beginning() -> None:
    lines = "::error::x\n  ::add-mask::y\na ::b\n##[group]z\na::b"
    cleaned = escape.clean_workflow_output(lines).split("\n")
    assert cleaned == [r"\u003a:error::x", r"  \u003a:add-mask::y", "a ::b", r"#\u0023[group]z", "a::b"]

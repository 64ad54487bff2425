"""Nothing that an outsider wrote forges a line, steers a terminal, turns the writing round, or becomes a link."""

# ruff: noqa: RUF001 - the look-alikes are the point

import sys
import unicodedata

import pytest

from eye_disease.common.text import clean, one_line


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("clinic-a", "clinic-a"),
        ("Clínica São João, sala 2 (OCT)", "Clínica São João, sala 2 (OCT)"),
        ("眼科 北", "眼科 北"),
        ("diabetic_retinopathy", "diabetic_retinopathy"),
        ("a\nERROR: all is lost", "a ERROR: all is lost"),
        ("a\r\n\x0b\x0c\x85\u2028\u2029b", "a b"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "xlink"),
        ("\x1bc\x1b(0x", "x"),
        ("a\x08\x7f\x00b", "ab"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2066a\u2069\u200b\ufeff\U000e0041", "a"),
        ("\ud800", "(unreadable)"),
        (" \t", "(unreadable)"),
        ("", ""),
        ("[click](http://evil.example)", "［click］(http：//evil.example)"),
        ("![x](y) <img src=x> `code` **b** a|b", "!［x］(y) ＜img src=x＞ ｀code｀ ＊＊b＊＊ a｜b"),
        ("@everyone <!channel> &#x202e; $x$", "＠everyone ＜!channel＞ ＆＃x202e; ＄x＄"),
        ("see WWW.evil.example", "see WWW．evil.example"),
    ],
)
def test_what_is_shown(written: str, shown: str) -> None:
    assert clean(written) == shown
    assert clean(shown) == shown


def test_it_is_as_long_as_is_allowed() -> None:
    assert clean("x" * 120) == "x" * 120
    assert clean("x" * 10_000) == "x" * 117 + "..."
    assert one_line("word " * 10, 12) == "word word..."


def test_no_character_of_unicode_is_left_that_is_not_read() -> None:
    shown = clean("".join(map(chr, range(sys.maxunicode + 1))), longest=sys.maxunicode)
    assert not set(shown) & set("<>[]{}`*|\\#@&$~^\n\r\x1b")
    assert {unicodedata.category(char) for char in shown}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def test_a_line_of_a_log_keeps_its_addresses() -> None:
    assert one_line("no answer of http://127.0.0.1:5000\n<html>") == "no answer of http://127.0.0.1:5000 <html>"

"""Names of classes, as people read them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.class_names import class_name, refuse_twins
from schemas.errors import BadInput


def test_a_name_is_in_normal_form_and_without_blanks_at_its_ends():
    assert class_name("chien_franc\u0327ais") == "chien_fran\u00e7ais"
    assert class_name(" golden retriever ") == "golden retriever"
    assert class_name("🐶 {dog}[1]*?") == "🐶 {dog}[1]*?"


@pytest.mark.parametrize("name", ["dog\u2028big", "a\nb", "a\x85b", "a\x0bb", "a\x1cb", "a\tb", "\x7f", "   "])
def test_a_name_that_no_list_can_hold_is_refused(name):
    with pytest.raises(BadInput, match=r"the class '.*' has a"):
        class_name(name)


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat"), ("dog", "dog "), ("dog", "d og"), ("franc\u0327ais", "fran\u00e7ais"), ("Straße", "STRASSE"),
     ("a\u200bb", "ab"), ("ﬁsh", "fish")],
)  # fmt: skip
def test_names_that_look_the_same_are_refused_by_name(names):
    with pytest.raises(BadInput, match="look the same") as error:
        refuse_twins(["other", *names])
    assert all(repr(name) in str(error.value) for name in names)


def test_names_that_differ_are_fine():
    refuse_twins(["cat", "cats", "1", "10", "dog-1", "dog_1", "chat", "chât", "cat"])


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(lambda text: text.strip(" "))
)
def test_a_name_stays_one_line_and_is_its_own_class_name(text):
    try:
        name = class_name(text)
    except BadInput:
        return
    assert class_name(name) == name == unicodedata.normalize("NFC", name)
    assert len(name.splitlines()) == 1

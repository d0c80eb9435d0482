from __future__ import annotations

from pathlib import Path

import pytest

from neurosim.chip import load_chip
from neurosim.energy import books, load_book, price
from neurosim.errors import ChipError, DataError
from tests.energy import handmade


@pytest.mark.parametrize("name", books())
def test_every_book_prices_a_run_and_states_its_sources(name: str) -> None:
    p = handmade.program()
    book = load_book(name)
    assert book.sources
    e = price(p, handmade.busy(p), prices=book.prices(p.chip))
    assert e.total_fj > 0
    assert all(line.source for line in e.lines)
    cheaper = price(p, handmade.busy(p), prices=book.at("7lp", 0.6).prices(p.chip))
    assert cheaper.component_fj("synapse") < e.component_fj("synapse")


def test_the_two_loihi_books_do_not_mix() -> None:
    before, after = load_book("loihi-davies2018"), load_book("loihi-sanafe")
    chip = load_chip("async-mesh")
    assert (before.prices(chip).synop.value, after.prices(chip).synop.value) == (23_600, 35_500)
    assert set(before.sources) == {"DAV"}
    assert set(after.sources) == {"SFE"}
    for book in (before, after):
        prices = book.prices(chip)
        for name in type(prices).model_fields:
            figure = getattr(prices, name)
            if hasattr(figure, "source") and figure.value:
                assert next(iter(book.sources)) in figure.source


def test_parts_follow_the_memory_and_the_words_of_the_chip() -> None:
    book = load_book("horowitz-45nm")
    assert book.parts is not None
    assert book.parts.access_fj_per_bit(8192) == pytest.approx(10e3 / 64)
    assert book.parts.access_fj_per_bit(32768) == pytest.approx(20e3 / 64)
    assert book.parts.access_fj_per_bit(2**20) == pytest.approx(100e3 / 64)
    assert 10e3 / 64 < book.parts.access_fj_per_bit(16384) < 20e3 / 64
    small, large = (load_chip("async-mesh", [f"memory.bytes={size}", "arithmetic.acc_bits=24"]) for size in (8192, 2**20))
    e = 10e3 / 64
    assert book.prices(small).synop.value == pytest.approx(8 * e + 2 * 24 * e + 100)
    assert book.prices(small).soma_access.value == pytest.approx(16 * e)
    assert book.prices(large).synop.value > 9 * book.prices(small).synop.value


def test_a_chip_is_a_book_and_mistakes_are_named(tmp_path: Path) -> None:
    chip = load_chip("truenorth-like")
    assert load_book("truenorth-like").prices(chip) == chip.prices
    with pytest.raises(DataError, match="states no node and supply"):
        load_book("truenorth-like").at("7hp", 0.7)
    with pytest.raises(DataError, match="'nope' does not exist; there are horowitz-45nm"):
        load_book("nope")
    with pytest.raises(DataError, match="No such file"):
        load_book(tmp_path / "none.toml")
    file = tmp_path / "book.toml"
    for text, message in (
        ("name =", "is no TOML"),
        ('name = "a"\ndescription = "b"', "either prices or parts"),
        ('name = "a"\ndescription = "b"\n[prices]\nsynop = "1 pJ"', "prices.decode: Field required"),
    ):
        file.write_text(text)
        with pytest.raises((DataError, ChipError), match=message):
            load_book(file)

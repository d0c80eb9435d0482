"""Price books: complete sets of prices of one source, with which any run can be priced again.

A book is a TOML file with name, description, node and voltage (where they are known), ``sources``, and either the table ``prices`` of a chip file
or ``parts``, from which the prices of a chip follow by its word widths and the size of its memories. Prices of different measurements are never mixed
in one book: what its source does not give is 0 with the status assumed, and says so.
"""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from neurosim.chip import Chip, load_chip, presets
from neurosim.chip.figures import Figure, Price, Strict
from neurosim.chip.spec import Prices
from neurosim.energy.scaling import energy_factor, scaled_prices
from neurosim.errors import ChipError, DataError

ACCESS_BITS, ROUTE_BITS = 64, 64


class MemoryPoint(Strict):
    """One size of SRAM: energy of a 64-bit access."""

    bytes: int
    access: Price


class Parts(Strict):
    """What a chip is made of. ``hop``: one packet through a router and its link; ``add``: one integer addition."""

    add: Price
    hop: Price
    host_mac: Price
    packet_bits: int
    memory: tuple[MemoryPoint, ...]

    def access_fj_per_bit(self, size: int) -> float:
        """Energy per bit of a memory of ``size`` bytes: straight lines between the points, both axes logarithmic, the outer ones continued."""
        points = sorted((math.log(p.bytes), math.log(p.access.value / ACCESS_BITS)) for p in self.memory)
        x = math.log(size)
        k = next((k for k in range(1, len(points) - 1) if x <= points[k][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[k - 1], points[k]
        return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))

    def prices(self, chip: Chip) -> Prices:
        """Prices of a chip made of these parts; leakage, pads and clock-less control are 0.

        With e the memory's energy per bit at the core's size, w weight_bits, a acc_bits, s state_bits:
        synop w e + 2 a e + add (weight, accumulator read and written); decode and packet 64 e (one route entry); soma_access s e; soma_update
        (s + a) e + 2 add (bank read, membrane written); current_write and pair_write 2 a e + add; op_read a e + add.
        """
        words, e = chip.arithmetic, self.access_fj_per_bit(chip.memory.bytes.value)
        where = f"from parts: {e:.3g} fJ/bit at {chip.memory.bytes.value} bytes"

        def made(value: float) -> Figure[float]:
            return Figure[float](value=value, source=where, status="assumed")

        nothing = Figure[float](value=0.0, source="not among the parts", status="assumed")
        idle: Figure[float] = Figure[float](value=0.0, source="leakage is not among the parts", status="assumed")
        accumulate = 2 * words.acc_bits * e + self.add.value
        return Prices(
            synop=made(words.weight_bits * e + accumulate), decode=made(ROUTE_BITS * e), packet=made(ROUTE_BITS * e),
            soma_access=made(words.state_bits * e), soma_update=made((words.state_bits + words.acc_bits) * e + 2 * self.add.value),
            soma_fire=nothing, current_write=made(accumulate), pair_write=made(accumulate), op_read=made(words.acc_bits * e + self.add.value),
            hop_east_west=self.hop, hop_north_south=self.hop, hop_local=self.hop, hop_chip=self.hop, io_packet=nothing, host_mac=self.host_mac,
            static_core_mw=idle, static_router_mw=idle, static_chip_mw=idle,
        )  # fmt: skip


class PriceBook(Strict):
    """Prices with the operating point that they belong to. ``node``: as in neurosim.energy.scaling, None where it has no scaling coefficients."""

    name: str
    description: str
    node: str | None = None
    voltage: float | None = None
    table: Prices | None = Field(default=None, alias="prices")
    parts: Parts | None = None
    operating_point: tuple[str, float] | None = None
    """Node and supply that the prices are scaled to."""
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> PriceBook:
        if (self.table is None) == (self.parts is None):
            raise ValueError("a price book holds either prices or parts")
        if self.parts is not None and len(self.parts.memory) < 2:
            raise ValueError("parts.memory needs at least two sizes")
        return self

    def prices(self, chip: Chip) -> Prices:
        """The prices of a chip by this book."""
        prices = self.table if self.table is not None else self.parts.prices(chip) if self.parts is not None else chip.prices
        if self.operating_point is None or self.node is None or self.voltage is None:
            return prices
        return scaled_prices(prices, (self.node, self.voltage), self.operating_point)

    def at(self, node: str, voltage: float) -> PriceBook:
        """The book scaled to another node and supply. Raises DataError when its own is not known or either has no coefficients."""
        if self.node is None or self.voltage is None:
            raise DataError(f"price book {self.name} states no node and supply, so it cannot be scaled; give another book")
        energy_factor(self.node, self.voltage)
        energy_factor(node, voltage)
        return self.model_copy(update={"name": f"{self.name} at {node} nm {voltage:g} V", "operating_point": (node, voltage)})


def books() -> list[str]:
    """Names of the shipped price books."""
    return sorted(entry.name.removesuffix(".toml") for entry in (resources.files(__package__) / "books").iterdir() if entry.name.endswith(".toml"))


def load_book(name: str | Path) -> PriceBook:
    """A shipped book's name, a book's TOML file, or a chip (preset or TOML file), whose prices are taken. Raises DataError or ChipError."""
    text = str(name)
    if text in books():
        return _parse((resources.files(__package__) / "books" / f"{text}.toml").read_text("utf-8"), f"price book {text}")
    if text in presets():
        return book_of(load_chip(text))
    path = Path(name)
    if path.suffix != ".toml":
        raise DataError(f"price book {text!r} does not exist; there are {', '.join(books())}, the chips {', '.join(presets())}, and TOML files")
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"price book {path}: {error.strerror}") from None
    if "[memory]" in content or content.lstrip().startswith("base"):
        return book_of(load_chip(path))
    return _parse(content, f"price book {path}")


def book_of(chip: Chip) -> PriceBook:
    """The prices of a chip as a book."""
    return PriceBook(
        name=chip.name, description=f"prices of the chip {chip.name}, {chip.process}", node=chip.node, voltage=chip.voltage, prices=chip.prices,
        sources=chip.sources,
    )  # fmt: skip


def _parse(text: str, where: str) -> PriceBook:
    try:
        return PriceBook.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ChipError(f"{where}: {key}: {first['msg']}") from None

"""Plain decimals are read to the last bit, and everything else is left to the general reader."""

import numpy as np
import pytest

from rgbt_fusion.files.plain_decimals import plain_decimals
from rgbt_fusion.files.text_tables import read_numbers


@pytest.mark.parametrize("form", ["{:.4f}", "{:.0f}", "{:.7f}", "{:.1f}", "{:g}"])
@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";", "  "])
def test_every_number_is_the_nearest_to_its_decimals(form, separator):
    generator = np.random.default_rng(len(form))
    numbers = generator.normal(0, 300, (200, 4))
    lines = [separator.join(form.format(number) for number in row) for row in numbers]
    words = [[float(word) for word in line.replace(separator, " ").split()] for line in lines]
    found = plain_decimals("\n".join(lines).encode())
    if any("e" in line for line in lines):
        assert found is None
        return
    assert found is not None
    assert found.tobytes() == np.array(words).tobytes()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [[1.0]]),
        ("-0", [[-0.0]]),
        ("5. .5\n", [[5.0, 0.5]]),
        ("12345678.1234567\r\n", [[12345678.1234567]]),
        ("00000001 99999999", [[1.0, 99999999.0]]),
        ("\n 1, 2 ,\n3\t4\n\n", [[1.0, 2.0], [3.0, 4.0]]),
        ("0.1\n0.30000001\n7\n", [[0.1], [0.30000001], [7.0]]),
    ],
)
def test_odd_but_plain(text, numbers):
    found = plain_decimals(text.encode())
    assert found is not None
    assert found.tobytes() == np.array(numbers).tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "1 2\n3",
        "1 2\n\n3 4",
        "1.2.3",
        "1.2.3 4",
        "1-2",
        "--1",
        "-",
        ".",
        "- 1",
        "+1",
        "1e3",
        "nan",
        "1_0",
        "123456789",
        "1.123456789",
        "12345678.12345678",
        "1\r2",
        "1\x002",
        "\ufeff1",
        "١",
    ],
)
def test_all_else_is_left_to_the_general_reader(text):
    assert plain_decimals(text.encode()) is None


def test_both_readers_agree(tmp_path):
    numbers = np.random.default_rng(0).normal(0, 100, (50, 4))
    plain = tmp_path / "plain.txt"
    np.savetxt(plain, numbers, fmt="%.5f", delimiter=",")
    general = tmp_path / "general.txt"
    general.write_text(plain.read_text().replace("\n", "e0\n"))
    assert plain_decimals(general.read_bytes()) is None
    assert read_numbers(plain).tobytes() == read_numbers(general).tobytes()

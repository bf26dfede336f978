import pytest

from keras_snn._table import show_table


def random_rows(rng):
    def cell():
        words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 9))) for _ in range(rng.integers(1, 6))]
        return " ".join(words)

    return [[cell() for _ in range(4)] for _ in range(6)]


@pytest.mark.parametrize("width", [None, 60, 50])
def test_a_table_keeps_every_word_in_its_column_within_its_width(width, rng):
    rows = [["w", "x", "y", "z"], *random_rows(rng)]
    header, dashes, *lines = show_table(rows, width=width).splitlines()
    assert width is None or max(map(len, [header, dashes, *lines])) <= width
    start = 0
    for column, dash in enumerate(dashes.split("  ")):
        cells = [line[start : start + len(dash)].strip() for line in [header, *lines]]
        assert " ".join(filter(None, cells)) == " ".join(row[column] for row in rows)
        start += len(dash) + 2


def test_columns_to_the_right_end_together():
    lines = show_table([("name", "n"), ("a", "1"), ("b", "1000")], right=[1]).splitlines()
    assert lines == ["name     n", "----  ----", "a        1", "b     1000"]


def test_a_column_of_text_is_narrowed_before_names_are_broken():
    rows = [
        ("layer", "became", "from"),
        ("flatten_layer", "PerTimestep(reshape)", "one, two, three, four, five"),
    ]
    lines = show_table(rows, width=60).splitlines()
    assert lines[2:] == [
        "flatten_layer  PerTimestep(reshape)  one, two, three, four,",
        "                                     five",
    ]
    assert show_table(rows, width=48).splitlines()[2:] == [
        "flatten_layer  PerTimestep(reshape)  one, two,",
        "                                     three,",
        "                                     four, five",
    ]
    # A bracket is never alone on a line while it fits on another.
    assert show_table(rows, width=40).splitlines()[2:] == [
        "flatten_layer  PerTimestep(   one, two,",
        "               reshape)       three,",
        "                              four, five",
    ]


def test_names_are_broken_between_their_parts():
    lines = show_table([("n",), ("batch_normalization_1,",), ("keras.layers.Conv2D",)], width=14).splitlines()
    assert lines[2:] == ["batch_", "normalization_", "1,", "keras.layers.", "Conv2D"]

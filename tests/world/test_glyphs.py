from triptych.world.glyphs import digit_scans, glyphs_by_value


def test_training_and_test_glyphs_are_disjoint_and_complete():
    train = [index for same in glyphs_by_value(False) for index in same]
    test = [index for same in glyphs_by_value(True) for index in same]
    assert sorted(train + test) == list(range(1797))


def test_every_digit_has_a_fifth_of_its_scans_held_out():
    for train, test in zip(glyphs_by_value(False), glyphs_by_value(True), strict=True):
        assert len(test) == -(-(len(train) + len(test)) // 5)


def test_glyphs_are_filed_under_the_digit_they_show():
    ink, values = digit_scans()
    assert ink.shape == (1797, 8, 8) and ink.min() == 0 and ink.max() == 1
    assert all(values[index] == value for value, same in enumerate(glyphs_by_value(True)) for index in same)

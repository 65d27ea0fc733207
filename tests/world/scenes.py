"""Scenes made by hand for the tests."""

from triptych.world.scene import Object, Scene, in_reading_order

_ROWS = {"top": 0, "bottom": 2}
_COLUMNS = {"left": 0, "right": 2}


def scene_of(*mentions: str) -> Scene:
    """Build a scene on the default canvas from mentions such as `red 3 top left` and `blue star centre`."""
    objects = []
    for mention in mentions:
        colour, noun, *words = mention.split()
        row = next((_ROWS[word] for word in words if word in _ROWS), 1)
        column = next((_COLUMNS[word] for word in words if word in _COLUMNS), 1)
        value = int(noun) if noun.isdigit() else None
        objects.append(
            Object(
                kind="digit" if noun.isdigit() else noun,
                colour=colour,
                row=row,
                column=column,
                place=" ".join(words),
                left=16 * column,
                top=16 * row,
                size=16,
                glyph=None if value is None else value,  # scan number n shows the digit n, for the first ten scans
                value=value,
            )
        )
    return in_reading_order(objects)

"""Times as text, as the standard library writes them."""

from datetime import UTC, datetime

import pytest

from shared.timestamps import rfc3339


@pytest.mark.parametrize("seconds", [0.0, 1.5, 951_782_400.25, 1_763_738_999.999, 4_102_444_800.125])
def test_a_time_is_written_to_the_millisecond(seconds: float) -> None:
    text = rfc3339(seconds)
    assert text.endswith("Z")
    assert text == datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

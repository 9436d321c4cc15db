"""A few seconds of `python -m tests.fuzz_intake`: sound files, bombs, and mutations of a seed of its own."""

from tests.fuzz_intake import bombs, fuzz, originals


def test_mutated_files_end_with_pixels_or_one_clear_sentence() -> None:
    first = len(originals()) + len(bombs())
    summary = fuzz(first + 400, seed=1)
    assert summary.faults == []
    assert summary.files == sum(summary.ends.values()) == first + 400
    assert summary.ends["decoded"] > 50 and len(summary.ends) > 10  # neither all sound nor all nonsense
    assert summary.processes == 1
    assert summary.peak_mib < 400

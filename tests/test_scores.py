import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.scores import ScoreSet, Unit, disjoint_sets, one_per_source, split_sources
from generator.imagesets import ImageRecord
from tests.simulated_scores import score_set, units

RECORDS = [
    ImageRecord(f"{split}/{source}-{variant}.png", f"{split}:{source}", split)
    for split, count in (("portraits", 30), ("style", 12))
    for source in range(count)
    for variant in range(3)
]


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_every_source_is_in_one_part_and_every_split_gives_its_share(seed, fraction):
    calibration, validation = split_sources(RECORDS, fraction, seed)
    assert sorted([*calibration, *validation]) == sorted({r.source for r in RECORDS})
    for split, count in (("portraits", 30), ("style", 12)):
        assert abs(sum(s.startswith(split) for s in validation) - fraction * count) <= 0.5


def test_choices_depend_on_the_seed_and_not_on_the_order_of_files():
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    assert split_sources(shuffled, 0.33, 7) == split_sources(RECORDS, 0.33, 7) != split_sources(RECORDS, 0.33, 8)
    assert one_per_source(shuffled, 7) == one_per_source(RECORDS, 7) != one_per_source(RECORDS, 8)


def test_one_image_of_every_source_and_every_variant_has_its_chance():
    chosen = one_per_source(RECORDS, 0)
    assert sorted(r.source for r in chosen) == sorted({r.source for r in RECORDS})
    assert chosen == sorted(chosen, key=lambda r: r.name)
    assert {r.name[-5] for r in chosen} == {"0", "1", "2"}


def test_another_source_does_not_change_what_is_picked_of_the_rest():
    more = [*RECORDS, ImageRecord("new-0.png", "new", "style"), ImageRecord("new-1.png", "new", "style")]
    assert [r for r in one_per_source(more, 3) if r.source != "new"] == one_per_source(RECORDS, 3)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_leaves_a_part_empty_is_refused(fraction):
    with pytest.raises(ValueError, match="--validation"):
        split_sources(RECORDS, fraction, 0)


@pytest.mark.parametrize("distance", [float("nan"), float("inf"), -0.1])
def test_a_distance_that_is_no_distance_is_refused_with_the_image_named(distance):
    with pytest.raises(ValueError, match=r"x\.png"):
        Unit("x.png", "x", "", "0" * 64, (0.1, distance))


def test_a_source_counts_once():
    first, second = units([[0.1], [0.2]], "r")
    with pytest.raises(ValueError, match="source r0 again"):
        ScoreSet((first, replace(second, source="r0")), ((),))


def test_every_unit_has_a_distance_to_every_candidate():
    with pytest.raises(ValueError, match="found 1 distances, expected 2"):
        ScoreSet(units([[0.1]], "r"), ((), ()))


def test_labels_and_distances_follow_the_units():
    scores = score_set(4, "c", 1.0, other=3)
    for unit, label, row in zip(scores.units, scores.labels, scores.distances, strict=True):
        expected = 1 + int(unit.source[2]) if unit.source.startswith("cg") else 0
        assert label == expected and tuple(row) == unit.distances
    assert sum(scores.labels == 0) == 7  # real images and those of other generators


def test_four_sets_share_no_source_and_leave_the_threshold_what_it_needs():
    scores = score_set(520, "c", 1.0, other=10)
    parts = disjoint_sets(scores, n_threshold=299, seed=0)
    assert parts is not None
    reals = [unit.source for part in parts for unit in part.real]
    assert sorted(reals) == sorted(unit.source for unit in scores.real)
    fit, bound, threshold = parts
    assert len(threshold.real) == 312 and min(len(fit.real), len(bound.real)) >= 100
    assert not {u.source for u in fit.units} & {u.source for u in bound.units}
    assert len(fit.generated[0]) == len(bound.generated[0]) == 260
    assert {u.source for part in (fit, bound) for u in part.other["cousin"]} == {f"co{i}" for i in range(10)}


def test_four_sets_are_refused_where_one_would_be_too_small():
    assert disjoint_sets(score_set(450, "c", 1.0), n_threshold=299, seed=0) is None
    assert disjoint_sets(score_set(100, "c", 1.0), n_threshold=299, seed=0) is None

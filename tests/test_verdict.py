import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.evidence import DecisionSettings, Evidence
from attribution.verdict import CODES, decide, inconclusive, out_of_scope
from attribution.wording import (
    VERBAL_SCALE,
    alternative_sentence,
    limitations,
    propositions,
    times,
    verbal,
)
from tests.simulated_scores import calibrated, score_set

NAMES = ["emoji-b", "emoji-a", "cats"]
DECISION = DecisionSettings()
LARGE_LAMBDA = DecisionSettings(alpha=0.05, lambda_=2.0)
REALS = alternative_sentence()
SUPPORTED = Evidence(
    score=2.0,
    threshold=1.0,
    k_star=1,
    p_value_generated=(0.01, 0.6, 0.01),
    log10_lr_unbounded=(-4.0, 5.0, -4.0),
    log10_lr=(-2.0, 2.14, -2.0),
    log10_lr_bounds=((-2.2, 2.2),) * 3,
    p_value_real=0.01,
    pairwise={0: 1.5, 2: 1.2},
    log10_margin=1.2,
    group=(1,),
)
FAR = replace(SUPPORTED, score=-1.0, p_value_generated=(0.01,) * 3, log10_lr=(-2.0, -1.3, -2.0))
NOTHING_FITS = replace(SUPPORTED, p_value_generated=(0.049, 0.01, 0.02))
ROWS = [
    (SUPPORTED, "SUPPORTS"),
    (replace(SUPPORTED, log10_lr=(-2.0, 2.0, -2.0)), "SUPPORTS"),  # lambda itself will do
    (replace(SUPPORTED, p_value_generated=(0.01, 0.05, 0.01)), "SUPPORTS"),  # and epsilon
    (replace(SUPPORTED, pairwise={0: 1.5, 2: 1.0}, log10_margin=1.0), "SUPPORTS"),  # and mu
    (replace(SUPPORTED, p_value_generated=(0.9, 0.6, 0.9)), "SUPPORTS"),  # whatever else fits
    (replace(SUPPORTED, pairwise={0: 0.9, 2: 1.2}, log10_margin=0.9, group=(0, 1)), "SUPPORTS_GROUP"),
    (replace(SUPPORTED, group=(0, 1)), "SUPPORTS_GROUP"),  # one lineage
    (NOTHING_FITS, "UNRESOLVED"),
    (replace(NOTHING_FITS, log10_lr=(-2.0, -2.0, -2.0)), "UNRESOLVED"),
    (FAR, "NOT_SUPPORTED"),
    (replace(FAR, log10_lr=(-2.0, -1.0, -2.0)), "NOT_SUPPORTED"),  # -mu itself will do
    (replace(FAR, score=1.0), "NOT_SUPPORTED"),  # at the threshold is not above it
    (replace(FAR, log10_lr=(-2.0, -0.9, -2.0)), "INCONCLUSIVE"),
    (replace(FAR, p_value_generated=(0.01, 0.06, 0.01)), "INCONCLUSIVE"),
    (replace(SUPPORTED, log10_lr=(-2.0, 1.9, -2.0)), "INCONCLUSIVE"),
    (replace(SUPPORTED, log10_lr=(-2.0, -0.5, -2.0)), "INCONCLUSIVE"),
    (replace(SUPPORTED, p_value_generated=(0.6, 0.01, 0.01)), "INCONCLUSIVE"),  # k* doesn't fit, another one does
    (replace(SUPPORTED, score=1.0), "INCONCLUSIVE"),
]


@pytest.mark.parametrize(("evidence", "code"), ROWS)
def test_every_row_of_the_rule(evidence, code):
    verdict = decide(evidence, NAMES, DECISION, REALS)
    assert verdict.code == code
    assert verdict.candidate == ("emoji-a" if code.startswith("SUPPORTS") else None)
    assert verdict.group == (["emoji-a", "emoji-b"] if code == "SUPPORTS_GROUP" else None)


def test_every_code_is_reached():
    assert {code for _, code in ROWS} | {out_of_scope("x").code} == set(CODES)


def test_a_group_says_which_of_its_candidates_the_findings_speak_for():
    found = replace(SUPPORTED, pairwise={0: -0.4, 2: 0.3}, log10_margin=-0.4, group=(0, 1, 2))
    statement = decide(found, NAMES, DECISION, REALS).statement
    assert statement.endswith(
        "They don't tell emoji-a from cats and emoji-b well enough: the support is for the group as a whole. "
        "They are about 2.5 times more probable if emoji-b produced this image than if emoji-a did."
    )
    even = replace(found, pairwise={0: -0.001, 2: 0.3}, log10_margin=-0.001)
    assert decide(even, NAMES, DECISION, REALS).statement.endswith("as a whole.")


def test_without_other_candidates_there_is_no_margin_to_reach():
    alone = replace(SUPPORTED, k_star=0, p_value_generated=(0.6,), log10_lr=(2.14,), group=(0,))
    alone = replace(alone, pairwise={}, log10_margin=None)
    verdict = decide(alone, ["emoji-a"], DECISION, REALS)
    assert (verdict.code, verdict.candidate) == ("SUPPORTS", "emoji-a")
    assert verdict.statement == (
        "The findings are about 140 times more probable if emoji-a produced this image than if it came from the "
        "calibration's population of known real images."
    )


def test_a_statement_says_where_score_and_ratio_disagree():
    evidence = replace(SUPPORTED, log10_lr=(2.1, -1.0, -2.0))
    statement = decide(evidence, NAMES, DECISION, REALS).statement
    assert "than if emoji-a produced it" in statement
    assert "130 times more probable if emoji-b produced it than if" in statement
    weaker = replace(evidence, log10_lr=(-0.2, -1.0, -2.0))
    assert "disagree" not in decide(weaker, NAMES, DECISION, REALS).statement


def test_statements_say_the_ratio_with_its_alternative():
    statement = decide(SUPPORTED, NAMES, DECISION, alternative_sentence(["z", "y"])).statement
    assert "about 140 times more probable if emoji-a produced this image than if it came from" in statement
    assert "known real images or from one of the generators y, z" in statement
    assert "at least about 16 times more probable than if emoji-b or cats did" in statement
    statement = decide(FAR, NAMES, DECISION, REALS).statement
    assert "at least about 20 times more probable if this image came from" in statement
    assert "nothing about generators that were not examined" in statement


EVIDENCE = st.builds(
    lambda score, p, lr, margin, together: replace(
        SUPPORTED,
        score=score,
        p_value_generated=tuple(p),
        log10_lr=tuple(lr),
        pairwise={0: margin, 2: margin + 1},
        log10_margin=margin,
        group=(0, 1) if margin < 1 or together else (1,),
    ),
    st.floats(-5, 5),
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.floats(-3, 3),
    st.booleans(),
)


@given(EVIDENCE)
def test_no_statement_judges_the_suspect_or_prints_a_posterior(evidence):
    statement = decide(evidence, NAMES, DECISION, REALS).statement
    about_suspect = statement.replace("known real images", "")
    assert not re.search(r"\b(real|fake|authentic|genuine|likelihood that|probability that|%)\b", about_suspect)
    assert statement[0].isupper() and statement.endswith(".") and "None" not in statement and "nan" not in statement


def test_reasons_become_statements():
    assert out_of_scope("the image is not square").statement == "The image is out of scope: the image is not square."
    verdict = inconclusive("no calibration was given")
    assert verdict.code == "INCONCLUSIVE" and "no calibration was given" in verdict.statement


@pytest.mark.parametrize(
    ("log10_lr", "words"),
    [
        (0.0, "neutral"),
        (0.3, "neutral"),
        (-0.3, "neutral"),
        (0.5, "weak support"),
        (1.5, "moderate support"),
        (2.0, "moderate support"),
        (2.14, "moderately strong support"),
        (3.5, "strong support"),
        (5.0, "very strong support"),
        (6.5, "extremely strong support"),
        (-1.5, "moderate support for the alternative"),
        (-7.0, "extremely strong support for the alternative"),
    ],
)
def test_verbal_scale(log10_lr, words):
    assert verbal(log10_lr) == words


def test_words_grow_with_the_ratio():
    assert VERBAL_SCALE.steps == tuple(sorted(VERBAL_SCALE.steps)) and VERBAL_SCALE.version


@pytest.mark.parametrize(
    ("log10_lr", "words"),
    [(0.0, "1.0"), (0.146, "1.4"), (0.9999, "10"), (1.5, "32"), (2.14, "140"), (-2.14, "140"), (4.08, "12,000")],
)
def test_two_significant_digits(log10_lr, words):
    assert times(log10_lr) == words


def test_the_alternative_names_what_it_holds_and_nothing_else():
    assert alternative_sentence() == "it came from the calibration's population of known real images"
    assert alternative_sentence(["x"]).endswith("known real images or from the generator x")
    assert [p["id"] for p in propositions(["a", "b"])] == ["H_1", "H_2", "H_0"]
    assert propositions(["a"], ["x", "w"])[-1]["statement"] == (
        "This image came from the calibration's population of known real images or from one of the generators w, x."
    )


ALWAYS = ["siblings", "Style mixing", "W+", "Truncations|truncation", "Removal attacks", "not among the candidates"]


@pytest.mark.parametrize("topic", ALWAYS)
def test_limitations_always_name_what_was_not_examined(topic):
    calibration = calibrated(score_set(60, "c", 2.0), score_set(20, "v", 2.0), LARGE_LAMBDA, bootstrap=2)
    for listed in (limitations(None), limitations(calibration)):
        assert any(re.search(topic, sentence) for sentence in listed)


def test_limitations_come_from_the_calibration():
    calibration = calibrated(score_set(60, "c", 2.0), score_set(20, "v", 2.0), LARGE_LAMBDA, bootstrap=2)
    text = " ".join(limitations(calibration))
    assert "psi 1 " in text and "60 real sources" in text
    assert "SUPPORTS can't be reached for a: log10 LR of a goes up to 1.7" in text  # lambda is 2
    assert "No calibration was given" in limitations(None)[0]

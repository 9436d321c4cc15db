"""The texts of report.html in one place: headings, labels, and what explains the findings to a reader in court.

{name} stands for a value that a template fills in; markup is allowed here and escaped in the values.
"""

from markupsafe import Markup

from reports.words import printable

TEXTS = {
    # head
    "kicker": "<b>latentprint</b> · report on the source of images",
    "case": "Case <bdi>{name}</bdi>",
    "case_without_name": "Case without a name",
    "title": "latentprint report: case {name}",
    "exhibit": "Exhibit",
    "examiner": "Examiner",
    "examined": "Examined (UTC)",
    "tool": "Tool",
    "report_id": "Report",
    "controls_fail": "The run controls do not hold: {sentence}. The whole case is inconclusive.",
    "no_calibration": "No calibration was given: the distances can't be weighed, and no image is supported.",
    "supported": "<b>{name}</b>: {n} of {all} images supported",
    "supported_group": "and {n} as one of a group",
    "asked": "Asked of each image: did this generator make it? The findings say nothing about generators that were not "
    "examined.",
    "before_the_line": "Before the dashed line: closer to a candidate than known real images come, but for at most "
    "{alpha} of them.",
    "strip_scored": "All images, highest score T first",
    "strip_distances": "All images, smallest distance first",
    "strip_label": "All images as thumbnails",
    "threshold": "threshold",
    "no_score": "no score",
    "known_origin": "Known origin and verdict",
    "known_origin_note": "The origin of these images is known beforehand; it was not used in any verdict.",
    "thumb_alt": "Image {n}: {headline}",
    "thumb_none": "Image {n}, no picture: {headline}",
    # navigation
    "skip": "Skip to the results",
    "contents": "Contents",
    "to_results": "All results",
    "to_images": "All images, one by one",
    "to_reading": "How to read this",
    "to_propositions": "Propositions",
    "to_limitations": "Limitations",
    "to_calibration": "Calibration",
    "to_run": "Run and controls",
    "to_integrity": "Check this report",
    "pager": "From image to image",
    "previous": "‹ previous",
    "next": "next ›",
    # table of results
    "results": "All results",
    "filter_verdict": "Verdict",
    "filter_all": "all",
    "filter_text": "Any column holds",
    "results_table": "Table of all results",
    "number": "No.",
    "picture": "Picture",
    "verdict": "Verdict",
    "file": "File",
    "candidate": "Candidate",
    "distance": "Distance",
    "reading_distance": "Distance: {metric} between the image and its re-synthesis by the candidate in the table, the "
    "one that it is closest to; 0 means equal. Where the searches ended early, it is the distance "
    "expected after all steps, by which the image is judged.",
    "reading_ratio": "log10 LR: how much more probable the findings are if that candidate produced the image than if "
    "the alternative is true, as a power of ten; see Propositions. p (generated): the share of the candidate's own "
    "images that lie as far or farther. p (real): the share of known real images that score as high or higher. Both "
    "count the image itself, (1 + count) of (1 + n), and so are never 0. Score T: how close the image is to its "
    "closest candidate, measured by the distances that this candidate's own images have; the table names that "
    "candidate, which need not have the smallest distance.",
    # one image
    "images": "The images, one by one",
    "unprinted": "So many images are printed only when asked for: open “All images, one by one” and print from there, "
    "print one image from its own page, or make a PDF with <code>latentprint report CASE --pdf</code>.",
    "image_place": "Image {n} of {all}",
    "pixels": "{width} × {height} pixels",
    "origin": "known origin: <bdi>{truth}</bdi>",
    "suspect": "suspect, after intake",
    "suspect_alt": "Suspect image {n} after intake",
    "resynthesis": "re-synthesis by {name}",
    "resynthesis_alt": "Re-synthesis of image {n} by {name}",
    "difference": "difference: white 0, black half the range",
    "difference_alt": "Difference between image {n} and its re-synthesis by {name}",
    "reduced": "shown reduced",
    "not_examined": "the image, not examined",
    "not_examined_alt": "Image {n}, not examined",
    "compare": "Compare suspect and re-synthesis",
    "compare_slider": "Share of the re-synthesis laid over the suspect",
    "compare_suspect": "suspect",
    "compare_resynthesis": "re-synthesis",
    "blink": "Blink",
    "zoom": "Zoom",
    "zoom_fit": "fit",
    "zoomed": "Zoomed picture: scrolls together with the others",
    "ladder": "log10 LR; the thick line is what this calibration can reach",
    "candidates_of": "Candidates of image {n}",
    "distance_in": "Distance, {metric}",
    "others": "The other candidates",
    "distance_of": "distance {distance}",
    "resynthesis_short": "re-synthesis",
    "difference_short": "difference",
    "stands": "Where it stands <span>among the calibration's images, re-synthesised by {name}</span>",
    "search": "How the search went <span>from where it began</span>",
    "noise": "Noise maps <span>found with {name}</span>",
    "noise_alt": "Noise maps of image {n} in {name}, {maps} tiles from coarse to fine",
    "noise_note": "One tile per layer, {sides} pixels a side; the middle 64 of larger ones. Grey is 0, black −3 and "
    "white 3 standard deviations. A map that held a part of the image would show it: neighbouring pixels would agree. "
    "The largest autocorrelation of one pixel is {strongest}; 0 is white noise, 1 a copy of the neighbour.",
    "evidence": "The evidence in full: intake, file, hashes, seeds, layers",
    "stopping": "Where the searches ended",
    "stopped": "Searches end early where no likely distance would change the verdict. Those for the validation images "
    "took {steps} of {of} steps in the mean, and {same} of {n} images have the verdict that all steps would give. Of "
    "the calibration's {units} images {stopped} stopped, judged by fits without them, {changed} of these with another "
    "verdict than after all steps; the rule was chosen so that the upper bound of their share is at most {risk}.",
    "intake": "Intake, in order",
    "nothing_recorded": "nothing was recorded",
    "the_file": "The file",
    "name": "name",
    "file_hash": "file, SHA-256",
    "not_read": "not read",
    "pixels_hash": "pixels, SHA-256",
    "not_decoded": "not decoded",
    "stratum": "stratum",
    "none": "none",
    "facts": "What the file says of itself",
    "facts_note": "Shown as found. Anybody can write it, so it is no evidence for a verdict.",
    "facts_absent": "not in the file",
    "by_layer": "distance by layer",
    "expected": "(expected: {distance})",
    "from_start": "from {start} at the start",
    "unbounded": "log10 LR before its bound",
    "seed_steps": "seed, steps",
    "target_pixels": "target pixels",
    "latent": "latent code, noise",
    # for the court
    "reading": "How to read this report",
    "verdicts": "The verdicts",
    "verdicts_meaning": "What each one says",
    "scale": "The words for likelihood ratios",
    "scale_note": "{source}; version {version}. A ratio below 1 supports the alternative, with the same words for its "
    "reciprocal.",
    "scale_ratio": "Likelihood ratio",
    "scale_words": "In words: the findings give",
    "scale_neutral": "no support for one proposition over the other",
    "scale_support": "{word} support",
    "propositions": "Propositions",
    "propositions_note": "A likelihood ratio compares two statements about an image. These are the ones compared here; "
    "a ratio says nothing about any other.",
    "limitations": "Limitations",
    "limitations_note": "What these findings can't say, and what was not examined.",
    # the calibration
    "calibration": "The calibration",
    "calibration_note": "Every likelihood ratio and verdict in this report rests on images of known origin that were "
    "projected in the same way. The alternative to “this candidate produced the image” is: {alternative}.",
    "calibration_id": "Calibration",
    "made": "Made (UTC)",
    "valid_for": "Valid for",
    "members": "Who is in it",
    "members_note": "Every image is the only one of its source, so that a source counts once; calibration and "
    "validation share none.",
    "apart": "How far apart generated and real images lie",
    "apart_note": "Distances of the calibration's images to each candidate, after the figure by which StyleGAN2's "
    "authors proposed this method (Karras et al. 2020, Figure 10).",
    "validation": "How good it is, on images it has not seen",
    "flagged": "Of {n} real images of the validation set {flagged} were flagged: a false-positive rate of {fpr}, and "
    "with {confidence} confidence not above {upper}. The threshold, T = {threshold}, is the {rank} score of {reals} "
    "real images; the chance that its true rate exceeds α = {alpha} is at most δ = {delta}.",
    "tippett": "Tippett plot of the validation set",
    "cross_entropy": "empirical cross-entropy of the validation set",
    "trade_off": "detection error trade-off of the validation set",
    "merit": "Figures of merit",
    "with_intervals": "Validation, with {level} intervals",
    "own_flagged": "flagged, of the candidate's own images",
    "merit_note": "Cllr: the cost of the likelihood ratios, 0 at best, 1 for a system that says nothing. Intervals: "
    "{samples} bootstrap samples over sources.",
    "separated": "For {names} the classes are separated completely: an interval without width says only that "
    "resampling can't show a spread.",
    "unreachable": "What it can't say",
    "all_reachable": "Every verdict can be reached.",
    "out_of_reach": "{candidate} is out of reach: {why}.",
    "calibration_full": "The calibration in full: settings, population, fitted numbers",
    "projection": "Projection",
    "decision": "Decision",
    "population": "Population",
    "fitted": "Fitted",
    "lineages": "Lineages",
    "pair": "{names}: pairwise Cllr min {cost}, {outcome}",
    "one_lineage": "one lineage",
    "told_apart": "told apart",
    "no_pairs": "one candidate, no pairs",
    # the run
    "run": "The run",
    "unexamined": "Files without an examination",
    "controls": "Run controls",
    "no_controls": "Without a calibration there are no run controls.",
    "control_image": "Control image",
    "distance_now": "Distance now",
    "distance_then": "in the calibration",
    "drift": "largest drift",
    "candidates": "Candidates",
    "architecture": "architecture",
    "lineage": "lineage",
    "settings": "Settings",
    "started": "started (UTC)",
    "finished": "finished (UTC)",
    "machine": "Machine and libraries",
    "device": "device",
    "command": "Command",
    "integrity": "Check this report",
    "integrity_how": "This page is drawn from <code>report.json</code>, the files it names and nothing else, by "
    "<code>latentprint report CASE</code>; CASE is the folder that holds this file. <code>manifest.json</code> lists "
    "every file of the case with its SHA-256, and the manifest's own was printed when the run ended: files that give "
    "the same are those that the run wrote. <code>projections</code> holds each latent code with its noise maps, from "
    "which the candidate's generator makes the re-synthesis again.",
    "pictures_beside": "The pictures of so many images lie beside this page, in <code>images</code> and "
    "<code>report</code>: pass on the whole folder.",
    "report_hash": "report.json, SHA-256",
    "schema": "schema",
}

# What intake looks for in a file besides its pixels.
FACTS = {
    "exif": "EXIF",
    "icc": "ICC profile",
    "xmp": "XMP",
    "jpeg": "JPEG coding",
    "thumbnail": "embedded thumbnail",
    "trailing_bytes": "bytes after the image",
    "c2pa": "C2PA manifest",
    "problems": "could not be read",
}

# Question and answer, for someone who has never heard of any of this.
READING = (
    (
        "What was asked?",
        "For each image and each candidate: did this generator make this image? A generator is a program that turns "
        "random numbers into images; training on a collection of images has given each generator its own repertoire.",
    ),
    (
        "What was done?",
        "For each candidate the program looked for the input that brings its output as close to the image as it can, "
        "and had the generator draw it: the re-synthesis. A generator can redraw what it made itself nearly without a "
        "difference; other images it can only approach. What remains is measured as a distance, LPIPS, which was built "
        "to agree with people's judgements of likeness. 0 means equal.",
    ),
)

# The same, where there is a calibration.
READING_RATIOS = (
    (
        "What is a distance worth?",
        "It is held against the distances of images whose origin is known, the calibration's. How often such a "
        "distance occurs among the generator's own images, and how often among the others, gives the likelihood ratio: "
        "how many times more probable the findings are if the candidate produced the image than if the alternative is "
        "true. It is written as a power of ten too: a ratio of 100 has a log10 LR of 2.",
    ),
    (
        "Is that the probability that the generator made the image?",
        "No. That probability also depends on what else is known about the case, which is not for this report but for "
        "those who hear all the evidence. The ratio says only how much these findings should change their view.",
    ),
    (
        "Why do the ratios stop where they do?",
        "Because a calibration of some hundred images has not seen what happens once in a million. Every ratio is "
        "bounded by what the calibration's size can carry, even where the formula would give more.",
    ),
    (
        "What if no candidate is supported?",
        "Then these findings don't point to an examined candidate. They don't say where the image comes from: a "
        "camera, a drawing and a generator that was not examined are all possible.",
    ),
)

# Verdict code -> when it is given, in words.
RULES = {
    "SUPPORTS": "The image is closer to the candidate than known real images come, as close as the candidate's own "
    "images are, and the likelihood ratio is as large as asked for, also against every other candidate.",
    "SUPPORTS_GROUP": "The same, but the findings don't tell the candidate from others that are named with it.",
    "UNRESOLVED": "The image is closer to a candidate than known real images come, but not as close as any candidate's "
    "own images are. A relative of a candidate may have made it.",
    "NOT_SUPPORTED": "The image is no closer to any candidate than known real images come, farther than each "
    "candidate's own images lie, and the likelihood ratios speak for the alternative.",
    "INCONCLUSIVE": "None of the above holds, there is no calibration, or the run controls do not hold.",
    "OUT_OF_SCOPE": "The file could not be read, or it is of a kind for which there is no calibration.",
}


def fill(text: str, **values: object) -> Markup:
    """A text with its values, escaped and without invisible characters."""
    return Markup(text).format(**{k: v if isinstance(v, Markup) else shown(v) for k, v in values.items()})


def shown(value: object) -> object:
    """What templates write in the place of a value: text without invisible characters, anything else as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

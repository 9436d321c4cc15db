"""Write the measured numbers into README.md, between its markers, from the files that `make calibration` made."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from attribution.demo import HERE, demo_calibration
from attribution.verdict import CODES
from generator.files import read_provenance, write_atomically

# written by a benchmark each, as they are
TABLES = (
    "operators",
    "convolution",
    "compiled",
    "early-stops",
    "trade-off",
    "methods",
    "methods-jpeg",
    "alex",
    "alex-jpeg",
)

ROOT = Path(__file__).parents[2]


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdicts_by_truth(counts: dict[str, Counter]) -> str:
    """Rows: truth; columns: verdict codes that occur, right and wrong candidate apart."""
    columns = [c for code in CODES for c in (code, f"{code} of another") if any(row[c] for row in counts.values())]
    return table(["origin", *columns], [[truth, *(str(row[c]) for c in columns)] for truth, row in counts.items()])


def validation_table() -> str:
    """The verdicts of all validation units."""
    rows = demo_calibration().validation["verdicts"]
    return verdicts_by_truth(
        {truth: Counter({label(code): n for code, n in row.items()}) for truth, row in rows.items()}
    )


def label(code: str) -> str:
    """The validation's keys in the table's words."""
    code = code.removesuffix("_RIGHT")
    return f"{code.removesuffix('_WRONG')} of another" if code.endswith("_WRONG") else code


def demo_table(report: dict) -> str:
    """The verdicts of the demo's 16 suspects."""
    counts: dict[str, Counter] = {}
    for image in report["images"]:
        verdict = image["verdict"]
        wrong = verdict["candidate"] not in (None, image["truth"])
        counts.setdefault(image["truth"], Counter())[verdict["code"] + " of another" * wrong] += 1
    return verdicts_by_truth(dict(sorted(counts.items())))


def separation_table(studies: dict[str, dict]) -> str:
    """AUC with intervals, mean distance and noise autocorrelation of A's own images, for each study."""
    rows = []
    for name, study in studies.items():
        own = [u for u in study["units"] if u["truth"] == study["candidate"]]
        reals = [u for u in study["units"] if u["truth"] == "real"]
        aucs = [f"{s['auc']:.4f} ({s['interval'][0]:.3f}–{s['interval'][1]:.3f})" for s in study["separations"]]
        distances = [f"{sum(u['distances'][study['candidate']] for u in us) / len(us):.3f}" for us in (own, reals)]
        noise = sum(u["noise_autocorrelation"] for u in own + reals) / len(own + reals)
        rows.append([name, str(len(own)), *aucs, *distances, f"{noise:.3f}"])
    header = [
        "study",
        "n per class",
        "AUC A vs real",
        "AUC A vs B",
        "mean distance, A's",
        "real",
        "noise autocorrelation",
    ]
    return table(header, rows)


def model_table(metrics: dict[str, dict[str, float]]) -> str:
    """What the bundled generators are and how good."""
    rows = []
    for name, figures in metrics.items():
        path = ROOT / f"generator/models/{name}.safetensors"
        if not path.exists():
            path = ROOT / f"tests/data/{name}.safetensors"
        made = read_provenance(path)
        kimg, seconds = (made[what] + made.get("parent", {}).get(what, 0) for what in ("kimg", "seconds"))
        figures_said = [f"{figures['fd_vgg16']:.1f}", f"{figures['kd_vgg16']:.3f}", f"{figures['recall']:.3f}"]
        speed = f"{made['kimg'] * 1000 / made['seconds']:.0f}"
        rows.append([name, f"{kimg:.0f}", f"{seconds / 3600:.1f}", speed, *figures_said])
    return table(["generator", "kimg", "hours (one core)", "img/s", "FD-VGG16", "KD-VGG16", "recall"], rows)


def replace_block(text: str, name: str, content: str) -> str:
    """Replace what stands between <!-- name --> and <!-- /name -->. Raises ValueError where the markers are missing."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md: found no markers for {name}, expected <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda m: f"{m[1]}{content}\n{m[2]}", text)


def main(folder: Path) -> None:
    """folder: holds demo/, study-*/, metrics-*.json and tables as `make calibration` leaves them."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    studies = {
        p.name.removeprefix("study-"): json.loads((p / "separation.json").read_text())
        for p in sorted(folder.glob("study-*"))
    }
    metrics = {
        p.stem.removeprefix("metrics-"): json.loads(p.read_text()) for p in sorted(folder.glob("metrics-*.json"))
    }
    text = replace_block(text, "validation", validation_table())
    text = replace_block(text, "demo", demo_table(json.loads((folder / "demo/report.json").read_text())))
    text = replace_block(text, "separation", separation_table(studies))
    text = replace_block(text, "models", model_table(metrics))
    for name in TABLES:
        text = replace_block(text, name, (folder / f"{name}.md").read_text(encoding="utf-8").strip())
    write_atomically(readme, text.encode())
    print(f"{readme} (truths: {HERE / 'truth.json'})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

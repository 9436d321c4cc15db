"""The command line: parse, call, print, exit code. No logic, and the only place that prints."""

import io
import json
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="Did this generator make it? Search each candidate StyleGAN2 generator for every suspect image and report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
study_app = typer.Typer(help="Measure how well attribution works.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(study_app, name="study")

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

BATCH_SIZE = 8
INTERRUPTED = 130  # what typer returns after Ctrl-C

CandidateOption = Annotated[
    list[str],
    typer.Option(
        "--candidate",
        metavar="NAME=FILE",
        help="A generator (file or foreign checkpoint) to examine; repeat.",
    ),
]
EncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME=FILE",
        help="From `train-encoder`: where the searches of candidate NAME begin; repeat.",
    ),
]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="NAME,...", help="Rows of index.csv with these splits only.")
]
StepsOption = Annotated[int | None, typer.Option(help="Of the projection; default: the method's.")]
MethodOption = Annotated[
    Literal["default", "paper"],
    typer.Option(help="default: 100 steps, 30 with encoders, fewer where they suffice; paper: 1000."),
]
FullOption = Annotated[bool, typer.Option("--full", help="All steps, also where the verdict is clear before.")]
Network = Literal["vgg", "alex"]
LpipsOption = Annotated[Network, typer.Option(help="The distance's network.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32 or bf16.")]
SeedOption = Annotated[int, typer.Option(help="Makes the run reproducible.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images projected together; recorded.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Entry point: every error is one sentence on stderr; a traceback only with --debug."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not fit the terminal's encoding
    try:
        code = app(args=[a for a in arguments if a != "--debug"], standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except (typer.TyperException, ValueError) as error:
        _fail(error, 2, debug)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, 1, debug, "interrupted; the same command goes on where this one stopped")
    except Exception as error:  # the last resort: a user gets a sentence, --debug tells the rest
        _fail(error, 1, debug)


def _fail(error: BaseException, code: int, debug: bool, message: str = "") -> None:
    if debug:
        traceback.print_exception(error)
    describe = getattr(error, "format_message", lambda: str(error))
    text = message or describe() or type(error).__name__
    stderr.print(f"latentprint: {_plain(' '.join(text.split()))}", markup=False)
    sys.exit(code)


def _print_version(asked: bool) -> None:
    if asked:
        from attribution.provenance import tool_version

        stdout.print(f"latentprint {tool_version()}", markup=False)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """--debug is accepted anywhere on the line; main() reads it."""


@app.command()
def demo(
    out: OutFolder = Path("latentprint-demo"),
    device: DeviceOption = "cpu",
) -> None:
    """Examine the bundled suspects against the bundled generators, with the bundled calibration."""
    from attribution.demo import DEMO_SUSPECTS, demo_calibration, demo_candidates, demo_encoders, demo_truths
    from attribution.pipeline import CaseLabels
    from attribution.settings import settings_of

    calibration = demo_calibration()
    _attribute(
        [DEMO_SUSPECTS],
        demo_candidates(),
        out,
        settings=settings_of(calibration, BATCH_SIZE),
        calibration=calibration,
        device=_device(device),
        labels=CaseLabels(case="Demonstration", exhibit="16 bundled images"),
        truths=demo_truths(),
        encoders=demo_encoders(),
    )


@app.command()
def attribute(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Suspect images: files, folders, zips, patterns, or lists (.csv, .jsonl) of paths.",
        ),
    ],
    candidate: CandidateOption,
    out: OutFolder,
    encoder: EncoderOption = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From `calibrate`. Without one no verdict is possible.")
    ] = None,
    full: FullOption = False,
    method: MethodOption = "default",
    steps: Annotated[int | None, typer.Option(help="Default: the calibration's, or the method's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0, or the calibration's.")] = None,
    lpips: Annotated[Network | None, typer.Option(help="Default vgg, or the calibration's.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; default fp32, or the calibration's.")] = None,
    batch_size: BatchOption = BATCH_SIZE,
    device: DeviceOption = "auto",
    crop: Annotated[bool, typer.Option("--crop", help="Take the middle square of images that are not square.")] = False,
    letterbox: Annotated[
        bool, typer.Option("--letterbox", help="Add black bars to images that are not square.")
    ] = False,
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='JSON {"file": [[x, y], ...]}, 68 or 5 points: cut faces out as FFHQ does.'),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Search folders to the bottom.")] = True,
    frame: Annotated[
        int | None,
        typer.Option(min=1, help="Of files with several frames or pages, which; without it they are refused."),
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of an image; larger ones are refused.")] = 50_000_000,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Of a file; larger ones are refused.")] = 512,
    max_files: Annotated[int, typer.Option(min=1, help="More are refused before any work.")] = 1_000_000,
    max_seconds: Annotated[float, typer.Option(min=0.01, help="Of processor time for decoding a file.")] = 60,
    case: Annotated[str, typer.Option(help="Case number, for the report.")] = "",
    exhibit: Annotated[str, typer.Option(help="Exhibit, for the report.")] = "",
    examiner: Annotated[str, typer.Option(help="Examiner, for the report.")] = "",
    sign: Annotated[Path | None, typer.Option(metavar="KEY", help="Sign the manifest with a key of `keygen`.")] = None,
) -> None:
    """Examine every image of PATH... against the candidate generators and write a report to DIR."""
    from attribution import load_calibration
    from attribution.intake import IntakeSettings
    from attribution.landmarks import Landmarks
    from attribution.pipeline import CaseLabels
    from attribution.settings import projection_settings
    from generator.decoding import Limits
    from reports.signing import read_private_key

    key = read_private_key(sign) if sign else None
    shape = _shape(crop, letterbox, landmarks)
    known = load_calibration(calibration) if calibration else None
    encoded = len(encoder or []) == len(candidate)
    _attribute(
        paths,
        _named_files(candidate),
        out,
        key,
        settings=projection_settings(known, method, steps, lpips, precision, seed, batch_size, encoded),
        calibration=known,
        shape=shape,
        landmarks=Landmarks.read(landmarks) if landmarks else None,
        intake=IntakeSettings(
            Limits(max_pixels, max_megabytes * 2**20, max_seconds),
            frame=frame,
            recursive=recursive,
            max_files=max_files,
        ),
        device=_device(device),
        labels=CaseLabels(case, exhibit, examiner),
        encoders=_named_files(encoder or []),
        full=full or method == "paper",
    )


def _attribute(
    paths: Sequence[str | Path], candidates: dict[str, Path], out: Path, key: Any = None, **options: Any
) -> None:
    from attribution import attribute as run
    from reports.case import write_report

    with _steps_progress("projecting") as events:
        report = run(paths, candidates, out, command=["latentprint", *sys.argv[1:]], events=events, **options)
    written = write_report(report, out, key)
    table = Table("verdict", "candidate", "log10 LR", box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for image in report.images:
        ratios = [c.log10_lr for c in image.candidates if c.name == image.verdict.candidate and c.log10_lr is not None]
        subject = image.verdict.candidate or ", ".join(image.verdict.group or [])
        row = [image.verdict.code, subject, f"{ratios[0]:.1f}" if ratios else "", image.path]
        table.add_row(*(escape(_plain(text)) for text in row))
    stdout.print(table)
    summary = report.summary
    _print_written(written)
    stdout.print(
        f"{summary['images']} images, {summary['errors']} that could not be read or were refused; report: "
        f"{_plain(str(out / 'report.html'))}",
        markup=False,
    )


@app.command()
def calibrate(
    candidate: CandidateOption,
    real: Annotated[
        Path, typer.Option(metavar="PATH", help="Known real images: folder or zip, with an index.csv or not.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The calibration to write (JSON).")],
    encoder: EncoderOption = None,
    split: SplitOption = "",
    source_column: Annotated[str, typer.Option(help="index.csv's column that names the source.")] = "source",
    exclude: Annotated[str, typer.Option(metavar="SOURCE,...", help="Real sources to leave out.")] = "",
    validation: Annotated[float, typer.Option(help="Share of the sources that only validates.")] = 0.33,
    generated: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Images of a candidate, instead of sampling it.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Per candidate and set; default: as many as real ones.")
    ] = None,
    other: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Images of another generator, for the alternative.")
    ] = None,
    control_split: Annotated[
        str, typer.Option(metavar="NAME,...", help="Splits whose pixels may go into the file as run controls.")
    ] = "",
    method: MethodOption = "default",
    full: Annotated[bool, typer.Option("--full", help="No rule by which searches stop early.")] = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    lpips: LpipsOption = "vgg",
    precision: PrecisionOption = "fp32",
    psi: Annotated[float, typer.Option(help="Truncation of the generated images.")] = 1.0,
    alpha: Annotated[float, typer.Option(help="False-positive rate of the flag.")] = 0.01,
    delta: Annotated[float, typer.Option(help="Risk that the rate is exceeded.")] = 0.05,
    lambda_: Annotated[float, typer.Option("--lambda", help="log10 LR asked for against the alternative.")] = 2.0,
    mu: Annotated[float, typer.Option(help="log10 LR asked for against the other candidates.")] = 1.0,
    batch_size: BatchOption = BATCH_SIZE,
    device: DeviceOption = "auto",
) -> None:
    """Measure known generated and known real images, and write the calibration that turns distances into evidence."""
    from attribution.calibrating import calibrate as run
    from attribution.calibration import DecisionSettings
    from attribution.engine import ProjectionSettings
    from attribution.population import Population
    from attribution.schedules import method_config, require_method

    require_method(method, bool(encoder))
    population = Population(
        real=real,
        splits=_list(split),
        source_column=source_column,
        exclude=_list(exclude),
        validation=validation,
        psi=psi,
        samples=samples,
        generated=_named_files(generated or []),
        other=_named_files(other or []),
        control_splits=_list(control_split),
    )
    config = method_config(method, steps, len(encoder or []) == len(candidate), precision)
    settings = ProjectionSettings(config, lpips, seed, batch_size)
    decision = DecisionSettings(alpha=alpha, delta=delta, lambda_=lambda_, mu=mu)
    with _steps_progress("calibrating") as events:
        calibration = run(
            _named_files(candidate),
            population,
            decision,
            settings,
            out,
            _device(device),
            events,
            _named_files(encoder or []),
            stopping=method != "paper" and not full,
        )
    for name, row in calibration.validation["verdicts"].items():
        stdout.print(f"{name}: {', '.join(f'{code} {n}' for code, n in row.items() if n)}", markup=False)
    stdout.print(f"calibration {calibration.id}: {out}", markup=False)


@study_app.command()
def separation(
    candidate: CandidateOption,
    calibration: Annotated[Path, typer.Option(metavar="FILE", help="What its settings are taken from.")],
    real: Annotated[
        Path, typer.Option(metavar="PATH", help="The calibration's real images; its validation sources are used.")
    ],
    out: OutFolder,
    encoder: EncoderOption = None,
    split: SplitOption = "",
    units: Annotated[int, typer.Option(min=2, help="Images per class.")] = 64,
    steps: Annotated[int | None, typer.Option(help="Default: the calibration's.")] = None,
    noise_weight: Annotated[
        float | None, typer.Option(help="Of the noise regularisation; default: the calibration's.")
    ] = None,
    full: FullOption = False,
    batch_size: BatchOption = BATCH_SIZE,
) -> None:
    """AUC of the first candidate's images against real ones and against the other candidates', with intervals."""
    from attribution import load_calibration
    from attribution.settings import settings_of
    from attribution.studies.separation import study_separation
    from reports.study import write_separation

    known = load_calibration(calibration)
    settings = settings_of(known, batch_size)
    config = replace(settings.config, **_given(steps=steps, noise_weight=noise_weight))
    out.mkdir(parents=True, exist_ok=True)
    with _steps_progress("projecting") as events:
        study = study_separation(
            _named_files(candidate),
            known,
            real,
            _list(split),
            replace(settings, config=config),
            out / "run.sqlite",
            units,
            events,
            _named_files(encoder or []),
            full,
        )
    write_separation(study, out)
    for row in study.separations:
        low, high = row.interval
        stdout.print(
            f"AUC {row.positive} vs {row.negative}, distance to {study.candidate}: {row.auc:.4f} "
            f"(95 % interval {low:.4f} to {high:.4f}; n = {row.n_positive} and {row.n_negative})",
            markup=False,
        )
    for name, mean, autocorrelation, taken in study.means():
        stdout.print(
            f"{name}: mean distance {mean:.4f}, mean |autocorrelation| of the noise {autocorrelation:.4f}, "
            f"{taken:.1f} steps",
            markup=False,
        )
    for truth, counts in (study.verdicts or {}).items():
        stdout.print(f"{truth}: {', '.join(f'{code} {n}' for code, n in sorted(counts.items()))}", markup=False)
    stdout.print(f"study: {out / 'separation.html'}", markup=False)


@app.command()
def project(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    generator: Annotated[Path, typer.Option(metavar="FILE", help="Generator file or foreign checkpoint.")],
    out: OutFolder,
    encoder: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the search begins.")] = None,
    method: MethodOption = "default",
    steps: StepsOption = None,
    noise_weight: Annotated[float, typer.Option(help="Of the noise maps' regularisation.")] = 1e5,
    seed: SeedOption = 0,
    lpips: LpipsOption = "vgg",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
) -> None:
    """Search one generator for one image; write w, noise maps and pictures to DIR and print the distance."""
    from attribution.engine import ProjectionSettings
    from attribution.schedules import method_config, require_method
    from attribution.single import project_file

    require_method(method, bool(encoder))
    config = method_config(method, steps, encoder is not None, precision, noise_weight)
    settings = ProjectionSettings(config, lpips, seed, batch_size=1)
    with _steps_progress("projecting") as events:
        record = project_file(image, generator, out, settings, _device(device), events, encoder)
    stdout.print(f"LPIPS {record['lpips']:.4f} (from {record['lpips_start']:.4f}), SSIM {record['ssim']:.3f}")
    stdout.print(str(out / record["resynthesis"]), markup=False)


@app.command()
def generate(
    generator: Annotated[Path, typer.Option(metavar="FILE", help="Generator file or foreign checkpoint.")],
    out: OutFolder,
    seeds: Annotated[str, typer.Option(help="Numbers and ranges: 0-9,42.")] = "0-9",
    psi: Annotated[float, typer.Option(help="Truncation: 1 is none, 0 the mean image.")] = 0.7,
    label: Annotated[
        int | None, typer.Option(help="The class, of a conditional generator; default: one drawn from the seed.")
    ] = None,
) -> None:
    """Write one PNG per seed; noise comes from the same seed. A file of other content is never replaced."""
    from generator import load_generator
    from generator.files import write_atomically
    from generator.images import encode_png
    from generator.sampling import sample_images

    numbers = _seeds(seeds)
    G = load_generator(generator)
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(numbers), 64):
        chunk = numbers[first : first + 64]
        for seed, pixels in zip(chunk, sample_images(G, chunk, psi, label=label), strict=True):
            path, data = out / f"seed{seed:06d}.png", encode_png(pixels)
            if path.exists() and path.read_bytes() != data:
                raise ValueError(f"--out: found {path} with other content, expected another folder or the same options")
            write_atomically(path, data)
    stdout.print(f"{len(numbers)} images: {out}", markup=False)


CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A checkpoint of NVIDIA's, rosinality, GenForce or MMGeneration.")
]
WhichOption = Annotated[
    Literal["ema", "raw"], typer.Option(help="The averaged generator, or the one that was trained.")
]
ChannelOrderOption = Annotated[Literal["rgb", "bgr"], typer.Option(help="bgr: for MMGeneration networks that need it.")]


@app.command("import")
def import_(
    file: CheckpointArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.safetensors", help="The generator file to write.")] = None,
    which: WhichOption = "ema",
    channel_order: ChannelOrderOption = "rgb",
    inspect: Annotated[bool, typer.Option("--inspect", help="Print what is in the file; import nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a foreign checkpoint into a generator file, executing nothing in it."""
    from generator.files import file_sha256, save_discriminator, save_generator
    from generator.importers import import_checkpoint, inspect_checkpoint

    if inspect:
        found = inspect_checkpoint(file, which, channel_order)
        _print_inspection(found, as_json)
        raise typer.Exit(0 if found.container else 1)
    if out is None or out.suffix != ".safetensors":
        raise ValueError(f"--out: found {out or 'nothing'}, expected a file that ends in .safetensors, or --inspect")
    imported = import_checkpoint(file, which, channel_order)
    save_generator(imported.generator, out, imported.provenance)
    paths = [out]
    if imported.discriminator:
        paths.append(save_discriminator(imported.discriminator, out, imported.provenance))
    if as_json:
        stdout.print(json.dumps(imported.provenance | {"files": [str(p) for p in paths]}), markup=False)
        return
    config = imported.generator.config
    stdout.print(f"{imported.format}: {config.resolution} x {config.resolution}, {_millions(imported.generator)}")
    for note in imported.provenance["imported_notes"]:
        stdout.print(f"note: {note}", markup=False)
    for path, sha256 in [(file, imported.provenance["original_sha256"]), *((p, file_sha256(p)) for p in paths)]:
        stdout.print(f"{sha256}  {_plain(str(path))}", markup=False)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A generator file, or a foreign checkpoint.")],
    to: Annotated[str, typer.Option(help="rosinality or ada-pytorch-state.")],
    out: Annotated[Path, typer.Option(metavar="FILE.pt", help="The torch file to write.")],
) -> None:
    """Write a generator as a plain state dict for another tool."""
    from generator.importers.exporting import export_checkpoint
    from generator.loading import open_generator

    opened = open_generator(file)
    export_checkpoint(opened.generator, out, to, opened.discriminator)
    stdout.print(str(out), markup=False)


def _millions(network: Any) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} million parameters"


def _print_inspection(found: Any, as_json: bool) -> None:
    if as_json:
        stdout.print(json.dumps(asdict(found)), markup=False)
        return
    for name in ("path", "sha256", "size", "container", "format", "problem"):
        stdout.print(f"{name}: {_plain(str(getattr(found, name) or 'none'))}", markup=False)
    for name, value in (found.config or {}).items():
        stdout.print(f"  {name}: {value}", markup=False)
    for note in found.notes:
        stdout.print(f"note: {_plain(note)}", markup=False)
    stdout.print(f"\nnamed in the file, none of it executed: {len(found.globals)}")
    for use in found.globals:
        stdout.print(f"  {_plain(f'{use.module}.{use.name}')} x {use.count}: {use.meaning}", markup=False)
    stdout.print(f"\ntensors: {len(found.tensors)}")
    for tensor in found.tensors:
        stdout.print(f"  {_plain(tensor.name)} {list(tensor.shape)} {tensor.dtype}", markup=False)


@app.command()
def train(
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder or zip of square images, with an index.csv or not.")
    ],
    out: OutFolder,
    split: SplitOption = "",
    conditional: Annotated[
        bool, typer.Option("--conditional", help="Learn classes: the labels of dataset.json, or folder names.")
    ] = False,
    config: Annotated[
        str, typer.Option(help="small-64, stylegan2-e, stylegan2-f, ada-256, ada-512, ada-1024, cifar or auto.")
    ] = "small-64",
    resolution: Annotated[
        int | None, typer.Option(help="Of the images; default: the configuration's; auto: the first image's.")
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(help="Thousands of images to show; default: the configuration's.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Default: the configuration's.")] = None,
    seed: SeedOption = 0,
    x_flip: Annotated[
        bool | None, typer.Option("--x-flip/--no-x-flip", help="Mirror images at random; default: the configuration's.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 or fp16 for the feature maps; default: the configuration's.")
    ] = None,
    half_resolutions: Annotated[
        int | None,
        typer.Option(metavar="N", help="The highest resolutions that take bf16 or fp16; default: the configuration's."),
    ] = None,
    mapping_layers: Annotated[
        int | None, typer.Option(metavar="N", help="Depth of the mapping network; default: the configuration's.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="logistic; lsgan or wgan-gp to compare with.")] = None,
    regularise: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="To compare with: bcr, zcr, rotation, pa-gan, dropout, spectral-d, spectral-g; or none.",
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's learning rate; default: the configuration's.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Weight of R1; default: the configuration's.")] = None,
    ema_kimg: Annotated[
        float | None,
        typer.Option(help="Half-life of the generator's average, thousands of images; default: the configuration's."),
    ] = None,
    snapshot_kimg: Annotated[float | None, typer.Option(help="Thousands of images between snapshots.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Generator file or foreign checkpoint to start from; its network, its discriminator if there is one.",
        ),
    ] = None,
    freeze_d: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --init: the discriminator's N highest resolutions stay as they are."),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, help="Parts of a batch that are worked on one after the other, for less memory."),
    ] = None,
    warmup_kimg: Annotated[
        float | None, typer.Option(help="Thousands of images for which only the discriminator learns.")
    ] = None,
    ada_kimg: Annotated[
        float | None, typer.Option(help="Thousands of images in which the augmentation can rise from 0 to 1.")
    ] = None,
    augment: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="blit, geometry, colour, filter, noise, cutout; or none.")
    ] = None,
    evaluate_kimg: Annotated[
        float | None,
        typer.Option(
            help="Thousands of images between two judgements; the best generator is kept as best.safetensors."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="With --evaluate-kimg: as of `evaluate`; the first names the best. Default: fd_vgg16.",
        ),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="InceptionV3's weights, for the metrics fid, kid and is.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write figures and samples for TensorBoard, too: OUT/tensorboard.")
    ] = False,
    device: DeviceOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, parameters, FLOPs and memory; train nothing.")
    ] = False,
) -> None:
    """Train a StyleGAN2 generator; the same command again resumes, a larger --kimg continues.

    On several GPUs, or processes: torchrun --nproc-per-node N -m cli train ...
    """
    from generator.allocation import keep_freed_memory
    from generator.files import read_provenance
    from generator.imagesets import open_image_set
    from generator.loading import open_generator
    from training.board import Board
    from training.dataset import load_training_images
    from training.feature_cache import user_cache
    from training.judging import Judging
    from training.ledger import ledger_sentence
    from training.loop import train as run
    from training.presets import resolve_for
    from training.workers import join_workers

    keep_freed_memory()
    asked = _given(
        resolution=resolution,
        kimg=kimg,
        batch=batch,
        seed=seed,
        x_flip=x_flip,
        precision=precision,
        half_resolutions=half_resolutions,
        mapping_layers=mapping_layers,
        loss=loss,
        regularise=_names(regularise),
        lr=lr,
        gamma=gamma,
        ema_kimg=ema_kimg,
        snapshot_kimg=snapshot_kimg,
        freeze_d=freeze_d,
        accumulate=accumulate,
        warmup_kimg=warmup_kimg,
        ada_kimg=ada_kimg,
        augment=_names(augment),
    )
    board = Board(out / "tensorboard") if tensorboard else None
    judging = None
    if evaluate_kimg is not None:
        judging = Judging(evaluate_kimg, _list(metrics or "fd_vgg16"), inception, user_cache() / "features")
    elif metrics is not None or inception:
        option = "--inception" if metrics is None else "--metrics"
        raise ValueError(f"{option}: found it without --evaluate-kimg, expected both: it is for judging on the way")
    image_set = open_image_set(data, _list(split))
    start = open_generator(init) if init else None
    settings, labels = resolve_for(image_set, config, conditional, asked, start.generator.config if start else None)
    if dry_run:
        _print_estimate(settings, len(image_set))
        return
    images = load_training_images(image_set, settings.network.resolution, labels)
    with (
        closing(board) if board else nullcontext(),
        join_workers(_device(device)) as (workers, place),
        _images_progress(settings.kimg, workers.first) as show,
        _stop_request() if workers.count == 1 else nullcontext(lambda: False) as stop,
    ):
        path = run(settings, images, out, place, start, show, workers, judging, board, stop)
    if workers.first:
        used = read_provenance(path).get("ledger")  # a run that an older version finished has none
        cost = f", {ledger_sentence(used)}" if used else ""
        stdout.print(
            f"{len(images)} training images (SHA-256 {images.sha256[:12]}), {settings.kimg:g} kimg{cost}: {path}",
            markup=False,
        )


def _names(value: str | None) -> tuple[str, ...] | None:
    """NAME,... or none; None where the option was not given."""
    return None if value is None else () if value == "none" else tuple(value.split(","))


@contextmanager
def _stop_request() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or a termination has asked for an end; asked again, the process ends at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _images_progress(kimg: float, shown: bool) -> Iterator:
    """A bar over training images, on stderr."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=stderr, disable=not shown) as bar:
        task = bar.add_task("training", total=int(kimg * 1000))

        def show(progress: Any) -> None:
            bar.update(task, completed=progress.images, description=f"{progress.images_per_second:.1f} images/s")

        yield show


def _print_estimate(settings: Any, images: int) -> None:
    from training.estimate import estimate

    costs, values = estimate(settings), asdict(settings)
    for name, value in (values.pop("network") | values).items():
        stdout.print(f"{name}: {value}", markup=False)
    stdout.print(f"\ntraining images: {images:,} (not opened)")
    stdout.print(f"parameters: G {costs.generator_parameters:,}, D {costs.discriminator_parameters:,}")
    stdout.print(
        f"GFLOP: {costs.flops_generate / 1e9:.3g} to generate an image, {costs.flops_train / 1e9:.3g} to train on one"
    )
    memory = costs.state_bytes, costs.activation_bytes, images * settings.network.resolution**2 * 3
    stdout.print(
        "memory, GB: networks {:.2f}, one backward pass {:.2f}, images {:.2f}".format(*(n / 1e9 for n in memory))
    )


@app.command("train-encoder")
def train_encoder(
    generator: Annotated[Path, typer.Option(metavar="FILE", help="Generator file or foreign checkpoint.")],
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="The encoder file to write.")],
    kimg: Annotated[float, typer.Option(help="Thousands of generated images to learn from.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Images per step.")] = 32,
    precision: PrecisionOption = "fp32",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Train an encoder image -> w on a generator's own samples; killed, the same command goes on."""
    from generator.allocation import keep_freed_memory
    from training.encoder import EncoderProgress, EncoderTraining
    from training.encoder import train_encoder as run

    keep_freed_memory()
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise ValueError(f"--out: found {out}, expected a file that ends in .safetensors, in a folder that exists")
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task("training", total=None)

        def show(progress: EncoderProgress) -> None:
            bar.update(task, total=progress.total, completed=progress.images, description=f"error {progress.loss:.3f}")

        error = run(generator, out, EncoderTraining(kimg, batch, precision=precision, seed=seed), _device(device), show)
    stdout.print(
        f"{_plain(str(out))}: mean square error of w on new samples {error:.3f}; 1 is what the mean of w reaches",
        markup=False,
    )


@app.command()
def evaluate(
    generator: Annotated[Path, typer.Option(metavar="FILE", help="Generator file or foreign checkpoint.")],
    data: Annotated[Path, typer.Option(metavar="PATH", help="The images to compare with.")],
    split: SplitOption = "",
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="fd_vgg16, kd_vgg16, precision, recall, ppl, swd, ms_ssim; with --inception fid, kid, is.",
        ),
    ] = "fd_vgg16,recall",
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="InceptionV3's weights (pt_inception-2015-12-05-6726825d.pth).")
    ] = None,
    samples: Annotated[int, typer.Option(min=10, help="Generated images.")] = 5000,
    seed: SeedOption = 0,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Keeps the images' features; default: ~/.cache/latentprint."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Judge a generator against images: distances on network features and patches, variation, smoothness."""
    from generator import load_generator
    from generator.imagesets import open_image_set
    from training.dataset import load_training_images
    from training.feature_cache import user_cache
    from training.metrics import evaluate_generator

    G = load_generator(generator, _device(device))
    images = load_training_images(open_image_set(data, _list(split)), G.resolution)
    with stderr.status("evaluating"):
        figures = evaluate_generator(
            G, images.pixels, _list(metrics), samples, seed, inception, cache or user_cache() / "features"
        )
    if as_json:
        stdout.print(json.dumps(figures), markup=False)
    else:
        for name, value in figures.items():
            stdout.print(f"{name}: {value:.4g}", markup=False)


@app.command()
def dataset(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder or zip of images, with an index.csv or not.")],
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="The zip to write.")],
    resolution: Annotated[int, typer.Option(help="Side of the square images, a power of two.")],
    split: SplitOption = "",
    crop: Annotated[bool, typer.Option("--crop", help="Take the middle square of images that are not square.")] = False,
    letterbox: Annotated[
        bool, typer.Option("--letterbox", help="Add black bars to images that are not square.")
    ] = False,
    aspect: Annotated[
        str, typer.Option(metavar="W:H", help="With --letterbox: first take the middle part of this shape.")
    ] = "",
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='JSON {"file": [[x, y], ...]}, 68 or 5 points: cut faces out as FFHQ does.'),
    ] = None,
    upscale: Annotated[bool, typer.Option("--upscale", help="Admit images smaller than the resolution.")] = False,
    label_folders: Annotated[
        bool, typer.Option("--label-folders", help="Folders are classes; else those of a dataset.json.")
    ] = False,
) -> None:
    """Make images square, of one size and PNG, and pack them for `train`; name every file that is left out."""
    from generator.alignment import read_landmarks
    from generator.imagesets import open_image_set
    from training.packing import PackingSettings, folder_labels, pack, stored_labels

    if out.suffix != ".zip":
        raise ValueError(f"--out: found {out}, expected a file that ends in .zip")
    shape = _shape(crop, letterbox, landmarks)
    shape = "refuse" if landmarks else shape
    settings = PackingSettings(resolution, shape, _aspect(aspect) if aspect else None, upscale)
    images = open_image_set(path, _list(split))
    labels = folder_labels(images) if label_folders else stored_labels(images)
    columns = [TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task("packing", total=len(images))
        packed = pack(
            images,
            out,
            settings,
            read_landmarks(landmarks) if landmarks else None,
            labels,
            lambda: bar.advance(task),
            lambda name, reason: stderr.print(_plain(f"{name}: {reason}"), markup=False),
        )
    classes = f" in {packed.classes} classes" if labels is not None else ""
    stdout.print(f"content SHA-256: {packed.sha256}", markup=False)
    stdout.print(f"{packed.images} images{classes}, {packed.left_out} left out: {_plain(str(out))}", markup=False)


def _shape(crop: bool, letterbox: bool, landmarks: Path | None) -> str:
    """The option that says how an image becomes square, "refuse" without one. Raises ValueError for two."""
    chosen = [name for name, given in [("crop", crop), ("letterbox", letterbox), ("landmarks", landmarks)] if given]
    if len(chosen) > 1:
        raise ValueError(f"--{chosen[0]}: found --{chosen[1]} too, expected one of them")
    return chosen[0] if chosen else "refuse"


def _aspect(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text)
    if not match:
        raise ValueError(f"--aspect: found {text!r}, expected two numbers such as 4:3")
    return int(match[1]), int(match[2])


@app.command()
def report(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="A case directory made by attribute.")],
    pdf: Annotated[bool, typer.Option(help="Write report.pdf too: PDF/A-3 with report.json attached.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as Parquet.")] = None,
    case_uco: Annotated[
        Path | None, typer.Option("--case-uco", metavar="FILE", help="Also write the findings as CASE/UCO JSON-LD.")
    ] = None,
) -> None:
    """Write the report of a case directory again from its report.json; as a PDF, table or graph too, where asked."""
    from reports.case import read_report, write_report
    from reports.case_uco import write_case_uco
    from reports.pdf import write_pdf
    from reports.table import write_csv, write_parquet

    found = read_report(case)
    if pdf:
        with stderr.status("drawing the PDF"):
            path = write_pdf(found, case, (case / "report.json").read_bytes())
        stdout.print(f"PDF: {_plain(str(path))}", markup=False)
    for kind, write, file in (
        ("table", write_csv, csv),
        ("table", write_parquet, parquet),
        ("CASE/UCO", write_case_uco, case_uco),
    ):
        if file:
            write(found, file, case)  # before the manifest, which lists a file that lies in the case
            stdout.print(f"{kind}: {_plain(str(file))}", markup=False)
    written = write_report(found, case)
    stdout.print(f"report: {_plain(str(case / 'report.html'))}", markup=False)
    _print_written(written)


def _print_written(written: Any) -> None:
    if written.signature_removed:
        stdout.print("manifest.sig was removed: the manifest changed; `attribute` with --sign signs it again")
    stdout.print(f"manifest SHA-256: {written.manifest_sha256}", markup=False)


@app.command()
def verify(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="A case directory made by attribute.")],
    candidate: Annotated[
        list[str] | None,
        typer.Option("--candidate", metavar="NAME=FILE", help="A generator's file; default: where the report says."),
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE.pub", help="The signer's public key.")] = None,
    manifest: Annotated[
        str | None, typer.Option(metavar="SHA256", help="The manifest's SHA-256, as it was printed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a case: hashes, signature, schema; render every image again and make every number again."""
    from reports.verify import verify_case

    with _steps_progress("re-rendering") as events:
        found = verify_case(case, _named_files(candidate or []), key, manifest, _device("auto"), events)
    if as_json:
        stdout.print(json.dumps({"case": str(case), "holds": found.holds} | asdict(found)), markup=False)
    else:
        marks = {True: "holds", False: "does not hold", None: "not checked"}
        for finding in found.findings:
            words = finding.sentence.removeprefix(f"{finding.item}: ")
            stdout.print(f"{marks[finding.holds]:13}  {_plain(f'{finding.item}: {words}')}", markup=False)
        for note in found.notes:
            stdout.print(f"note: {note}", markup=False)
        counts = [sum(f.holds is state for f in found.findings) for state in (True, False, None)]
        stdout.print("{} items hold, {} do not, {} could not be checked".format(*counts), markup=False)
    raise typer.Exit(0 if found.holds else 1)


@app.command()
def keygen(
    out: Annotated[Path, typer.Option(metavar="KEY", help="The private key; the public one goes beside it.")],
) -> None:
    """Write a new Ed25519 key to KEY and KEY.pub, to sign reports with."""
    from reports.signing import public_path, write_key_pair

    text = write_key_pair(out)
    stdout.print(f"private key: {_plain(str(out))}\npublic key: {_plain(str(public_path(out)))}\n{text}", markup=False)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what runs here: devices, operators, precision, bundled files."""
    from attribution.provenance import environment, precision_support, tool_version
    from generator.features import check_weights

    facts = {"latentprint": tool_version()} | environment() | precision_support() | check_weights()
    if as_json:
        stdout.print(json.dumps(facts), markup=False)
    else:
        for name, value in facts.items():
            stdout.print(f"{name}: {value}", markup=False)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _plain(text: str) -> str:
    """Text from outside on one line, without control characters."""
    from reports.words import printable

    return printable(text)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _named_files(options: list[str]) -> dict[str, Path]:
    """NAME=FILE options; raises ValueError for another form, or a name that is no file's or given twice."""
    from attribution.case_directory import require_names

    named: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (equals and name and path):
            raise ValueError(f"{option!r}: expected NAME=FILE")
        if name in named:
            raise ValueError(f"{option!r}: found the name {name} twice, expected different names")
        named[name] = Path(path)
    require_names(named)
    return named


def _seeds(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"--seeds: found {part!r}, expected numbers and rising ranges such as 0-9,42")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return numbers


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ValueError(f"--device: found {name!r}, expected cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: found cuda, but PyTorch sees no CUDA device here; expected cpu or auto")
    return name


@contextmanager
def _steps_progress(label: str) -> Iterator:
    """A bar over image-steps, on stderr."""
    from attribution.engine import Events
    from generator.allocation import keep_freed_memory

    keep_freed_memory()
    columns = [
        TextColumn(label),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task(label, total=None)

        def advance(count: int) -> None:
            before, total = bar.tasks[task].completed, bar.tasks[task].total or 1
            bar.advance(task, count)
            tenth = int(10 * (before + count) / total)
            if not stderr.is_terminal and tenth > int(10 * before / total):  # a log has no moving bar
                stderr.print(f"{label}: {10 * tenth} %", markup=False)

        def begin(total: int) -> None:
            bar.update(task, total=total)
            if not stderr.is_terminal:
                stderr.print(f"{label}: {total:,} image-steps", markup=False)

        yield Events(on_total=begin, on_step=advance)


if __name__ == "__main__":
    main()

"""Verify through its own doors: what was changed is found and named, also under a manifest that was rewritten."""

import functools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import attribution.recheck_files
from attribution.findings import Finding
from attribution.rerendering import rerender
from generator import LPIPS
from generator.files import safetensors_bytes
from generator.images import encode_png
from reports.case import read_report, write_report
from reports.signing import public_path, read_private_key, write_key_pair
from reports.verify import check_files, verify_case
from tests.cases import tiny_generator, write_reals, write_samples
from tests.commands import run_command as run

QUICK = ["--steps", "2", "--batch-size", "4", "--alpha", "0.3", "--delta", "0.3", "--lambda", "0.1"]


@pytest.fixture(scope="module", autouse=True)
def _rendered_once() -> Any:
    """A re-rendering depends on its inputs alone, so that the many cases here need each only once."""
    known: dict[bytes, Any] = {}

    def cached(candidate: Any, projections: Any, targets: np.ndarray, lpips: Any) -> Any:
        parts = [candidate.sha256.encode(), targets.tobytes(), str([p.seed for p in projections]).encode()]
        parts += [t.numpy().tobytes() for p in projections for t in (p.w, *p.noise)]
        key = b"".join(parts)
        known[key] = known.get(key) or rerender(candidate, projections, targets, lpips)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution.recheck_files, "rerender", cached)
        patch.setattr(attribution.recheck_files, "LPIPS", functools.cache(LPIPS))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.safetensors, b.safetensors, cal.json, two keys, and a signed case of five suspects."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate("ab"):
        tiny_generator(folder / f"{name}.safetensors", seed)
    write_reals(folder / "reals", 20)
    pair = [part for name in "ab" for part in ("--candidate", f"gen-{name}={folder / f'{name}.safetensors'}")]
    assert run("calibrate", *pair, "--real", folder / "reals", "--out", folder / "cal.json", *QUICK) == 0
    suspects = write_samples(folder / "suspects", folder / "a.safetensors", [1])
    Image.open(folder / "reals" / "000.png").save(suspects / "b-real.png")
    Image.open(folder / "reals" / "001.png").resize((32, 32)).save(suspects / "c-large.png")
    Image.open(folder / "reals" / "001.png").resize((16, 12)).save(suspects / "d-wide.png")
    (suspects / "e-broken.png").write_bytes(b"no picture")
    for name in ("key", "other"):
        assert run("keygen", "--out", folder / name) == 0
    options = ["--calibration", folder / "cal.json", "--out", folder / "case", "--batch-size", 4]
    assert run("attribute", suspects, *pair, *options, "--sign", folder / "key") == 0
    return folder


@pytest.fixture
def case(world: Path, tmp_path: Path) -> Path:
    """A copy of the case to tamper with."""
    return Path(shutil.copytree(world / "case", tmp_path / "case"))


def verify(case: Path, world: Path, *, signed: bool = False, **options: Any) -> list[Finding]:
    """What is wrong or unchecked."""
    found = verify_case(case, key=world / "key.pub" if signed else None, **options)
    assert found.holds == all(f.holds for f in found.findings)
    return [f for f in found.findings if not f.holds]


def words(findings: list[Finding]) -> str:
    return "\n".join(f.sentence for f in findings)


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place if place >= 0 else len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_an_intact_case_holds_item_by_item(
    world: Path, case: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(case.parent)
    assert run("verify", case, "--key", world / "key.pub") == 0
    out = capsys.readouterr().out
    for item in (
        "manifest.json: has SHA-256",
        "manifest.sig: signs this",
        "report.html: is the page",
        "calibration.json",
    ):
        assert f"holds          {item}" in out
    for place, code in enumerate(i.verdict.code for i in read_report(case).images):
        assert f"images[{place}] " in out and f"{code} follows again" in out
    assert "LPIPS within 0, pixels within 0 levels" in out  # on the machine that made it
    assert "note: Tolerances: LPIPS" in out and "0 do not, 0 could not be checked" in out
    assert run("verify", case, "--key", world / "key.pub", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["holds"] is True and {f["holds"] for f in content["findings"]} == {True}


def test_what_can_not_be_told_without_a_signature_is_said(world: Path, case: Path) -> None:
    report = read_report(case)
    digest = write_report(replace(report, run=replace(report.run, signer=None)), case).manifest_sha256
    alone, printed = verify_case(case), verify_case(case, manifest_sha256=digest)
    assert alone.holds and any("can't be told from the first one" in note for note in alone.notes)
    assert printed.holds and not any("can't be told" in note for note in printed.notes)
    (wrong,) = verify(case, world, manifest_sha256="0" * 64)
    assert wrong.sentence == f"manifest.json: found SHA-256 {digest}, expected {'0' * 64} as printed"


def test_every_file_changed_by_one_byte_is_named(case: Path) -> None:
    names = json.loads((case / "manifest.json").read_text())["files"]
    assert len(names) > 3 + 2 * (4 + 3)  # report, page, calibration; targets, and three files a candidate
    for name in names:
        flip(case / name)
        findings = check_files(case, None)
        assert [f.item for f in findings if not f.holds] == [name], name
        flip(case / name)
    assert all(f.holds for f in check_files(case, None))


KINDS = ["report.json", "report.html", "calibration.json", "manifest.json", "manifest.sig", "projections", "images"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_artefact_changed_by_one_byte_is_named_by_verify(world: Path, case: Path, kind: str) -> None:
    path = sorted((case / kind).iterdir())[0] if (case / kind).is_dir() else case / kind
    flip(path)
    name = path.relative_to(case).as_posix()
    for options in ({"signed": True}, {}):
        assert any(f.holds is False and name in f.sentence for f in verify(case, world, **options))
    assert run("verify", case, "--key", world / "key.pub") == 1


def test_added_missing_and_linked_files_are_named(world: Path, case: Path) -> None:
    (case / "notes.txt").write_text("mine")
    (case / "images" / "more.png").symlink_to(case / "report.json")
    target = sorted((case / "images").glob("*.target-16.png"))[0]
    target.unlink()
    found = words(verify(case, world, signed=True))
    assert "notes.txt: found a file that manifest.json does not list, expected none" in found
    assert "images/more.png: found a file that manifest.json does not list" in found
    assert f"images/{target.name}: found no such file, expected one of SHA-256" in found
    assert f"images/{target.name}: could not be read (No such file or directory), expected a picture" in found


@pytest.mark.parametrize("name", ["report.json", "report.html", "calibration.json", "manifest.json"])
def test_a_missing_document_is_named(world: Path, case: Path, name: str) -> None:
    (case / name).unlink()
    assert re.search(rf"^{re.escape(name)}: (found )?no such file, expected", words(verify(case, world)), re.MULTILINE)


# ---- what was edited and then covered by a new manifest


def rewrite(case: Path, edit: Callable[[Any], Any]) -> None:
    """Edit report.json and have the page and the manifest written anew, as someone would who covers it."""
    content = json.loads((case / "report.json").read_text())
    content["run"]["signer"] = None
    edit(content)
    (case / "report.json").write_text(json.dumps(content))
    write_report(read_report(case), case)


def row(content: Any, place: int = 0, candidate: int = 0) -> Any:
    return content["images"][place]["candidates"][candidate]


def own(field: str, value: Any) -> tuple[Callable[[Any], Any], str]:
    return lambda c: row(c).update({field: value}), rf"images[0].candidates[0].{field}"


def image(field: str, value: Any, named: str = "") -> tuple[Callable[[Any], Any], str]:
    return lambda c: c["images"][0].update({field: value}), named or f"images[0].{field}"


def of_run(field: str, value: Any, named: str = "") -> tuple[Callable[[Any], Any], str]:
    return lambda c: c["run"].update({field: value}), named or f"run.{field}"


SHA = "ab" * 32
EDITS = [
    own("lpips", 0.001), own("lpips_start", 2.5), own("mse", 0.9), own("ssim", 0.1), own("seed", 7), own("steps", 99),
    own("p_value_generated", 0.011), own("log10_lr", 0.01), own("log10_lr_unbounded", 9.0),
    own("log10_lr_bounds", [-9.0, 9.0]), own("target_sha256", SHA), own("target", "images/x.png"),
    (lambda c: row(c).update(projection_sha256=SHA), f"expected {SHA} of report.json"),
    (lambda c: row(c)["lpips_per_layer"].reverse(), "images[0].candidates[0].lpips_per_layer[0]"),
    image("score", 9.0), image("threshold", -9.0), image("p_value_real", 0.001), image("log10_margin", 3.3),
    image("stratum", "jpeg q50, scale 1"), image("format", "JPEG", "images[0].stratum"),
    image("width", 15, "images[0]"),
    image("sha256", SHA, "run.id"), image("path", "x.png", "run.id"), image("thumbnail", "images/x.png"),
    (lambda c: c["images"][0]["verdict"].update(code="UNRESOLVED"), "images[0].verdict.code: found 'UNRESOLVED'"),
    (lambda c: c["images"][0]["verdict"].update(statement="It is fake."), "images[0].verdict.statement"),
    (lambda c: c["images"][2].update(stratum="png, scale 1"), "images[2].stratum: found 'png, scale 1', expected"),
    (lambda c: c["images"][3]["verdict"].update(statement="Too dark."), "images[3].verdict.statement"),
    (lambda c: c["images"][4]["error"].update(message="It was dark."), "images[4].verdict.statement"),
    (lambda c: c["images"].pop(), "run.id"),
    (lambda c: c["images"][0]["candidates"].reverse(), "images[0].candidates: found ['gen-b', 'gen-a'], expected"),
    of_run("exhibit", "B"), of_run("seed", 5), of_run("started", "2020-01-01T00:00:00+00:00", "run.id"),
    of_run("controls_tolerance", 9.0), of_run("controls_hold", False),
    (lambda c: c["run"]["controls"].pop(), "run.controls: found 3, expected the calibration's 4"),
    (lambda c: c["run"]["controls"][0].update(drift=0.0001), "run.controls[0].drift"),
    (lambda c: c["run"]["controls"][0]["distances"].update({"gen-a": 0.2}), "run.controls[0].distances.gen-a"),
    (lambda c: c["run"]["controls"][1]["calibrated"].update({"gen-b": 0.2}), "run.controls[1].calibrated.gen-b"),
    (lambda c: c["run"]["settings"]["config"].update(steps=3), "steps: found 3, but the calibration was made with 2"),
    (lambda c: c["run"]["settings"].pop("config"), "run.settings: found none of a run"),
    (lambda c: c["candidates"][0]["provenance"].update(x=1), "candidate gen-a.provenance.x: found 1"),
    (lambda c: c["calibration"]["decision"].update(alpha=0.9), "calibration.decision.alpha"),
    (lambda c: c["calibration"]["n"]["calibration"].update(real=9999), "calibration.n.calibration.real"),
    (lambda c: c["calibration"].update(id="0" * 16), "expected 0000000000000000, which report.json rests on"),
    (lambda c: c["summary"].update(errors=0), "summary.errors: found 0, expected 1"),
    (lambda c: c["propositions"].pop(), "propositions"),
    (lambda c: c["limitations"].pop(0), "limitations"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "named"), EDITS, ids=[named for _, named in EDITS])
def test_an_edit_under_a_new_manifest_is_named(world: Path, case: Path, edit: Callable, named: str) -> None:
    (case / "images" / "x.png").write_bytes(encode_png(np.zeros((16, 16, 3), np.uint8)))
    rewrite(case, edit)
    found = verify(case, world)
    assert any(f.holds is False and named in f.sentence for f in found), words(found)
    assert "manifest" not in words(found)  # it was covered
    assert "manifest.sig: found no such file" in words(verify(case, world, signed=True))


def test_wrong_settings_leave_every_image_and_control_named_as_unchecked(world: Path, case: Path) -> None:
    rewrite(case, lambda content: content["run"]["settings"]["config"].update(steps=3))
    findings = verify(case, world)
    assert "steps: found 3" in words(findings)
    unchecked = [finding.item for finding in findings if finding.holds is None]
    content = json.loads((case / "report.json").read_text())
    for i in range(len(content["images"])):
        assert any(item.startswith(f"images[{i}]") for item in unchecked)
    assert {f"run.controls[{i}]" for i in range(len(content["run"]["controls"]))} <= set(unchecked)


def test_a_manifest_that_is_a_link_is_named(world: Path, case: Path, tmp_path: Path) -> None:
    (case / "manifest.json").rename(tmp_path / "elsewhere.json")
    (case / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    assert "manifest.json: found a link" in words(verify(case, world))


def test_a_likelihood_ratio_that_follows_from_a_wrong_distance_is_named_by_the_rerendering(
    world: Path, case: Path
) -> None:
    """Everything made to fit a distance that is another: only the rendering tells."""
    far, near = read_report(case).images[1].candidates[0].lpips, read_report(case).images[0].candidates[0].lpips
    assert far != near

    def edit(content: Any) -> None:
        first, second = content["images"][:2]
        keep = (
            "name",
            "target_sha256",
            "seed",
            "projection",
            "projection_sha256",
            "resynthesis",
            "difference",
            "target",
        )
        for own_row, other in zip(second["candidates"], first["candidates"], strict=True):
            own_row.update({name: value for name, value in other.items() if name not in keep})
        second.update({k: first[k] for k in ("score", "threshold", "p_value_real", "log10_margin", "verdict")})

    rewrite(case, edit)
    found = words(verify(case, world))
    assert "images[1].candidates[0].lpips: found" in found and "as re-rendered" in found


def projection_of(case: Path, place: int = 0) -> Path:
    return case / read_report(case).images[place].candidates[0].projection


def test_another_search_result_under_a_new_manifest_is_named(world: Path, case: Path) -> None:
    path = projection_of(case)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["w"] = tensors["w"] + 0.5
    path.write_bytes(safetensors_bytes(tensors, metadata | {"seed": "8"}))
    rewrite(case, lambda c: None)
    found, name = words(verify(case, world)), path.relative_to(case)
    assert f"{name}: found SHA-256" in found and f"{name}: found seed 8, expected" in found
    assert "images[0].candidates[0].lpips: found" in found and "levels from the re-rendering" in found


@pytest.mark.parametrize("kind", ["target", "resynthesis", "difference"])
def test_another_picture_under_a_new_manifest_is_named(world: Path, case: Path, kind: str) -> None:
    path = case / getattr(read_report(case).images[0].candidates[0], kind)
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 4] ^= 64
    path.write_bytes(encode_png(pixels))
    rewrite(case, lambda c: None)
    assert any(f.sentence.startswith(f"{path.relative_to(case)}: found pixels") for f in verify(case, world))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: b"garbage", "found no readable projection"),
        (
            lambda: safetensors_bytes({"w": torch.zeros(8)}, {"format": "x"}),
            "found format 'x', expected 'latentprint.proj",
        ),
        (lambda: projection_bytes({"w": torch.zeros(9)}), "found tensors of other names or shapes"),
        (lambda: projection_bytes({"w": torch.zeros(8)}), "found tensors of other names or shapes"),
        (lambda: projection_bytes({}), "found no readable projection ('w')"),
        (
            lambda: projection_bytes({"w": torch.full([8], torch.nan), **maps()}),
            "tensor w holds numbers that are not fin",
        ),
        (lambda: projection_bytes({"w": torch.zeros(8), **maps()}, seed="x"), "invalid literal"),
    ],
)
def test_a_file_that_is_no_projection_is_named(
    world: Path, case: Path, make: Callable[[], bytes], sentence: str
) -> None:
    path = projection_of(case)
    path.write_bytes(make())
    assert any(f.sentence.startswith(f"{path.relative_to(case)}: {sentence}") for f in verify(case, world))


def maps() -> dict[str, torch.Tensor]:
    return {f"noise_{i:02d}": torch.zeros(r, r) for i, r in enumerate((4, 8, 8, 16, 16))}


def projection_bytes(tensors: dict[str, torch.Tensor], **metadata: str) -> bytes:
    known = {"format": "latentprint.projection/1", "generator_sha256": SHA, "target_sha256": SHA, "seed": "1"}
    return safetensors_bytes(tensors, known | metadata)


@pytest.mark.parametrize("content", [b"", b"GIF89a", encode_png(np.zeros((512, 512, 3), np.uint8))])
def test_a_picture_that_is_none_or_too_large_is_named(world: Path, case: Path, content: bytes) -> None:
    name = read_report(case).images[0].candidates[0].resynthesis
    (case / name).write_bytes(content)
    assert len([f for f in verify(case, world) if f.sentence.startswith(f"{name}: found ")]) == 2  # hash, and picture


def test_an_exchanged_calibration_is_named(world: Path, case: Path) -> None:
    text = (case / "calibration.json").read_text()
    (case / "calibration.json").write_text(text.replace('"created": "2', '"created": "1', 1))
    rewrite(case, lambda c: None)
    found = verify(case, world)
    assert any(f.holds is False and f.sentence.startswith("calibration.json: id: found") for f in found)
    assert any(f.holds is None and "its evidence was not computed again" in f.sentence for f in found)


# ---- signatures


def test_a_stripped_signature_a_wrong_key_and_a_report_signed_again_are_told_apart(world: Path, case: Path) -> None:
    key, other = (read_private_key(world / name) for name in ("key", "other"))
    wrong_key = words(verify_case(case, key=world / "other.pub").findings)
    assert "which report.json names too, expected one by the key that was given" in wrong_key
    assert "it is the wrong key, or another signer's report" in wrong_key
    (unchecked,) = verify(case, world)
    assert unchecked.holds is None and "expected --key to tell whether it is the examiner's" in unchecked.sentence
    signature = (case / "manifest.sig").read_bytes()
    (case / "manifest.sig").unlink()
    for signed in (True, False):
        assert "which report.json names: the signature was removed" in words(verify(case, world, signed=signed))
    from reports.signing import signature_bytes

    (case / "manifest.sig").write_bytes(signature_bytes(other, (case / "manifest.json").read_bytes()))
    for signed in (True, False):
        assert "the report was signed again with another key" in words(verify(case, world, signed=signed))
    report = read_report(case)
    edited = replace(report, limitations=report.limitations[1:])
    write_report(edited, case, other)  # edited and signed as a whole by someone else
    found = words(verify(case, world, signed=True))
    assert "it is the wrong key, or another signer's report" in found and "limitations: found" in found
    (case / "manifest.sig").write_bytes(signature)
    assert "one of the two was changed after signing" in words(verify(case, world, signed=True))
    write_report(report, case, key)
    assert verify(case, world, signed=True) == [] and (case / "manifest.sig").read_bytes() == signature


def test_an_unsigned_report_is_not_taken_for_a_signed_one(world: Path, case: Path) -> None:
    rewrite(case, lambda c: None)
    assert verify(case, world) == []
    (wrong,) = verify(case, world, signed=True)
    assert "report.json names no signer, it was never signed" in wrong.sentence


def test_report_says_that_it_removed_a_signature(world: Path, case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", case) == 0
    assert "manifest.sig was removed" not in capsys.readouterr().out and (case / "manifest.sig").is_file()
    (case / "notes.txt").write_text("mine")
    assert run("report", case) == 0
    assert "manifest.sig was removed: the manifest changed" in capsys.readouterr().out
    assert not (case / "manifest.sig").exists()


def test_a_bad_key_stops_before_any_work(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--candidate", f"a={world / 'a.safetensors'}", "--out", tmp_path / "case"]
    assert run("attribute", world / "suspects", *options, "--sign", world / "key.pub") == 2
    assert "key.pub: found no private key, expected" in capsys.readouterr().err
    assert not (tmp_path / "case").exists()
    assert run("keygen", "--out", world / "key") == 2
    assert "keys are never overwritten" in capsys.readouterr().err


# ---- generators and folders


def test_generators_are_taken_as_given_or_where_they_were(world: Path, case: Path, tmp_path: Path) -> None:
    moved = replace(read_report(case), run=replace(read_report(case).run, generators={}, signer=None))
    write_report(moved, case)
    found = verify(case, world)
    assert found and all(f.holds is None for f in found)
    assert "candidate gen-a: found no file in report.json, expected its generator file" in words(found)
    assert "images[0].candidates[1]: was not rendered again, because the file of gen-b is not at hand" in words(found)
    given = {name: world / f"{name[-1]}.safetensors" for name in ("gen-a", "gen-b")}
    assert verify(case, world, candidates=given) == []
    swapped = words(verify(case, world, candidates=given | {"gen-a": world / "b.safetensors"}))
    assert f"candidate gen-a: found SHA-256 {read_report(case).candidates[1].sha256} at " in swapped
    assert run("verify", case, "--candidate", f"gen-a={tmp_path / 'none'}") == 1
    with pytest.raises(ValueError, match="--candidate: found x, expected a candidate of the report: gen-a, gen-b"):
        verify_case(case, {"x": world / "a.safetensors"})


def test_what_is_no_case_is_one_sentence(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", tmp_path) == 2
    assert "found no report.json and no manifest.json, expected a case directory" in capsys.readouterr().err
    assert run("verify", world / "case", "--manifest", "abc") == 2
    assert "--manifest: found 'abc', expected a SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"schema": "latentprint.report/1"}'])
def test_a_report_that_is_none_is_named(world: Path, case: Path, content: bytes) -> None:
    (case / "report.json").write_bytes(content)
    assert "; nothing that it says could be checked" in words(verify(case, world))


def test_a_case_without_a_calibration_holds(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "case"
    options = ["--candidate", f"a={world / 'a.safetensors'}", "--steps", 1, "--batch-size", 2, "--out", out]
    assert run("attribute", world / "suspects", *options) == 0
    assert verify(out, world) == []
    rewrite(out, lambda c: c["images"][0]["verdict"].update(code="SUPPORTS", candidate="a"))
    assert "images[0].verdict.code: found 'SUPPORTS', expected 'INCONCLUSIVE'" in words(verify(out, world))
    (out / "calibration.json").write_bytes((world / "cal.json").read_bytes())
    assert "calibration.json: found a calibration, expected none" in words(verify(out, world))


def test_keys_of_the_world_are_ed25519_files(world: Path) -> None:
    assert public_path(world / "key").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    with pytest.raises(ValueError, match="never overwritten"):
        write_key_pair(world / "key")

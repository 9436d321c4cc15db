"""What manifest.sig says of a case: signed by whom, and what was changed since."""

from pathlib import Path

from attribution.findings import Finding
from reports.manifest import MANIFEST, SIGNATURE
from reports.signing import holds, parse_signature


def check_signature(case: Path, public: str | None, signer: str | None) -> list[Finding]:
    """manifest.sig against the key that was given and the one that the report was signed for; [] for an unsigned case.

    public: the given public key; signer: the one that report.json names; both in hexadecimal, None where there is none.
    """
    path = case / SIGNATURE
    if not path.is_file():
        missing = _missing(public, signer)
        return [_wrong(missing)] if missing else []
    try:
        signature = parse_signature(path.read_bytes())
    except ValueError as error:
        return [_wrong(str(error))]
    by, manifest = signature.key, case / MANIFEST
    if not holds(signature.signature, by, manifest.read_bytes() if manifest.is_file() else b""):
        return [
            _wrong(
                f"found a signature by {by} of other bytes, expected one of this {MANIFEST}: "
                "one of the two was changed after signing"
            )
        ]
    found = f"found a valid signature by {by}"
    if by != signer:
        named = f"one by {signer}, which report.json names" if signer else "none: report.json names no signer"
        return [_wrong(f"{found}, expected {named}: the report was signed again with another key")]
    if public is None:
        return [Finding(SIGNATURE, None, f"{SIGNATURE}: {found}, expected --key to tell whether it is the examiner's")]
    if by != public:
        known = f"expected one by the key that was given, {public}"
        return [
            _wrong(f"{found}, which report.json names too, {known}: it is the wrong key, or another signer's report")
        ]
    return [Finding(SIGNATURE, True, f"signs this {MANIFEST} with the key that was given, {public}")]


def _missing(public: str | None, signer: str | None) -> str | None:
    """Why there should be a signature, None where there need be none."""
    if signer:
        return (
            f"found no such file, expected a signature by {signer}, which report.json names: the signature was removed"
        )
    if public:
        return f"found no such file, expected a signature by {public}: report.json names no signer, it was never signed"
    return None


def _wrong(sentence: str) -> Finding:
    return Finding(SIGNATURE, False, f"{SIGNATURE}: {sentence}")

"""What a C2PA manifest inside a file says and whether it fits the file, read by c2pa-python (the extra `c2pa`).

No network: neither manifests nor certificates are fetched, and no list of trusted signers is known here. So a sound
signature says that nobody changed the file since, not who signed it.
"""

import io
import json
from typing import Any

_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_MIME = {"MPO": "image/jpeg"}
_MOST = 20
_LONGEST_TEXT = 200


def read_manifest(data: bytes, file_format: str) -> dict[str, Any] | None:
    """The active manifest of an image file, None without the extra. Raises whatever c2pa does.

    state: "Valid", "Invalid" or "Trusted"; failures: codes of the C2PA specification; source_types: what the recorded
    actions say of the pixels' origin. Texts are the file's own, cut to 200 characters.
    """
    try:
        import c2pa
    except ImportError:
        return None
    mime = _MIME.get(file_format, f"image/{file_format.lower()}")
    with (
        c2pa.Context(c2pa.Settings.from_dict(_OFFLINE)) as context,
        c2pa.Reader(mime, io.BytesIO(data), context=context) as reader,
    ):
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or [{"name": manifest.get("claim_generator")}]
    return {
        "state": _text(store.get("validation_state")),
        "failures": [_text(status.get("code")) for status in store.get("validation_status", [])[:_MOST]],
        "claim_generator": _text(generators[0].get("name")),
        "issuer": _text(signature.get("issuer")),
        "signed": _text(signature.get("time")),
        "source_types": _source_types(manifest.get("assertions", [])),
    }


def _source_types(assertions: list[dict[str, Any]]) -> list[str | None]:
    found = []
    for assertion in assertions:
        if str(assertion.get("label")).startswith("c2pa.actions"):
            actions = assertion["data"].get("actions", [])
            found += [_text(a["digitalSourceType"]) for a in actions if "digitalSourceType" in a]
    return list(dict.fromkeys(found))[:_MOST]


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return value[:_LONGEST_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")

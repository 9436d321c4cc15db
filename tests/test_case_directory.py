"""A case directory's names: whatever candidates are called, every projection keeps its own files."""

from hypothesis import given
from hypothesis import strategies as st

from attribution.case_directory import NAME, evidence_paths, require_names

KEYS = ("0" * 64, "f" * 64)
NAMES = st.one_of(
    st.from_regex(NAME, fullmatch=True),
    st.lists(
        st.sampled_from(["target", "-16", "x", "X", ".difference", ".resynthesis", ".png", ".safetensors", "."]),
        min_size=1,
        max_size=4,
    ).map("".join),
)


def accepted(names: list[str]) -> bool:
    try:
        require_names(names)
    except ValueError:
        return False
    return True


@given(st.lists(NAMES, min_size=2, max_size=4).filter(accepted), st.sampled_from([16, 64]))
def test_no_two_projections_share_a_file_even_where_case_is_ignored(names, resolution):
    targets = {key: evidence_paths(key, names[0], resolution)["target"] for key in KEYS}
    own: list[str] = []
    for key in KEYS:
        for name in names:
            paths = evidence_paths(key, name, resolution)
            assert paths.pop("target") == targets[key]
            own += paths.values()
    files = [path.lower() for path in (*own, *targets.values())]
    assert len(set(files)) == len(files) == len(KEYS) * (3 * len(names) + 1)
    assert all(len(path.split("/")) == 2 and len(path.split("/")[1]) < 200 for path in files)

"""The importer against files that mean harm: nothing in them runs, and each is refused quickly, in one sentence."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.importers import import_checkpoint, inspect_checkpoint
from generator.importers.inert_pickle import read_pickle
from tests.hostile_checkpoints import CORPUS
from tests.hostile_checkpoints.calls import CALLEES, OPCODES
from tests.hostile_checkpoints.fuzzing import PROGRAM, mutated
from tests.hostile_checkpoints.opcodes import STOP
from tests.hostile_checkpoints.reading import faults, message_of, warm_up
from tests.hostile_checkpoints.watching import watched

ROOT = Path(__file__).parent.parent
COSTLY = [name for name, case in CORPUS.items() if case.costly]
pytestmark = pytest.mark.timeout(300, method="thread")  # no signal reaches a loop within the interpreter


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    warm_up(tmp_path_factory.mktemp("warm"))


def test_the_corpus_is_large():
    assert len(CORPUS) >= 70


@pytest.mark.parametrize("name", [name for name in CORPUS if name not in COSTLY])
def test_is_refused_and_runs_nothing(name, tmp_path):
    found = faults(CORPUS[name], tmp_path / "checkpoint")
    assert not found, "\n".join(found)


NOTED = (
    "zips: a wrong checksum",
    "zips: a valid pickle before",
    "zips: an archive before a pickle",
    "malformed: trailing",
)


@pytest.mark.parametrize("name", [name for name in CORPUS if name.startswith(NOTED)])
def test_what_is_left_unread_or_does_not_agree_is_noted(name, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(CORPUS[name].build(tmp_path / "canary"))
    said = " ".join(inspect_checkpoint(path).notes)
    assert "checksum" in said if "checksum" in name else "follow the end of the checkpoint" in said


def test_takes_little_memory_and_never_ends_the_interpreter(tmp_path):
    """In a process of its own: it begins again after the file that ends it."""
    wrong: dict[str, list[str]] = {}
    names = list(COSTLY)
    while names:
        command = [sys.executable, "-m", "tests.hostile_checkpoints.reading", str(tmp_path), *names]
        with open(tmp_path / "log", "w+") as log:
            ended: int | str
            try:
                ended = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=250).returncode
            except subprocess.TimeoutExpired:
                ended = "no end within four minutes"
            log.seek(0)
            said = log.read().splitlines()
        lines = [json.loads(line) for line in said if line.startswith('{"name"')]
        done = {line["name"]: line["faults"] for line in lines if "faults" in line}
        wrong |= {name: found for name, found in done.items() if found}
        if ended == 0:
            assert done.keys() == set(names)
            break
        assert lines, said[-3:]
        wrong[lines[-1]["name"]] = [f"ended the interpreter ({ended}): {said[-1][:300]}"]
        names = names[names.index(lines[-1]["name"]) + 1 :]
    assert wrong == {}


RUNNABLE: dict[str, Callable[[Path], bytes]] = {
    **{name: OPCODES[name] for name in ("REDUCE", "REDUCE of STACK_GLOBAL", "INST", "OBJ")},
    **{name: CALLEES[name] for name in ("eval", "exec", "open", "getattr", "importlib", "runpy", "functools.partial")},
    **{name: CALLEES[name] for name in ("timeit", "pickle.loads", "logging.FileHandler", "subprocess.check_output")},
}


def test_the_payloads_would_run(tmp_path):
    """Python's own reader runs them: that ours does not is no property of theirs."""
    folder = tmp_path / "pickles"
    folder.mkdir()
    for number, build in enumerate(RUNNABLE.values()):
        (folder / f"{number}").write_bytes(b"\x80\x04" + build(tmp_path / f"canary-{number}") + STOP)
    program = """if True:
        import pathlib, pickle, subprocess, sys
        for path in pathlib.Path(sys.argv[1]).iterdir():
            value = pickle.loads(path.read_bytes())
            if isinstance(value, subprocess.Popen):
                value.wait()"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(folder)], check=True, capture_output=True)
    assert [name for i, name in enumerate(RUNNABLE) if not (tmp_path / f"canary-{i}").exists()] == []


def test_what_the_watch_sees(tmp_path):
    with watched() as events:
        eval("1")
        pickle.loads(pickle.dumps(Path, protocol=2))
        (tmp_path / "written").write_text("")
        (tmp_path / "written").read_text()
    assert [event.split()[0] for event in events] == ["compile", "exec", "pickle.find_class", "open"]


# ---------------------------------------------------------------- anything at all


def only_refuses(read: Callable[[], Any]) -> str | None:
    """The message of a ValueError itself, not of a kind of it that some library raised; any other error passes."""
    try:
        read()
    except ValueError as error:
        assert type(error) is ValueError
        return str(error)
    return None


@given(data=st.one_of(st.binary(max_size=200), PROGRAM))
@settings(max_examples=150)
def test_any_bytes_are_read_as_a_pickle_or_refused(data):
    only_refuses(lambda: read_pickle(data))


@given(data=st.one_of(st.binary(max_size=200), PROGRAM, mutated(), mutated(), mutated()))
@settings(max_examples=150)
def test_any_file_is_imported_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(data)
    with watched() as events:
        message = message_of(import_checkpoint, path)
    assert events == []
    assert message is None or (message.startswith(f"{path}: ") and len(message) < 1_000 and message.isprintable())


# ---------------------------------------------------------------- plain values

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.just(2**500)
)
KEYS = st.one_of(st.booleans(), st.integers(-(2**59), 2**59), st.text(), st.binary(), st.tuples(st.integers(0, 9)))
VALUES = st.recursive(
    st.one_of(SCALARS, st.binary().map(bytearray), st.sets(KEYS, max_size=3), st.frozensets(KEYS, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        inner.map(lambda value: [value, (value, value), {"shared": value}]),
    ),
    max_leaves=12,
)
ARGUMENTS_OF_A_CALL = {"set": set, "frozenset": frozenset, "bytearray": bytearray, "bytes": bytes}


def plain(value: Any) -> Any:
    """The value with the calls made that old protocols write bytes and sets as."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind(plain(item) for item in value)
    if kind is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if kind is memoryview:
        return bytes(value)
    if kind.__name__ != "Call":
        return value
    named = (value.callee.module, value.callee.name)
    arguments = [plain(item) for item in value.args]
    assert not (value.kwargs or value.state or value.items or value.entries)
    if named == ("_codecs", "encode"):
        text, encoding = arguments
        assert encoding == "latin1"
        return text.encode("latin-1")
    assert named[0] in ("builtins", "__builtin__") and named[1] in ARGUMENTS_OF_A_CALL, named
    if named[1] == "bytearray" and len(arguments) == 2:
        return bytearray(arguments[0].encode(arguments[1]))
    return ARGUMENTS_OF_A_CALL[named[1]](*arguments)


def alike(found: Any, expected: Any) -> bool:
    """Equal, of the same types all through; BYTEARRAY8 alone comes back as bytes."""
    if type(expected) is bytearray and type(found) is bytes:
        return found == expected
    if type(found) is not type(expected):
        return False
    if type(expected) in (list, tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if type(expected) is dict:
        return list(found) == list(expected) and all(map(alike, found.values(), expected.values()))
    return found == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(value=VALUES)
@settings(max_examples=25)
def test_plain_values_come_back(protocol, value):
    data = pickle.dumps(value, protocol)
    read = read_pickle(data)
    assert read.end == len(data)
    assert alike(plain(read.value), value)


def test_what_is_shared_and_what_holds_itself_stays_so():
    once: list[Any] = ["once"]
    once.append(once)
    found = read_pickle(pickle.dumps((once, once))).value
    assert found[0] is found[1] and found[0][1] is found[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sets_and_bytes_of_old_protocols_are_calls(protocol):
    found = read_pickle(pickle.dumps([{1}, b"\xe9", frozenset([2])], protocol)).value
    if protocol >= 4:
        assert found == [{1}, b"\xe9", frozenset([2])]
        return
    module = "__builtin__" if protocol < 3 else "builtins"
    sets = [(call.callee.module, call.callee.name, call.args) for call in (found[0], found[2])]
    assert sets == [(module, "set", ([1],)), (module, "frozenset", ([2],))]
    if protocol < 3:
        assert (found[1].callee.module, found[1].callee.name) == ("_codecs", "encode")
        assert found[1].args == ("é", "latin1")
    else:
        assert found[1] == b"\xe9"

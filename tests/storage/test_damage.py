"""Files that are not ours, not whole, or changed: an error that says what is wrong, never a wrong figure."""

import dataclasses
import json
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.storage.test_round_trip import assert_equal, plain
from trainobs.errors import UnreadableFile
from trainobs.recording import Recording
from trainobs.storage._archive import write_archive
from trainobs.storage._packing import Packing


@pytest.fixture
def path(recording, tmp_path):
    """A file that is whole."""
    recording.save(tmp_path / "run.safetensors")
    return tmp_path / "run.safetensors"


def is_refused_or_equal(path, recording) -> bool:
    """Whether a file gives an error of ours, or what was saved; anything else fails."""
    try:
        loaded = Recording.load(path)
    except UnreadableFile:
        return True
    for before, after in zip(recording, loaded, strict=True):
        assert_equal(plain(before), plain(after))
    return False


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit(seed, path, recording):
    """Anywhere in the file; half of them in its first tenth, where its structure is."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    at = int(rng.integers(len(content) // (10 if seed % 2 else 1)))
    content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    is_refused_or_equal(path, recording)


def test_a_flipped_bit_of_the_values_is_always_seen(path, recording):
    """The last thousand bytes are values."""
    whole = path.read_bytes()
    for at in range(len(whole) - 1000, len(whole), 37):
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert is_refused_or_equal(path, recording)


@pytest.mark.parametrize("part", [0, 1e-9, 0.001, 0.1, 0.5, 0.9, 0.999999])
def test_a_file_cut_short(part, path, recording):
    """From empty to all but its last bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: min(int(np.ceil(part * len(content))), len(content) - 1)])
    assert is_refused_or_equal(path, recording)


HEADERS = {
    "nothing": b"",
    "text": b"these are no tensors",
    "a longer header than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 8) + b"{{{{{{{{",
    "deep JSON": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a list": struct.pack("<Q", 2) + b"[]",
    "no metadata": struct.pack("<Q", 2) + b"{}",
}
SHAPES = {
    "a shape of 10**18": {"dtype": "F32", "shape": [10**18], "data_offsets": [0, 4]},
    "a negative shape": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
    "an unknown type": {"dtype": "F7", "shape": [1], "data_offsets": [0, 4]},
    "offsets beyond the file": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]},
}


def headers() -> dict[str, bytes]:
    """Twelve files with a header that is none."""
    made = dict(HEADERS)
    for name, tensor in SHAPES.items():
        text = json.dumps({"0": tensor}).encode()
        made[name] = struct.pack("<Q", len(text)) + text + b"\0" * 4
    return made


@pytest.mark.parametrize("name", headers())
def test_a_header_that_is_none(name, tmp_path):
    """Sizes are checked before memory is taken."""
    (tmp_path / "run.safetensors").write_bytes(headers()[name])
    tracemalloc.start()
    with pytest.raises(UnreadableFile, match=r"run\.safetensors"):
        Recording.load(tmp_path / "run.safetensors")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_another_file_is_refused(tmp_path):
    """A safetensors file of something else is refused by its format."""
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UnreadableFile, match=r"none of this version.*received None"):
        Recording.load(tmp_path / "other.safetensors")


def test_no_file_and_a_folder(tmp_path):
    """What is missing is Python's own error."""
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        Recording.load(tmp_path / "nothing.safetensors")
    with pytest.raises(UnreadableFile, match="a folder or a device"):
        Recording.load(tmp_path)


# ---- files that are whole, by someone who knows the checksums ------------------------------------


def write(path, change) -> None:
    """Write the file anew, after a change of its contents, or of its arrays, with right checksums."""
    packing = Packing()
    contents = packing.of(Recording.load(path).records)
    contents = change(contents, packing.arrays) or contents
    write_archive(path, contents, packing.arrays)


def first_site(contents):
    """The fields of the first site of the first record."""
    fields = contents[0]["fields"]
    sites = fields["sites"]
    site = next(iter(sites["entries"].values())) if isinstance(sites, dict) else sites[0]
    return site["fields"]


def test_a_field_is_missing(path):
    """A file of an older version says which."""
    write(path, lambda contents, _: first_site(contents).pop("kernel") and None)
    with pytest.raises(UnreadableFile, match=r"lacks the fields \['kernel'\] of a Site"):
        Recording.load(path)


def test_a_field_too_much(path):
    """And so does one of a newer version."""
    write(path, lambda contents, _: first_site(contents).update(colour="red"))
    with pytest.raises(UnreadableFile, match=r"and has \['colour'\] besides"):
        Recording.load(path)


@pytest.mark.parametrize("value", ["seven", 7, None, [], {}, {"kind": "os.system", "fields": {}}, True])
def test_a_field_of_another_kind(path, value):
    """It says which field, and what was expected."""
    write(path, lambda contents, _: first_site(contents).update(kernel=value))
    with pytest.raises(UnreadableFile, match="kernel"):
        Recording.load(path)


def test_values_of_another_kind(path):
    """A record is not any other object that may stand in a file."""
    write(path, lambda contents, _: [contents[0]["fields"]["nodes"][0]])
    with pytest.raises(UnreadableFile, match=r"recording must be"):
        Recording.load(path)


def test_an_op_that_does_not_exist(path):
    """A spec is looked up by name, among those that there are."""

    def change(contents, _):
        site = first_site(contents)
        op = site["op"] if "op" in site else site["info"]["fields"]["op"]
        op["config"]["op"] = "os.system"

    write(path, change)
    with pytest.raises(UnreadableFile, match=r"os\.system"):
        Recording.load(path)


@pytest.mark.parametrize("node", [-2, 10**6])
def test_a_node_out_of_range(path, node):
    """A walk would end in nothing."""

    def change(contents, _):
        site = first_site(contents)
        (site if "node" in site else site["info"]["fields"])["node"] = node

    write(path, change)
    with pytest.raises(UnreadableFile, match=f"is node {node}, and there are"):
        Recording.load(path)


def test_shapes_that_do_not_belong_together(recordings, tmp_path):
    """A gradient of another shape than its kernel would be broadcast in silence."""
    record = recordings["tensors"].at(0)
    cut = dataclasses.replace(record.sites[0], kernel_gradient=record.sites[0].kernel_gradient[..., :1])
    Recording((dataclasses.replace(record, sites=(cut, *record.sites[1:])),)).save(tmp_path / "run")
    with pytest.raises(UnreadableFile, match="`kernel_gradient` of .* has the shape"):
        Recording.load(tmp_path / "run")


def test_a_sum_of_another_shape(recordings, tmp_path):
    """The sums of a kernel have its axes."""
    record = recordings["statistics"].at(0)
    name, site = next(iter(record.sites.items()))
    cut = dataclasses.replace(site, sums=site.sums | {"gradient": site.sums["gradient"][..., :2]})
    sites = record.sites | {name: cut}
    Recording((dataclasses.replace(record, sites=sites),)).save(tmp_path / "run")
    with pytest.raises(UnreadableFile, match="the sum 'gradient' of .* has the shape"):
        Recording.load(tmp_path / "run")


def test_deep_contents(path):
    """Python's own recursion ends before its stack does."""

    def change(contents, _):
        deep = []
        for _ in range(900):
            deep = [deep]
        return [*contents, deep]

    write(path, change)
    with pytest.raises(UnreadableFile):
        Recording.load(path)


def test_the_arrays_are_no_secret(path):
    """The file is a plain safetensors file: any tool reads its arrays."""
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"].startswith("trainobs-recording-")
        assert "contents" in file.keys()  # noqa: SIM118 (not a dict)
